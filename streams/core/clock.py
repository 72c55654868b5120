"""Deadline arithmetic and the local calendar.

What lives here: from facts and rules to a deadline, and from an instant to a local day or week.
What must not: state, timers, or whether a violation stands (`orders`).

An instant from `NEVER_MS` on is never reached: no timer is set for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from streams.core.events import ExemptionGranted, Scope, ShippingMode
from streams.core.policy import DeadlineRule, KindRules

# 9999-01-01T00:00:00Z. Calendars end with that year, and "for ever" is written within it.
NEVER_MS = 253_370_764_800_000
# Later than every instant: the frontier of a log that has been read to its end for good.
END_OF_TIME_MS = 2**62

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
# Nearly all days begin and end at a multiple of 15 minutes of UTC; a slot that spans two local days
# (clocks set back just after midnight) is not remembered.
_SLOT_MS = 900_000
_SLOTS_MAX = 50_000


# A running clock: when it started and the deadline before any exemption. A plain tuple: one is
# made whenever an order is judged.
Clock = tuple[int, int]


class Subject(NamedTuple):
    """What an exemption's scope is tested against."""

    order_id: str
    shop_id: str
    region: str | None
    ship_from_region: str | None
    shipping_mode: ShippingMode
    paid_at: int


def running_clock(
    rule: DeadlineRule | None, placed_at: int, promised_ship_by: int | None, uploaded_at: int | None
) -> Clock | None:
    """Start an order's clock under one rule; `None` while it has no start."""
    if rule is None:
        return None
    if rule.start == "placed":
        return placed_at, placed_at + rule.limit
    if rule.start == "uploaded":
        return None if uploaded_at is None else (uploaded_at, uploaded_at + rule.limit)
    return None if promised_ship_by is None else (placed_at, promised_ship_by + rule.limit)


def covers(exemption: ExemptionGranted, kind: str, subject: Subject, deadline: int) -> bool:
    """Tell whether an exemption applies to one kind of one order.

    Args:
        deadline: The deadline before any exemption.
    """
    return (not exemption.kinds or kind in exemption.kinds) and _in_scope(
        exemption.scope, subject, deadline
    )


def _in_scope(scope: Scope, subject: Subject, deadline: int) -> bool:
    return reaches(scope, subject) and _within(scope.deadline_from, deadline, scope.deadline_until)


def reaches(scope: Scope, subject: Subject) -> bool:
    """Tell whether a scope covers an order at some deadline."""
    return (
        _member(scope.order_ids, subject.order_id)
        and _member(scope.shop_ids, subject.shop_id)
        and _member(scope.regions, subject.region)
        and _member(scope.ship_from_regions, subject.ship_from_region)
        and _member(scope.shipping_modes, subject.shipping_mode)
        and _within(scope.paid_from, subject.paid_at, scope.paid_until)
    )


def _member(allowed: Iterable[str] | None, value: str | None) -> bool:
    return allowed is None or (value is not None and value in allowed)


def _within(first: int | None, value: int, last: int | None) -> bool:
    return (first is None or first <= value) and (last is None or value <= last)


def exempted_deadline(deadline: int, exemptions: Iterable[ExemptionGranted]) -> int | None:
    """Apply the exemptions that cover an order, in (granted_at, exemption_id) order.

    Returns:
        The deadline that holds, or `None` where the violation is waived.
    """
    for exemption in exemptions:
        effect = exemption.effect
        if effect.waive:
            return None
        if effect.extend_to is not None:
            deadline = max(deadline, effect.extend_to)
        elif effect.extend_by is not None:
            deadline += effect.extend_by
    return deadline


def occurrence_due(rules: KindRules, deadline: int, occurrence: int) -> int:
    """Instant at which the n-th determination of a kind is due (n from 1)."""
    return deadline + (occurrence - 1) * rules.repeat_every


def stop_instant(
    rules: KindRules, uploaded_at: int | None, scanned_at: int | None, closed_at: int | None
) -> int:
    """Earliest fact that stops a kind; what is due after it does not hold. Equality is late."""
    stop = END_OF_TIME_MS
    stopped_by = rules.stopped_by
    if scanned_at is not None and "first-scan" in stopped_by:
        stop = scanned_at
    if closed_at is not None and closed_at < stop and "order-closed" in stopped_by:
        stop = closed_at
    if uploaded_at is not None and uploaded_at < stop and "tracking-number-uploaded" in stopped_by:
        stop = uploaded_at
    return stop


class LocalDay(NamedTuple):
    """A local day: `YYYY-MM-DD`, and the instants at which it and its week (Monday) began."""

    name: str
    start: int
    week_start: int


class Calendar:
    """Local days and weeks of one time zone."""

    def __init__(self, time_zone: str) -> None:
        self._zone = ZoneInfo(time_zone)
        # A judged log dwells on few days: remembering a slot's day saves most of the arithmetic.
        self._slots: dict[int, LocalDay] = {}
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
            )
            last = self._local((slot + 1) * _SLOT_MS - 1)
            if local.date() == last.date() == self._local(slot * _SLOT_MS).date():
                if len(self._slots) >= _SLOTS_MAX:
                    self._slots.clear()
                self._slots[slot] = found
        return found

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
