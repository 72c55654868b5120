"""Numbers in sentences.

Here, because every room that speaks to people counts things; what is counted is no matter of this
module, and no rule depends on it.
"""

from __future__ import annotations


def counted(count: int, thing: str) -> str:
    """Write a number of things: `1 ban`, `2,000 bans`."""
    return f"{count:,} {thing}{'s' * (count != 1)}"
