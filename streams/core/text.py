"""Text from files and events: what editors put at its start, and what is wrong with JSON.

Here, because rules and events are read in different rooms, and all take the same files.
"""

from __future__ import annotations

import codecs
import re

_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HALF_PAIR = re.compile(
    rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u[dD][c-fC-F])"
).search


class NotUtf8Error(ValueError):
    """A file's byte order mark says that it is in another encoding."""


def without_mark(start: bytes) -> bytes:
    """Take the byte order mark from the start of a file's content.

    Raises:
        NotUtf8Error: The mark is that of UTF-16, which nothing here reads.
    """
    if start.startswith(_OTHER_MARKS):
        raise NotUtf8Error("the byte order mark at its start says UTF-16; save it as UTF-8")
    return start.removeprefix(codecs.BOM_UTF8)


def json_mistake(text: bytes, error: Exception) -> str:
    """Say what is wrong with a text that the parser does not take for JSON."""
    if isinstance(error, RecursionError):
        return "JSON is nested too deeply"
    if half := _HALF_PAIR(text):
        # The parser takes what follows for the missing half, and finds too little of it.
        return f"{half[1].decode()} is half of a surrogate pair, not a text"
    return str(error)
