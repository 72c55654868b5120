"""When a shop has so much against it that a sanction is in force.

What lives here: what each sanction counts, over which days, and until when it lasts. What must not:
what was told of it before (`shop`, `shops`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streams.core.accounts.violation import Violation
from streams.core.facts.instants import NEVER_MS
from streams.core.rules.book import Version
from streams.core.rules.policy import DAY_MS, Sanction
from streams.core.time.calendar import Calendar, first_day, next_span

BAN = "product-ban"


class Force(NamedTuple):
    """A sanction in force: the violation that brought it about, and when it ends by itself."""

    violation: Violation
    until: int


def reach_days(sanction: Sanction) -> int:
    """Return how many local days before today may matter to a sanction of a shop, at most."""
    window = sanction.days if sanction.span == "rolling" else _LONGEST_DAYS[sanction.span]
    return window + (0 if sanction.lasts is None else sanction.lasts // DAY_MS + 1)


_LONGEST_DAYS = {"day": 1, "week": 7, "month": 31, "quarter": 92}


def exceeding(sanction: Sanction, violations: Sequence[Violation]) -> Violation | None:
    """Return the violation of an order that exceeds what a sanction allows one order."""
    counted = [each for each in violations if each.counts and each.kind in sanction.counts]
    if len(counted) <= sanction.more_than:
        return None
    return sorted(counted, key=_judging_order)[sanction.more_than]


def force_of_order(sanction: Sanction, violation: Violation, now: int) -> Force | None:
    """Tell whether a sanction that an order has brought about is in force at an instant."""
    until = NEVER_MS if sanction.lasts is None else violation.determined_at + sanction.lasts
    return Force(violation, until) if now < until else None


def force_of_shop(
    sanction: Sanction, version: Version, violations: Sequence[Violation], now: int
) -> Force | None:
    """Tell whether a sanction of a shop, or of its account, is in force at an instant.

    It comes into force with the violation that exceeds what it allows. It ends when the days it
    counts hold no more than that, or as long after the last violation that exceeded as it lasts.

    Args:
        violations: What may count, in walk order; all of the version's platform.
    """
    calendar = version.clock.calendar
    entries = _entries(sanction, violations, calendar)
    by_day: dict[int, int] = {}
    cause: Violation | None = None
    ends = -1
    for day, weight, violation in entries:
        before = _total(sanction, by_day, day)
        by_day[day] = by_day.get(day, 0) + weight
        if before + weight <= sanction.more_than:
            continue
        if sanction.lasts is not None:
            if violation.determined_at >= ends:
                cause = violation
            ends = violation.determined_at + sanction.lasts
        elif before <= sanction.more_than:
            cause = violation
    if cause is None:
        return None
    if sanction.lasts is None:
        ends = _lifted_at(sanction, by_day, calendar.local_day(now).ordinal, calendar)
    return Force(cause, ends) if now < ends else None


def _entries(
    sanction: Sanction, violations: Sequence[Violation], calendar: Calendar
) -> list[tuple[int, int, Violation]]:
    """Give each violation that counts its local day and what it weighs."""
    entries = []
    for violation in violations:
        if not violation.counts or violation.kind not in sanction.counts:
            continue
        weight = 1
        if sanction.of == "account":
            charge = violation.charges.get(sanction.account)
            weight = 0 if charge is None else charge.allocated
        entries.append((calendar.local_day(violation.determined_at).ordinal, weight, violation))
    return entries


def _total(sanction: Sanction, by_day: dict[int, int], day: int) -> int:
    first = first_day(sanction.span, day, sanction.days)
    return sum(by_day.get(each, 0) for each in range(first, day + 1))


def _lifted_at(
    sanction: Sanction, by_day: dict[int, int], today: int, calendar: Calendar
) -> int:
    """Return when the days counted hold no more than is allowed, if nothing is added; 0: now."""
    if _total(sanction, by_day, today) <= sanction.more_than:
        return 0
    if sanction.span != "rolling":
        return calendar.midnight(next_span(sanction.span, today))
    day = today + 1
    while _total(sanction, by_day, day) > sanction.more_than:
        day += 1
    return calendar.midnight(day)


def _judging_order(violation: Violation) -> tuple[int, int]:
    return violation.determined_at, violation.occurrence
