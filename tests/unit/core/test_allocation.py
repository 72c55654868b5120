"""Caps of a shop's account, over one walk."""

from __future__ import annotations

import re

import pytest

from streams.core.accounts.allocation import Allocation
from streams.core.accounts.violation import Violation
from streams.core.rules.book import Rulebook, Version
from tests.unit.samples import DAY_MS, POLICY, POLICY_TEXT, policy_with, rulebook_of

MONDAY = 1_670_169_600_000  # 2022-12-05 00:00:00 +08:00
TUESDAY, NEXT_MONDAY = MONDAY + DAY_MS, MONDAY + 7 * DAY_MS


def violation(order_id: str, at: int) -> Violation:
    """Return a violation of an order, not allocated yet."""
    return Violation(
        "S1", f"{order_id}:late-scan:1", order_id, "late-scan", 1, ["P1"], at, 1, True, {},
        placed_at=at, paid_at=at,
    )  # fmt: skip


def allocated(one: Violation) -> tuple[int, int]:
    """Return what a violation is allocated on the accounts of the default policy."""
    points, deposit = (
        one.charges[name].allocated if name in one.charges else 0 for name in ("points", "deposit")
    )
    return points, deposit


def version_of(rulebook: Rulebook) -> Version:
    """Return the only version of some rules."""
    version = rulebook.version_of(None, MONDAY, MONDAY)
    assert version is not None
    return version


def walk(rulebook: Rulebook, *steps: tuple[str, int]) -> list[tuple[int, int]]:
    """Return what each violation of a walk is allocated."""
    allocation, version = Allocation(), version_of(rulebook)
    violations = [violation(order_id, at) for order_id, at in steps]
    for one in violations:
        allocation.take(one, version)
    return [allocated(one) for one in violations]


def test_third_violation_of_an_order_costs_points_alone() -> None:
    """At most two deposit charges an order, on whatever days."""
    steps = [("O1", MONDAY), ("O1", TUESDAY), ("O1", NEXT_MONDAY), ("O2", NEXT_MONDAY)]
    assert walk(POLICY, *steps) == [(1, 1000), (1, 1000), (1, 0), (1, 1000)]


def test_points_stop_at_the_weekly_cap_until_monday() -> None:
    """The twenty-first violation of a week costs no points, the first of the next does."""
    week = [(f"O{n}", MONDAY if n < 12 else TUESDAY) for n in range(21)]
    points = [points for points, _ in walk(POLICY, *week, ("O", NEXT_MONDAY))]
    assert points == [1] * 20 + [0, 1]


def test_points_stop_at_the_daily_cap_until_tomorrow() -> None:
    """A policy may cap points a day too."""
    policy = policy_with(("weekly_max = 20", "daily_max = 2"))
    steps = [("A", MONDAY), ("B", MONDAY), ("C", MONDAY), ("D", TUESDAY)]
    assert [points for points, _ in walk(policy, *steps)] == [1, 1, 0, 1]


def test_deposit_stops_at_the_daily_cap_until_tomorrow() -> None:
    """The fifty-first violation of a day is not charged."""
    steps = [(f"O{n}", MONDAY) for n in range(51)] + [("P", TUESDAY)]
    deposits = [deposit for _, deposit in walk(POLICY, *steps)]
    assert deposits == [1000] * 50 + [0, 1000]


def test_capped_charge_uses_none_of_the_orders_charges() -> None:
    """An order not charged on a full day is still charged twice later."""
    policy = policy_with(("daily_max = 50000", "daily_max = 1000"))
    steps = [("O1", MONDAY), ("O2", MONDAY), ("O2", TUESDAY), ("O2", NEXT_MONDAY)]
    assert [deposit for _, deposit in walk(policy, *steps)] == [1000, 0, 1000, 1000]


def test_charge_that_would_pass_a_cap_is_not_made_in_part() -> None:
    """A cap that is no multiple of the charge is not filled up."""
    policy = policy_with(("daily_max = 50000", "daily_max = 1999"))
    assert [deposit for _, deposit in walk(policy, ("A", MONDAY), ("B", MONDAY))] == [1000, 0]


def test_without_caps_every_violation_is_charged() -> None:
    """A cap left out is no cap."""
    policy = policy_with(
        ("weekly_max = 20\n", ""), ("charges_per_order_max = 2\n", ""), ("daily_max = 50000\n", "")
    )
    assert walk(policy, *[("O1", MONDAY)] * 60) == [(1, 1000)] * 60


@pytest.mark.parametrize(("section", "cost"), [("points", (0, 1000)), ("deposit", (1, 0))])
def test_account_without_rules_is_not_charged(section: str, cost: tuple[int, int]) -> None:
    """A section left out of the policy costs nothing, the other stays as it is."""
    text = re.sub(rf"(?ms)^\[{section}\].*?(?=^\[)", "", POLICY_TEXT)
    assert walk(rulebook_of(text), ("O1", MONDAY)) == [cost]


def test_what_an_earlier_walk_allocated_counts() -> None:
    """A walk taken up again in the middle has the totals of a whole one."""
    whole, resumed, version = Allocation(), Allocation(), version_of(POLICY)
    for number in range(40):
        one = violation(f"O{number % 30}", MONDAY)
        whole.take(one, version)
        resumed.count(one, version)
    for order_id, at in [("O1", TUESDAY), ("O35", NEXT_MONDAY), ("O2", MONDAY)]:
        one, same = violation(order_id, at), violation(order_id, at)
        whole.take(one, version)
        resumed.take(same, version)
        assert allocated(same) == allocated(one)
