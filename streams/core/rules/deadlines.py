"""From an order's facts and a deadline rule to a running clock.

What lives here: when a clock starts, and the five forms of a deadline, each as `deadline_at` and as
a `Piece` of it around one start. What must not: what moves a deadline (`exemptions`), what stops a
clock (`stops`), state.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from streams.core.facts.instants import END_OF_TIME_MS, NEVER_MS
from streams.core.rules.policy import Deadline, WorkWeek
from streams.core.time.calendar import Calendar

# A week without a working day, and years of holidays: no rule means that.
_SEARCH_DAYS_MAX = 3_660


class Piece(NamedTuple):
    """A deadline near one start: for `begin <= start < end` it is `value`, or start + `value`."""

    begin: int
    end: int
    moves: bool
    value: int


class Day(NamedTuple):
    """A local date and why it counts as a working day, or does not."""

    ordinal: int
    works: bool
    why: str


class Clock:
    """The deadlines of one policy: its time zone and its working days."""

    def __init__(self, time_zone: str, week: WorkWeek) -> None:
        self.calendar = Calendar(time_zone)
        self._week = week
        self._off = frozenset((*week.holiday_ordinals, *week.days_off))
        self._holidays = frozenset(week.holiday_ordinals)
        self._make_up = frozenset(week.make_up_days)

    def deadline_at(self, rule: Deadline, start: int) -> int:
        """Return the deadline for a start; `NEVER_MS` if it lies beyond all calendars."""
        form, amount = rule.form, rule.amount
        if form == "elapsed":
            return start + amount
        if form == "instant":
            return amount
        if not 0 <= start < NEVER_MS:
            return NEVER_MS
        if form == "end-of-day":
            return self.calendar.midnight(self.calendar.local_day(start).ordinal + 1) + amount
        return self._end_of(self._last_day(rule, start))

    def piece(self, rule: Deadline, start: int) -> Piece:
        """Return the deadline around a start."""
        if rule.form == "elapsed":
            return Piece(-END_OF_TIME_MS, END_OF_TIME_MS, True, rule.amount)
        if rule.form == "instant":
            return Piece(-END_OF_TIME_MS, END_OF_TIME_MS, False, rule.amount)
        value = self.deadline_at(rule, start)
        if not 0 <= start < NEVER_MS:
            return Piece(start, start + 1, False, value)
        day = self.calendar.whole_day(start)
        if day is None:
            # Some wall times come twice, or never.
            return Piece(start, start + 1, False, value)
        begin, end = day
        cut_off = self._week.cut_off
        if rule.form == "working-days" and cut_off is not None:
            if start - begin >= cut_off:
                begin += cut_off
            else:
                end = begin + cut_off
        return Piece(begin, end, False, value)

    def _last_day(self, rule: Deadline, start: int) -> int | None:
        """Find the date at whose end a deadline of days is; `None` if there is none."""
        first = self.calendar.local_day(start).ordinal
        if rule.form == "calendar-days":
            return first + rule.amount
        for day in self.counted_days(rule, start):
            if day is None:
                return None
            last = day
        return last.ordinal

    def counted_days(self, rule: Deadline, start: int) -> Iterator[Day | None]:
        """Go through the dates that a deadline in working days looks at, the last one included.

        Yields `None`, once, if there are not enough working days.
        """
        day = self.counts_from(start)
        left = rule.amount
        if left == 0:
            left, day = 1, day - 1
        for ordinal in range(day + 1, day + 1 + _SEARCH_DAYS_MAX):
            if ordinal > _LAST_ORDINAL:
                break
            found = self._day(ordinal)
            yield found
            left -= found.works
            if not left:
                return
        yield None

    def counts_from(self, start: int) -> int:
        """Return the date that a start counts for: its own, or the next from the cut-off on."""
        ordinal = self.calendar.local_day(start).ordinal
        cut_off = self._week.cut_off
        return ordinal + (cut_off is not None and self.calendar.time_of_day(start) >= cut_off)

    def _day(self, ordinal: int) -> Day:
        if ordinal in self._make_up:
            return Day(ordinal, True, "make-up day")
        if ordinal in self._off:
            return Day(ordinal, False, "holiday" if ordinal in self._holidays else "day off")
        if (ordinal + 6) % 7 in self._week.weekend:
            return Day(ordinal, False, "weekend")
        return Day(ordinal, True, "working day")

    def _end_of(self, ordinal: int | None) -> int:
        if ordinal is None or ordinal >= _LAST_ORDINAL:
            return NEVER_MS
        return min(self.calendar.midnight(ordinal + 1), NEVER_MS)


_LAST_ORDINAL = date(9998, 12, 31).toordinal()


def start_of(
    rule: Deadline, placed_at: int, paid_at: int, promised: int | None, agreed: int | None,
    uploaded_at: int | None,
) -> int | None:  # fmt: skip
    """Return the instant a clock's deadline counts from; `None` while that fact is not known."""
    start = rule.start
    if start == "placed":
        return placed_at
    if start == "uploaded":
        return uploaded_at
    if start == "promised":
        return promised
    return agreed if start == "agreed" else paid_at
