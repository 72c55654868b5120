"""The penalty journal: entries that make what is booked equal what is allocated.

What lives here: which entries a change appends, in which order, and when they take effect. What
must not: caps (`allocation`), and when a day is settled (`shops`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from streams.core.accounts.shop import Booking, Violation
from streams.core.facts.outputs import Penalty
from streams.core.rules.policy import Policy

Account = Literal["points", "deposit"]
_UNKNOWN_UNIT = "unknown"


class Claim(NamedTuple):
    """What the journal should hold of one violation."""

    violation: Violation
    day: str
    settled_at: int | None
    """When the deposit of its day was settled; `None` while it is not."""


def append_difference(policy: Policy, claims: Iterable[Claim], log_time: int) -> list[Penalty]:
    """Append what is missing to the journal, and note it as booked.

    Returns:
        Reversals first, then charges, each by (determined_at, violation_id, account).
    """
    reversals: list[tuple[int, str, Account, Penalty]] = []
    charges: list[tuple[int, str, Account, Penalty]] = []
    for violation, day, settled_at in claims:
        at, name = violation.determined_at, violation.violation_id
        settled = violation.deposit if settled_at is not None else 0
        accounts: tuple[tuple[Account, Booking, int, int], ...] = (
            ("deposit", violation.deposit_booked, settled, settled_at or 0),
            ("points", violation.points_booked, violation.points, at),
        )
        for account, booked, allocated, regular in accounts:
            wanted = allocated if violation.standing else 0
            rules = policy.points if account == "points" else policy.deposit
            # An earlier program did not keep the unit.
            held = booked.unit or (rules.unit if rules else _UNKNOWN_UNIT)
            unit = rules.unit if rules else held
            if booked.amount == wanted and ((booked.day == day and held == unit) or not wanted):
                continue
            effective_at = max(regular, log_time)
            if booked.amount:
                booked.unit = held
                entry = _enter(violation, account, booked, -booked.amount, effective_at)
                reversals.append((at, name, account, entry))
            if wanted:
                booked.day, booked.unit = day, unit
                entry = _enter(violation, account, booked, wanted, effective_at)
                charges.append((at, name, account, entry))
    reversals.sort(key=_place)
    charges.sort(key=_place)
    return [entry for *_, entry in reversals] + [entry for *_, entry in charges]


def _place(entry: tuple[int, str, Account, Penalty]) -> tuple[int, str, Account]:
    return entry[:3]


def _enter(
    violation: Violation, account: Account, booked: Booking, amount: int, effective_at: int
) -> Penalty:
    booked.entries += 1
    booked.amount += amount
    return Penalty(
        account=account,
        amount=amount,
        batch_id=f"{violation.shop_id}:{booked.day}" if account == "deposit" else None,
        day=booked.day,
        effective_at=effective_at,
        entry_id=f"{violation.violation_id}:{account}:{booked.entries}",
        order_id=violation.order_id,
        shop_id=violation.shop_id,
        type="penalty.charged" if amount > 0 else "penalty.reversed",
        unit=booked.unit,
        violation_id=violation.violation_id,
    )
