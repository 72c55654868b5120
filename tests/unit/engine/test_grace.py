"""A grace above zero: what the shop pays and how long an order is kept."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from streams.core.rules.policy import Policy
from streams.engine.simulate import simulate
from tests.unit.samples import (
    DAY_MS,
    DEADLINE,
    HOUR_MS,
    POLICY,
    appeal,
    exemption,
    line,
    paid,
    policy_with,
    scan,
)

HALF_HOUR_MS = HOUR_MS // 2
HOUR_OF_GRACE = policy_with(('grace = "0s"', 'grace = "1h"'))
HALF_DAY_OF_GRACE = policy_with(('grace = "0s"', 'grace = "12h"'))

PAID = line("order-paid", paid())
# Granted after the deadline it moves, to an instant that the grace still waits for.
MOVED = line(
    "exemption-granted",
    exemption(
        granted_at=DEADLINE + 3 * HOUR_MS,
        effect={"extend_to": DEADLINE + 2 * HOUR_MS + HALF_HOUR_MS},
    ),
)
APPEALED = line("appeal-decided", appeal(decided_at=DEADLINE + 80 * HOUR_MS))


def values(topic: str, lines: list[bytes], policy: Policy) -> list[Any]:
    """Return the values a file gives on one topic."""
    outputs = [json.loads(each) for each in simulate(lines, policy)]
    return [each["value"] for each in outputs if each["topic"] == topic]


def balances(lines: list[bytes], policy: Policy) -> dict[tuple[str, str, str], int]:
    """Return what each violation costs, by account and day."""
    total: Counter[tuple[str, str, str]] = Counter()
    for entry in values("penalty", lines, policy):
        total[entry["violation_id"], entry["account"], entry["day"]] += entry["amount"]
    return {claim: amount for claim, amount in total.items() if amount}


def test_deadline_moved_into_the_grace_loses_no_fine() -> None:
    """The revocation's log time is after that of what replaces it, and takes nothing of it back."""
    owed = balances([PAID, MOVED], HOUR_OF_GRACE)
    assert {violation for violation, *_ in owed} == {f"O1:late-scan:{n}" for n in (1, 2, 3)}
    assert owed == balances([PAID, MOVED], POLICY)


def test_deadline_moved_into_the_grace_bans_and_an_appeal_lifts() -> None:
    """Three stand all the time, so the ban is the same with and without a grace."""
    bans = values("product-ban", [PAID, MOVED, APPEALED], HOUR_OF_GRACE)
    assert bans == values("product-ban", [PAID, MOVED, APPEALED], POLICY)
    assert [ban["type"] for ban in bans] == ["product-ban.imposed", "product-ban.lifted"]


@pytest.mark.parametrize(
    ("after", "told"), [(0, ("timeout", "timeout.revoked")), (1, ("dead-letter", "too-late"))]
)
def test_retention_counts_from_a_fact_later_than_the_determination(
    after: int, told: tuple[str, str]
) -> None:
    """A fact that came while the grace ran is the order's last change, the due time is not."""
    last_change = DEADLINE + 10 * HOUR_MS
    kept_until = last_change + 90 * DAY_MS + 12 * HOUR_MS
    lines = [
        PAID,
        line("first-scan", scan(scanned_at=DEADLINE), timestamp=last_change),
        line(
            "first-scan",
            scan(scanned_at=DEADLINE - 1, tracking_number="T2"),
            timestamp=kept_until + after,
        ),
    ]
    topic, name = told
    last = values(topic, lines, HALF_DAY_OF_GRACE)[-1]
    assert name in (last.get("type"), last.get("reason"))
