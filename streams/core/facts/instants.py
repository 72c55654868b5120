"""Instants in sentences: epoch milliseconds beside ISO 8601, and what a wrong number looks like.

Here, because details of dead letters, headers and errors all write instants, and in one way.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from streams.core.facts.events import TIME_MS_MAX

# 9999-01-01T00:00:00Z. Calendars end with that year, and "for ever" is written within it.
NEVER_MS = 253_370_764_800_000
# Later than every instant: the frontier of a log that has been read to its end for good.
END_OF_TIME_MS = 2**62

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Real orders lie between 2000 and 2100: a number that does so in another unit was meant in it.
_FIRST_MS, _LAST_MS = 946_684_800_000, 4_102_444_800_000
# A second and its parts, by how many of them a second has.
_UNITS = {"seconds": 1, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}


def format_instant(instant_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    minute, rest = divmod(instant_ms, 60_000)
    return f"{_format_minute(minute)}{rest // 1000:02}.{rest % 1000:03}Z"


@lru_cache(maxsize=4096)
def _format_minute(minute: int) -> str:
    return f"{_EPOCH + timedelta(minutes=minute):%Y-%m-%dT%H:%M:}"


def in_another_unit_ms(number: int) -> int | None:
    """Return what a number means that can only be an instant in another unit than milliseconds."""
    return next((meant_ms for _, meant_ms in _meanings(number)), None)


def _meanings(number: int) -> Iterator[tuple[str, int]]:
    for unit, a_second in _UNITS.items():
        meant_ms = number * 1000 // a_second
        if _FIRST_MS <= meant_ms < _LAST_MS:
            yield unit, meant_ms


def both_ways(number: int) -> str:
    """Write `1670315340000 (2022-12-06T08:29:00.000Z)`, or what the number looks like instead."""
    for unit, _ in _meanings(number):
        return f"{number} (these look like {unit}; times are epoch milliseconds)"
    if not 0 <= number <= TIME_MS_MAX:
        # A record's own timestamp may be any number.
        return str(number)
    return f"{number} ({format_instant(number)})"
