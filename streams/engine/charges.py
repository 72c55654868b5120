"""What a violation costs its shop, and why: the journal's entries, or the cap in the way."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from streams.core.accounts.allocation import Allocation, users_of
from streams.core.accounts.sanctions import counted_of
from streams.core.accounts.violation import WALK_ORDER, Violation
from streams.core.facts.outputs import Penalty
from streams.core.rules.book import Rulebook, Version
from streams.core.rules.policy import Account
from streams.core.time.calendar import Span
from streams.engine.evidence import Evidence

Status = Literal[
    "charged", "capped", "settles", "waiting", "waived", "nothing", "gone", "free", "none"
]


class CapUse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cap that forbids a charge: of `limit` an order or a span, `used` was used before it."""

    days: int = 0
    """Of a rolling span."""
    limit: int
    span: Literal["order"] | Span
    used: int
    used_by: list[str]
    """The violations that used it, in walk order."""


class Charge(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One violation on one account of its shop.

    `charged`: it stands and is booked. `settles`: it will be, at `settles_at`. `capped`: a cap was
    used up before it. `waived`: an exemption waives what it costs. `nothing`: its order's amount
    costs nothing. `waiting`: the account has not come to the violation, or to its end, yet. `gone`:
    the account came to it and has forgotten it since, and no entry of it is left. `free`: the rules
    that determined it kept no account. `none`: it does not stand and owes nothing.
    """

    account: str
    amount: int | None = None
    """What it would cost without caps."""
    balance: int
    """The sum of `entries`."""
    cap: CapUse | None = None
    entries: list[Penalty]
    settles_at: int | None = None
    status: Status
    unit: str


class SanctionCount(Struct, frozen=True, kw_only=True):
    """What a sanction counts of the order, or of its shop, and what would be too much."""

    account: str | None
    action: str
    counted: int
    more_than: int
    of: Literal["order", "shop", "account"]
    span: str
    violations: list[str]
    """Those that count."""


class ShopAccount:
    """The shop's standing violations, in the order its caps take them."""

    def __init__(self, evidence: Evidence, rulebook: Rulebook) -> None:
        self._penalties = evidence.penalties
        self._state = evidence.state
        self._forgotten = evidence.forgotten
        self._account_until_ms = evidence.account_until_ms
        _, order = evidence.known()
        self._version = rulebook.version_of(order.platform, order.placed_at, order.paid_at)
        standing = sorted(
            (one for one in evidence.violations.values() if one.standing), key=WALK_ORDER
        )
        self._judged: list[tuple[Violation, Version]] = [
            (one, version)
            for one in standing
            if (version := rulebook.version_of(one.platform, one.placed_at, one.paid_at))
        ]

    def charges(
        self, violation_id: str, kind: str, revision: int, *, standing: bool
    ) -> list[Charge]:
        """Tell what a violation costs on each account, by the order's view of it."""
        entries = [one for one in self._penalties if one.violation_id == violation_id]
        if not revision and not entries:
            return []
        index, violation = next(
            (
                (index, one)
                for index, (one, _) in enumerate(self._judged)
                if one.violation_id == violation_id
            ),
            (0, None),
        )
        wanted = revision if standing else 0
        taken = violation.revision if violation is not None else 0
        accounts = () if self._version is None else self._version.accounts(kind)
        charges = []
        for account in accounts:
            own = [one for one in entries if one.account == account.name]
            charge = Charge(
                account=account.name,
                balance=sum(entry.amount for entry in own),
                entries=own,
                status="none" if wanted == taken else self._untaken(entries),
                unit=account.unit,
            )
            if violation is None and wanted and charge.balance:
                charge = replace(charge, status="charged")
            if violation is not None and wanted == taken:
                charge = self._standing_charge(charge, account, index)
            charges.append(charge)
        return charges

    def _untaken(self, entries: list[Penalty]) -> Status:
        """Say why the account does not have what stands."""
        if self._forgotten:
            return "gone" if self._account_until_ms else "waiting"
        told = self._state is None or self._state.told or entries
        return "waiting" if told else "free"

    def _standing_charge(self, charge: Charge, account: Account, index: int) -> Charge:
        violation, version = self._judged[index]
        if violation.penalty_waived:
            return replace(charge, status="waived")
        if charge.balance:
            return replace(charge, status="charged")
        held = violation.charges.get(account.name)
        if held is not None and held.allocated:
            if account.settle_at is None:
                return replace(charge, status="waiting")
            at = version.clock.calendar.next_day_at(violation.determined_at, account.settle_at)
            return replace(charge, status="settles", settles_at=at)
        before = self._judged[:index]
        allocation = Allocation()
        for other, judged_by in before:
            allocation.count(other, judged_by)
        claims = {each.account.name: each for each in allocation.claims(violation, version)}
        claim = claims.get(account.name)
        if claim is None:
            return replace(charge, status="nothing", amount=0)
        if claim.cap is None:
            return replace(charge, status="waiting", amount=claim.amount)
        users = users_of(claim.cap, account, violation, version, before)
        use = CapUse(
            days=claim.cap.days,
            limit=claim.cap.limit,
            span=claim.cap.span,
            used=claim.used,
            used_by=[each.violation_id for each in users],
        )
        return replace(charge, status="capped", amount=claim.amount, cap=use)

    def sanctions(self, order_id: str) -> list[SanctionCount]:
        """Say what each sanction of the order's rules counts of what stands."""
        if self._version is None:
            return []
        last = max((one.determined_at for one, _ in self._judged), default=0)
        found = []
        for sanction in self._version.policy.sanctions:
            entries = counted_of(sanction, self._version, self._judged, order_id, last)
            found.append(
                SanctionCount(
                    account=sanction.account or None,
                    action=sanction.action,
                    counted=sum(weight for _, weight in entries),
                    more_than=sanction.more_than,
                    of=sanction.of,
                    span=f"{sanction.days} days" if sanction.span == "rolling" else sanction.span,
                    violations=[one.violation_id for one, _ in entries],
                )
            )
        return found
