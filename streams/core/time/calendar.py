"""The local calendar of one time zone.

What lives here: from an instant to a local day, week or month, and to the midnights around it. What
must not: rules, such as which days are working days (`deadlines`).
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
# Nearly all days begin and end at a multiple of 15 minutes of UTC; a slot that spans two local days
# (clocks set back just after midnight) is not remembered.
_SLOT_MS = 900_000
_SLOTS_MAX = 50_000


class LocalDay(NamedTuple):
    """A local day: `YYYY-MM-DD`, and the instants at which it and its week (Monday) began."""

    name: str
    start: int
    week_start: int
    ordinal: int
    """The date (`date.toordinal`)."""


class Calendar:
    """Local days and weeks of one time zone."""

    def __init__(self, time_zone: str) -> None:
        self._zone = ZoneInfo(time_zone)
        # A judged log dwells on few days: remembering a slot's day saves most of the arithmetic.
        self._slots: dict[int, LocalDay] = {}
        self._midnights: dict[int, int] = {}
        self._next_days: dict[tuple[int, int], int] = {}

    def local_day(self, instant: int) -> LocalDay:
        """Find the local day an instant falls on."""
        slot = instant // _SLOT_MS
        found = self._slots.get(slot)
        if found is None:
            local = self._local(instant)
            found = LocalDay(
                local.date().isoformat(),
                self._midnight_ms(local),
                self._midnight_ms(local - timedelta(days=local.weekday())),
                local.toordinal(),
            )
            last = self._local((slot + 1) * _SLOT_MS - 1)
            if local.date() == last.date() == self._local(slot * _SLOT_MS).date():
                if len(self._slots) >= _SLOTS_MAX:
                    self._slots.clear()
                self._slots[slot] = found
        return found

    def midnight(self, ordinal: int) -> int:
        """Return when a local date begins (`date.toordinal`)."""
        found = self._midnights.get(ordinal)
        if found is None:
            found = self._midnight_ms(datetime.fromordinal(ordinal))
            if len(self._midnights) >= _SLOTS_MAX:
                self._midnights.clear()
            self._midnights[ordinal] = found
        return found

    def time_of_day(self, instant: int) -> int:
        """Return what a clock on the wall shows, in milliseconds after 00:00."""
        local = self._local(instant)
        return (local.replace(tzinfo=None) - datetime.combine(local.date(), time())) // _MS

    def whole_day(self, instant: int) -> tuple[int, int] | None:
        """Return begin and end of the local day around an instant; `None` where clocks shift."""
        ordinal = self.local_day(instant).ordinal
        begin, end = self.midnight(ordinal), self.midnight(ordinal + 1)
        if not begin <= instant < end:
            return None
        same = self._local(begin).utcoffset() == self._local(end - 1).utcoffset()
        return (begin, end) if same else None

    def _local(self, instant: int) -> datetime:
        return (_EPOCH + instant * _MS).astimezone(self._zone)

    def _midnight_ms(self, day: datetime, offset_ms: int = 0) -> int:
        """Epoch milliseconds of local wall time `offset_ms` after 00:00 of a local date."""
        wall = datetime.combine(day.date(), time()) + offset_ms * _MS
        return (wall.replace(tzinfo=self._zone).astimezone(UTC) - _EPOCH) // _MS

    def next_day_at(self, instant: int, time_of_day: int) -> int:
        """Find when a time of day (milliseconds after midnight) comes on the next local day."""
        day = self.local_day(instant)
        found = self._next_days.get((day.start, time_of_day))
        if found is None:
            found = self._midnight_ms(self._local(instant) + timedelta(days=1), time_of_day)
            if len(self._next_days) >= _SLOTS_MAX:
                self._next_days.clear()
            self._next_days[day.start, time_of_day] = found
        return found


Span = Literal["day", "week", "month", "quarter", "rolling"]
"""Local days that are counted together: a calendar span, or a day and those before it."""
_QUARTER_MONTHS = 3


def first_day(span: Span, day: int, days: int = 0) -> int:
    """Return the first day (`date.toordinal`) counted with a day.

    Args:
        days: How many days a rolling span has, the day itself the last.
    """
    if span == "day":
        return day
    if span == "week":
        return day - (day + 6) % 7
    if span == "rolling":
        return day - days + 1
    date = datetime.fromordinal(day)
    month = date.month
    if span == "quarter":
        month -= (month - 1) % _QUARTER_MONTHS
    return date.replace(month=month, day=1).toordinal()


def next_span(span: Span, day: int) -> int:
    """Return the first day (`date.toordinal`) after a day that a calendar span begins with."""
    after = day + 1
    while first_day(span, after) != after:
        after += 1
    return after


def longest_days(span: Span, days: int = 0) -> int:
    """Return how many days a span has, at most."""
    return days if span == "rolling" else _LONGEST_DAYS[span]


_LONGEST_DAYS = {"day": 1, "week": 7, "month": 31, "quarter": 92}
