"""What an exemption covers: orders by its scope, their standing violations, and the money."""

from __future__ import annotations

import pytest

from streams.core.facts.events import Effect, ExemptionGranted, Scope
from streams.engine.coverage import Coverage
from streams.engine.event_file import read_log
from streams.engine.simulate import ORDERS, judge_log
from tests.unit.samples import DAY_MS, DEADLINE, PLACED_AT, POLICY, appeal, line, paid, scan

LOG = [
    line("order-paid", paid("O1", region="CN-XJ")),
    line("order-paid", paid("O2", region="CN-XJ", shop_id="S2")),
    line("order-paid", paid("O3", region="CN-BJ")),
    line("order-paid", paid("O4", region="CN-XJ", shipping_mode="express")),
    line("first-scan", scan("O5")),
    line("appeal-decided", appeal(violation_id="O1:late-scan:1"), timestamp=DEADLINE + DAY_MS - 1),
]


def coverage_of(scope: Scope, kinds: list[str] | None = None) -> Coverage:
    """Fill a coverage from the log, as of a day after the first deadline."""
    granted = ExemptionGranted(
        effect=Effect(waive=True),
        exemption_id="X1",
        granted_at=PLACED_AT,
        kinds=kinds,
        scope=scope,
        source="platform",
    )
    coverage = Coverage(granted, POLICY)
    checkpoints = list(judge_log(read_log(LOG), POLICY, DEADLINE + DAY_MS + 1))
    for wanted in (True, False):
        take = coverage.orders_changelog if wanted else coverage.shops_changelog
        for stage, _, checkpoint in checkpoints:
            if (stage == ORDERS) == wanted:
                take(checkpoint.changelog.items())
    return coverage


@pytest.mark.parametrize(
    ("scope", "kinds", "orders", "violations", "totals"),
    [
        # The first of O1 was appealed; the days of the second ones are not settled.
        (Scope(), None, 3, 5, {"CNY": 2000, "tenth-point:B": 5}),
        (Scope(regions=["CN-XJ"]), None, 2, 3, {"CNY": 1000, "tenth-point:B": 3}),
        (Scope(shop_ids=["S2"]), ["late-scan"], 1, 2, {"CNY": 1000, "tenth-point:B": 2}),
        (Scope(), ["late-ship"], 0, 0, {}),
        (Scope(deadline_from=DEADLINE + 1), None, 0, 0, {}),
        (Scope(deadline_until=DEADLINE), None, 3, 5, {"CNY": 2000, "tenth-point:B": 5}),
    ],
)
def test_orders_and_fines_of_a_scope_are_counted(
    scope: Scope, kinds: list[str] | None, orders: int, violations: int, totals: dict[str, int]
) -> None:
    """Orders without a clock, and what was revoked, are not covered."""
    coverage = coverage_of(scope, kinds)
    assert (coverage.orders, coverage.violations, coverage.totals) == (orders, violations, totals)


def test_what_was_forgotten_is_not_counted() -> None:
    """A tombstone takes order and violation away."""
    coverage = coverage_of(Scope())
    coverage.orders_changelog([(b"O1", None)])
    coverage.shops_changelog([(b"S1:O1:late-scan:2", None), (b"\x00ban:S1:P1", b"\x01\x90")])
    assert (coverage.orders, coverage.violations) == (2, 4)
