"""The penalty journal: entries that make what is booked equal what is allocated.

What lives here: which entries a change appends, in which order, and when they take effect. What
must not: caps (`allocation`), and when a day is settled (`shops`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from streams.core.accounts.violation import Charge, Violation
from streams.core.facts.outputs import Penalty

_UNKNOWN_UNIT = "unknown"
# The place of a violation's entry on an account: (determined_at, violation_id, account).
_Entry = tuple[int, str, str, Penalty]


class Due(NamedTuple):
    """What the journal should hold of one violation on one account."""

    violation: Violation
    account: str
    amount: int
    unit: str | None
    """`None`: the rules know no such account any more."""
    day: str
    since: int
    """When it was settled, or determined where charges are made at once."""
    settles: bool
    """Whether charges of a day are made together, and carry a batch."""


def append_difference(dues: Iterable[Due], log_time: int) -> list[Penalty]:
    """Append what is missing to the journal, and note it as booked.

    Returns:
        Reversals first, then charges, each by (determined_at, violation_id, account).
    """
    reversals: list[_Entry] = []
    charges: list[_Entry] = []
    for due in dues:
        violation, account, wanted, unit, day, since, _ = due
        booked = violation.charges.get(account)
        if booked is None:
            if not wanted:
                continue
            booked = violation.charges[account] = Charge()
        # An earlier program did not keep the unit.
        held = booked.unit or unit or _UNKNOWN_UNIT
        unit = unit or held
        if booked.booked == wanted and ((booked.day == day and held == unit) or not wanted):
            continue
        at, name = violation.determined_at, violation.violation_id
        effective_at = max(since, log_time)
        if booked.booked:
            booked.unit = held
            reversals.append((at, name, account, _enter(due, booked, -booked.booked, effective_at)))
        if wanted:
            booked.day, booked.unit = day, unit
            charges.append((at, name, account, _enter(due, booked, wanted, effective_at)))
    reversals.sort(key=_place)
    charges.sort(key=_place)
    return [entry for *_, entry in reversals] + [entry for *_, entry in charges]


def _place(entry: _Entry) -> tuple[int, str, str]:
    return entry[:3]


def _enter(due: Due, booked: Charge, amount: int, effective_at: int) -> Penalty:
    violation, account = due.violation, due.account
    booked.entries += 1
    booked.booked += amount
    return Penalty(
        account=account,
        amount=amount,
        batch_id=f"{violation.shop_id}:{booked.day}" if due.settles else None,
        day=booked.day,
        effective_at=effective_at,
        entry_id=f"{violation.violation_id}:{account}:{booked.entries}",
        order_id=violation.order_id,
        shop_id=violation.shop_id,
        type="penalty.charged" if amount > 0 else "penalty.reversed",
        unit=booked.unit,
        violation_id=violation.violation_id,
    )
