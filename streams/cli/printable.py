"""Text from events, safe to print: whoever sends an event must not command a terminal."""

from __future__ import annotations

import re

# Control characters, those that reorder or break lines unseen, and halves of surrogate pairs.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def printable(text: str) -> str:
    r"""Write unsafe characters as JSON does: an escape becomes `\u001b`."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable_json(line: bytes) -> bytes:
    """Write a line of JSON without unsafe characters; it means what it meant.

    JSON escapes the lowest control characters itself; the others stand in strings only.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return printable(line.decode()).encode()
