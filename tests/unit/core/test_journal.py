"""Journal entries: the difference between what is booked and what is allocated."""

from __future__ import annotations

from typing import Any

from streams.core.accounts.journal import Due, append_difference
from streams.core.accounts.violation import Charge, Violation
from streams.core.facts.outputs import Penalty

DAY = "2022-12-09"
SETTLED_AT = 9_000


def violation(
    number: int = 1, at: int = 1000, *, points: int = 1, deposit: int = 1000, **fields: Any
) -> Violation:
    """Return a standing violation, allocated on both accounts and not booked."""
    state: dict[str, Any] = {
        "shop_id": "S1",
        "violation_id": f"O1:late-scan:{number}",
        "order_id": "O1",
        "kind": "late-scan",
        "occurrence": number,
        "product_ids": ["P1"],
        "determined_at": at,
        "revision": 1,
        "standing": True,
        "charges": {"points": Charge(allocated=points), "deposit": Charge(allocated=deposit)},
    }
    return Violation(**state | fields)


def book(
    *violations: Violation, settled_at: int | None = SETTLED_AT, log_time: int = 2000,
    day: str = DAY,
) -> list[Penalty]:  # fmt: skip
    """Bring the journal up to date: points at once, the deposit once its day is settled."""
    dues = [due for each in violations for due in dues_of(each, settled_at, day)]
    return append_difference(dues, log_time)


def dues_of(
    one: Violation, settled_at: int | None = SETTLED_AT, day: str = DAY, money: str = "CNY"
) -> list[Due]:
    """Return what the journal should hold of a violation."""
    points, deposit = (
        one.charges[name].allocated if one.standing else 0 for name in ("points", "deposit")
    )
    return [
        Due(one, "points", points, "tenth-point:B", day, one.determined_at, False),
        Due(
            one, "deposit", 0 if settled_at is None else deposit, money, day, settled_at or 0, True
        ),
    ]


def brief(entries: list[Penalty]) -> list[tuple[str, int]]:
    """Return entry ids and amounts."""
    return [(entry.entry_id, entry.amount) for entry in entries]


def test_what_is_allocated_is_charged_once() -> None:
    """Charges go by (determined_at, violation_id, account); a second look appends nothing."""
    later, earlier = violation(1, at=1001), violation(2, at=1000)
    assert brief(book(later, earlier)) == [
        ("O1:late-scan:2:deposit:1", 1000),
        ("O1:late-scan:2:points:1", 1),
        ("O1:late-scan:1:deposit:1", 1000),
        ("O1:late-scan:1:points:1", 1),
    ]
    assert book(later, earlier) == []


def test_entry_says_all_of_its_charge() -> None:
    """A deposit entry names its batch, unit, day and violation."""
    (entry,) = book(violation(points=0))
    assert entry == Penalty(
        account="deposit",
        amount=1000,
        batch_id=f"S1:{DAY}",
        day=DAY,
        effective_at=SETTLED_AT,
        entry_id="O1:late-scan:1:deposit:1",
        order_id="O1",
        shop_id="S1",
        type="penalty.charged",
        unit="CNY",
        violation_id="O1:late-scan:1",
    )


def test_points_take_effect_at_once_and_belong_to_no_batch() -> None:
    """The regular instant of points is the determination's."""
    (entry,) = book(violation(deposit=0), log_time=1000)
    assert (entry.effective_at, entry.batch_id, entry.unit) == (1000, None, "tenth-point:B")


def test_entry_takes_effect_no_earlier_than_its_cause() -> None:
    """A charge found out late is of the day it belongs to, but takes effect now."""
    entries = book(violation(), log_time=SETTLED_AT + 5)
    assert [entry.effective_at for entry in entries] == [SETTLED_AT + 5] * 2
    assert [entry.day for entry in entries] == [DAY] * 2


def test_day_not_settled_yet_is_not_booked() -> None:
    """Until its settlement a day's deposit is nowhere in the journal."""
    pending = violation()
    assert brief(book(pending, settled_at=None)) == [("O1:late-scan:1:points:1", 1)]
    assert brief(book(pending)) == [("O1:late-scan:1:deposit:1", 1000)]


def test_fallen_violation_is_reversed_on_its_day() -> None:
    """A reversal is negative, counts on, and keeps the day of the charge."""
    fallen = violation()
    book(fallen)
    fallen.standing = False
    entries = book(fallen, log_time=SETTLED_AT + 5)
    assert brief(entries) == [("O1:late-scan:1:deposit:2", -1000), ("O1:late-scan:1:points:2", -1)]
    assert {entry.type for entry in entries} == {"penalty.reversed"}
    assert {entry.day for entry in entries} == {DAY}
    assert book(fallen) == []


def test_reversals_come_before_charges() -> None:
    """What one violation frees is taken back before another is charged with it."""
    fallen, risen = violation(2, at=1001, points=0), violation(1, at=1000, points=0)
    book(fallen)
    fallen.standing = False
    assert brief(book(risen, fallen)) == [
        ("O1:late-scan:2:deposit:2", -1000),
        ("O1:late-scan:1:deposit:1", 1000),
    ]


def test_charge_of_another_day_replaces_the_first() -> None:
    """A violation determined anew on another day is reversed on the old and charged on the new."""
    moved = violation(points=0)
    book(moved)
    entries = book(moved, day="2022-12-10")
    assert brief(entries) == [
        ("O1:late-scan:1:deposit:2", -1000),
        ("O1:late-scan:1:deposit:3", 1000),
    ]
    assert [entry.batch_id for entry in entries] == [f"S1:{DAY}", "S1:2022-12-10"]


def test_charge_in_another_unit_replaces_the_old_one() -> None:
    """Amounts of two units never meet in one entry."""
    charged = violation()
    book(charged)
    entries = append_difference(dues_of(charged, money="USD"), 2000)
    assert [(each.account, each.amount, each.unit) for each in entries] == [
        ("deposit", -1000, "CNY"),
        ("deposit", 1000, "USD"),
    ]
    assert append_difference(dues_of(charged, money="USD"), 2000) == []
