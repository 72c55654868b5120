"""What each standing violation of a shop costs under the caps of its accounts.

What lives here: the caps, as one walk over the shop's standing violations in (determined_at,
violation_id) order. What must not: what has been booked already, and when a booking takes effect
(`shops`).

A charge that would exceed a cap of its own version is not made at all, is not carried over, and
uses none of its order's charges. Totals are shared by the versions of a platform.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streams.core.accounts.amounts import charge_of
from streams.core.accounts.violation import Charge, Violation
from streams.core.rules.book import Version
from streams.core.rules.policy import Account, Cap
from streams.core.time.calendar import first_day

# What is counted apart: platform, account, unit, kind.
_Total = tuple[str, str, str, str]


class Claim(NamedTuple):
    """What a violation would cost on an account, and the cap that forbids it, with what it left."""

    account: Account
    amount: int
    cap: Cap | None
    used: int


class Allocation:
    """Running totals of one shop's walk; feed it standing violations in order."""

    __slots__ = ("_by_day", "_by_order")

    def __init__(self) -> None:
        self._by_day: dict[_Total, dict[int, int]] = {}
        """Amounts by the ordinal of the local day."""
        self._by_order: dict[_Total, dict[str, int]] = {}
        """Charges by order."""

    def take(self, violation: Violation, version: Version) -> None:
        """Allocate the next violation by its version of the rules."""
        for charge in violation.charges.values():
            charge.allocated = 0
        for claim in self.claims(violation, version):
            if claim.cap is None:
                name = claim.account.name
                if name not in violation.charges:
                    violation.charges[name] = Charge()
                violation.charges[name].allocated = claim.amount
        self.count(violation, version)

    def claims(self, violation: Violation, version: Version) -> list[Claim]:
        """List what a violation would cost next, in the order of the accounts."""
        if violation.penalty_waived:
            return []
        found = []
        day = version.clock.calendar.local_day(violation.determined_at).ordinal
        when = violation.shop_level, violation.category
        for account in version.accounts(violation.kind):
            amount = charge_of(
                account.amount_for(when), violation.paid_amount, violation.goods_amount
            )
            if amount:
                cap, used = self._exceeded(violation, version, account, amount, day)
                found.append(Claim(account, amount, cap, used))
        return found

    def _exceeded(
        self, violation: Violation, version: Version, account: Account, amount: int, day: int
    ) -> tuple[Cap | None, int]:
        """Find the first cap that a charge would exceed, and what has been used of it."""
        platform = version.policy.platform
        for cap in account.caps_for((violation.shop_level, violation.category)):
            totals = [(platform, account.name, account.unit, kind) for kind in account.kinds]
            if cap.span == "order":
                used = sum(
                    self._by_order[total].get(violation.order_id, 0)
                    for total in totals
                    if total in self._by_order
                )
                if used + 1 > cap.limit:
                    return cap, used
                continue
            days = range(first_day(cap.span, day, cap.days), day + 1)
            used = sum(
                self._by_day[total].get(each, 0)
                for total in totals
                if total in self._by_day
                for each in days
            )
            if used + amount > cap.limit:
                return cap, used
        return None, 0

    def count(self, violation: Violation, version: Version, times: int = 1) -> None:
        """Count what a walk has allocated; `times` -1 takes it back."""
        day = version.clock.calendar.local_day(violation.determined_at).ordinal
        for account in version.accounts(violation.kind):
            charge = violation.charges.get(account.name)
            if charge is None or not charge.allocated:
                continue
            total = version.policy.platform, account.name, account.unit, violation.kind
            by_day = self._by_day.setdefault(total, {})
            by_day[day] = by_day.get(day, 0) + charge.allocated * times
            by_order = self._by_order.setdefault(total, {})
            by_order[violation.order_id] = by_order.get(violation.order_id, 0) + times


def users_of(
    cap: Cap, account: Account, violation: Violation, version: Version,
    before: Sequence[tuple[Violation, Version]],
) -> list[Violation]:  # fmt: skip
    """List the violations whose charges on an account count for the same cap as another's.

    Args:
        before: What stands before it in the walk, each with its version.
    """
    day = version.clock.calendar.local_day(violation.determined_at).ordinal
    first = 0 if cap.span == "order" else first_day(cap.span, day, cap.days)
    found = []
    for other, judged_by in before:
        charge = other.charges.get(account.name)
        if charge is None or not charge.allocated or other.kind not in account.kinds:
            continue
        if judged_by.policy.platform != version.policy.platform:
            continue
        other_day = judged_by.clock.calendar.local_day(other.determined_at).ordinal
        same_order = other.order_id == violation.order_id
        if same_order if cap.span == "order" else first <= other_day <= day:
            found.append(other)
    return found
