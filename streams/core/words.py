"""Numbers and names in sentences.

Here, because every room that speaks to people counts and quotes things; what they are is no matter
of this module, and no rule depends on it.
"""

from __future__ import annotations

_NAME_LENGTH_MAX = 60


def counted(count: int, thing: str) -> str:
    """Write a number of things: `1 ban`, `2,000 bans`."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def shortened(name: str) -> str:
    """Cut a name from outside, which is as long as somebody made it, to what fits a line."""
    return name if len(name) <= _NAME_LENGTH_MAX else name[:_NAME_LENGTH_MAX] + "…"
