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
from streams.core.rules.policy import BAN, Sanction
from streams.core.time.calendar import Calendar, first_day, next_span


class Force(NamedTuple):
    """A sanction in force: the violation that brought it about, and when it ends by itself."""

    violation: Violation
    until: int


def exceeding(sanction: Sanction, violations: Sequence[Violation]) -> Violation | None:
    """Return the violation of an order that exceeds what a sanction allows one order."""
    counted = [each for each in violations if each.counts and each.kind in sanction.counts]
    if len(counted) <= sanction.more_than:
        return None
    return sorted(counted, key=_judging_order)[sanction.more_than]


Judged = tuple[Violation, Version]
"""A violation and the version of the rules that it is judged by."""


def shop_actions(judged: Sequence[Judged], now: int) -> dict[tuple[str, str], Force]:
    """Find the actions on a shop that are in force at an instant, by platform and name.

    Each violation is held against the sanctions of its own version; those count the violations of
    all versions of its platform.

    Args:
        judged: The standing violations of the shop, in walk order.
    """
    by_platform: dict[str, list[Judged]] = {}
    for entry in judged:
        by_platform.setdefault(entry[1].policy.platform, []).append(entry)
    found: dict[tuple[str, str], Force] = {}
    for platform, entries in by_platform.items():
        for version in dict.fromkeys(version for _, version in entries):
            for sanction in version.policy.sanctions:
                if sanction.action == BAN:
                    continue
                force = _force(sanction, version, entries, now)
                known = found.get((platform, sanction.action))
                if force is not None and (known is None or known.until < force.until):
                    found[platform, sanction.action] = force
    return found


def _force(
    sanction: Sanction, version: Version, judged: Sequence[Judged], now: int
) -> Force | None:
    if sanction.of != "order":
        return _force_of_shop(sanction, version, judged, now)
    orders: dict[str, list[Violation]] = {}
    for violation, own in judged:
        if own is version:
            orders.setdefault(violation.order_id, []).append(violation)
    found: Force | None = None
    for violations in orders.values():
        cause = exceeding(sanction, violations)
        if cause is None:
            continue
        until = NEVER_MS if sanction.lasts is None else cause.determined_at + sanction.lasts
        if now < until and (found is None or found.until < until):
            found = Force(cause, until)
    return found


def _force_of_shop(
    sanction: Sanction, version: Version, judged: Sequence[Judged], now: int
) -> Force | None:
    """Tell whether a sanction of a shop, or of its account, is in force at an instant.

    It comes into force with the violation that exceeds what it allows. It ends when the days it
    counts hold no more than that, or as long after the last violation that exceeded as it lasts.
    """
    calendar = version.clock.calendar
    by_day: dict[int, int] = {}
    cause: Violation | None = None
    ends = -1
    for violation, own in judged:
        weight = _weight(sanction, violation)
        if not weight:
            continue
        day = calendar.local_day(violation.determined_at).ordinal
        before = _total(sanction, by_day, day)
        by_day[day] = by_day.get(day, 0) + weight
        if before + weight <= sanction.more_than or own is not version:
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


def _weight(sanction: Sanction, violation: Violation) -> int:
    """Return what a violation adds to what a sanction counts."""
    if not violation.counts or violation.kind not in sanction.counts:
        return 0
    if sanction.of != "account":
        return 1
    charge = violation.charges.get(sanction.account)
    return 0 if charge is None else charge.allocated


def _total(sanction: Sanction, by_day: dict[int, int], day: int) -> int:
    first = first_day(sanction.span, day, sanction.days)
    return sum(by_day.get(each, 0) for each in range(first, day + 1))


def _lifted_at(sanction: Sanction, by_day: dict[int, int], today: int, calendar: Calendar) -> int:
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


def counted_of(
    sanction: Sanction, version: Version, judged: Sequence[Judged], order_id: str, now: int
) -> list[tuple[Violation, int]]:
    """List what a sanction counts of an order, or of its shop over the days up to an instant.

    Returns:
        Each violation with what it adds.
    """
    calendar = version.clock.calendar
    today = calendar.local_day(now).ordinal
    first = 0 if sanction.of == "order" else first_day(sanction.span, today, sanction.days)
    return [
        (violation, weight)
        for violation, own in judged
        if own.policy.platform == version.policy.platform
        and (weight := _weight(sanction, violation))
        and (
            violation.order_id == order_id
            if sanction.of == "order"
            else first <= calendar.local_day(violation.determined_at).ordinal <= today
        )
    ]
