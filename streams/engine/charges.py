"""What a violation costs its shop, and why: the journal's entries, or the cap in the way."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from streams.core.accounts.shop import WALK_ORDER, Violation
from streams.core.facts.outputs import Penalty
from streams.core.rules.policy import DepositRules, PointsRules, Policy
from streams.core.time.calendar import Calendar
from streams.engine.evidence import Evidence

Status = Literal["charged", "capped", "settles", "waiting", "gone", "free", "none"]


class Charge(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One violation on one account of its shop.

    `charged`: it stands and is booked. `settles`: it will be, at `settles_at`. `capped`: of the
    `limit` an order, day or week has, `used` was used up before it. `waiting`: the account has not
    come to the violation, or to its end, yet. `gone`: the account came to it and has forgotten it
    since, and no entry of it is left. `free`: the rules that determined it kept no account.
    `none`: it does not stand and owes nothing.
    """

    account: Literal["points", "deposit"]
    balance: int
    """The sum of `entries`."""
    cap: Literal["order", "day", "week"] | None = None
    entries: list[Penalty]
    limit: int | None = None
    settles_at: int | None = None
    status: Status
    unit: str
    used: int | None = None


class ShopAccount:
    """The shop's standing violations, in the order its caps take them."""

    def __init__(self, evidence: Evidence, policy: Policy) -> None:
        self._penalties = evidence.penalties
        self._state = evidence.state
        self._forgotten = evidence.forgotten
        self._account_until_ms = evidence.account_until_ms
        self._policy = policy
        self._calendar = Calendar(policy.time_zone)
        standing = [one for one in evidence.violations.values() if one.standing]
        self._standing = sorted(standing, key=WALK_ORDER)

    def charges(self, violation_id: str, revision: int, *, standing: bool) -> list[Charge]:
        """Tell what a violation costs on each account, by the order's view of it."""
        entries = [one for one in self._penalties if one.violation_id == violation_id]
        if not revision and not entries:
            return []
        violation = next((one for one in self._standing if one.violation_id == violation_id), None)
        wanted = revision if standing else 0
        taken = violation.revision if violation is not None else 0
        charges = []
        for account, rules in (("points", self._policy.points), ("deposit", self._policy.deposit)):
            if rules is None:
                continue
            own = [one for one in entries if one.account == account]
            charge = Charge(
                account="points" if account == "points" else "deposit",
                balance=sum(entry.amount for entry in own),
                entries=own,
                status="none" if wanted == taken else self._untaken(entries),
                unit=rules.unit,
            )
            if violation is None and wanted and charge.balance:
                charge = replace(charge, status="charged")
            if violation is not None and wanted == taken:
                charge = self._standing_charge(charge, rules, violation)
            charges.append(charge)
        return charges

    def _untaken(self, entries: list[Penalty]) -> Status:
        """Say why the account does not have what stands."""
        if self._forgotten:
            return "gone" if self._account_until_ms else "waiting"
        told = self._state is None or self._state.told or entries
        return "waiting" if told else "free"

    def _standing_charge(
        self, charge: Charge, rules: PointsRules | DepositRules, violation: Violation
    ) -> Charge:
        if charge.balance:
            return replace(charge, status="charged")
        if isinstance(rules, PointsRules):
            return self._uncharged_points(charge, rules, violation)
        if violation.deposit:
            at = self._calendar.next_day_at(violation.determined_at, rules.settle_at)
            return replace(charge, status="settles", settles_at=at)
        return self._uncharged_deposit(charge, rules, violation)

    def _uncharged_points(self, charge: Charge, rules: PointsRules, violation: Violation) -> Charge:
        day = self._calendar.local_day(violation.determined_at)
        before = self._before(violation)
        today = sum(one.points for one in before if self._day(one) == day.start)
        if rules.daily_max is not None and today + rules.per_violation > rules.daily_max:
            return _capped(charge, "day", rules.daily_max, today)
        week = sum(one.points for one in before if self._day(one) >= day.week_start)
        return _capped(charge, "week", rules.weekly_max, week)

    def _uncharged_deposit(
        self, charge: Charge, rules: DepositRules, violation: Violation
    ) -> Charge:
        before = self._before(violation)
        of_order = sum(one.deposit > 0 for one in before if one.order_id == violation.order_id)
        if rules.charges_per_order_max is not None and of_order >= rules.charges_per_order_max:
            return _capped(charge, "order", rules.charges_per_order_max, of_order)
        day = self._day(violation)
        today = sum(one.deposit for one in before if self._day(one) == day)
        return _capped(charge, "day", rules.daily_max, today)

    def _before(self, violation: Violation) -> list[Violation]:
        return self._standing[: self._standing.index(violation)]

    def _day(self, violation: Violation) -> int:
        return self._calendar.local_day(violation.determined_at).start


def _capped(
    charge: Charge, cap: Literal["order", "day", "week"], limit: int | None, used: int
) -> Charge:
    return replace(charge, status="capped", cap=cap, limit=limit, used=used)
