"""The auditor itself: what must hold of any reading of the rules."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.auditor.naive import audit, judge
from tests.property.logs import interleave, make_log

PLACES = (
    "standing ban warning original alternative full-day full-week malformed schema invalid "
    "time-in-future conflict no-order too-late"
).split()
SEEDS = st.integers(min_value=0, max_value=2**32)


@given(seed=SEEDS)
def test_interleaving_of_topics_means_nothing(seed: int) -> None:
    """Only the order within a topic partition is part of the log."""
    log = make_log(seed)
    assert judge(interleave(random.Random(seed), log)) == judge(log)


@given(seed=SEEDS)
def test_caps_hold(seed: int) -> None:
    """No order, shop day or week is charged beyond its cap."""
    judged = audit(make_log(seed))
    orders: Counter[str] = Counter()
    for entry in judged.journal:
        if entry["account"] == "deposit":
            orders[entry["violation_id"].split(":")[0]] += 1
        assert entry["violation_id"] in judged.standing
    assert max(orders.values(), default=0) <= 2


def test_logs_reach_the_interesting_places() -> None:
    """Among a few hundred logs every output, cap and refusal occurs."""
    seen: Counter[str] = Counter()
    for number in range(300):
        judged = audit(make_log(number))
        seen["standing"] += bool(judged.standing)
        seen["ban"] += bool(judged.bans)
        seen["warning"] += bool(judged.warnings)
        seen.update({refusal.reason for refusal in judged.refusals})
        seen.update({closure["path"] for closure in judged.closures})
        accounts = Counter(entry["account"] for entry in judged.journal)
        seen["full-day"] += accounts["deposit"] >= 50
        seen["full-week"] += accounts["points"] < len(judged.standing)
    rare = {place: seen[place] for place in PLACES if seen[place] < 5}
    assert not rare
