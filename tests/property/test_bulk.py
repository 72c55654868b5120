"""Usual events taken in bulk, against every event taken one by one."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace as with_changes
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.codec.state import unpack_order
from streams.core.rules.book import Rulebook
from streams.core.stages.orders import Record
from streams.engine import orders_task
from streams.engine.bulk import Bulk
from streams.engine.compiled import TAKE
from streams.engine.held import Lane
from streams.engine.orders_changelog import FIRST_ORDER_KEY
from streams.engine.orders_task import OrdersTask
from streams.engine.records import META_KEY, OutRecord, columns
from tests.auditor.naive import DAY_MS, HOUR_MS, Event
from tests.property.bulk_mutants import MUTANTS, mutated, plain
from tests.property.driver import Chaos, Entry, OrdersMachine, records_of
from tests.property.logs import make_log
from tests.property.rough import draw_log, draw_rules
from tests.unit.samples import (
    PLACED_AT,
    POLICY,
    paid,
    policy_with,
    rulebook_of,
    rulebook_with,
    scan,
    upload,
)

SEEDS = st.integers(min_value=0, max_value=2**32)
KINDS = rulebook_of(
    """
name = "several-kinds"
version = 1
time_zone = "Asia/Shanghai"
grace = "0s"

[input]
future_tolerance = "5m"
earliest = 2010-01-01T00:00:00Z
wait_for_order = "7d"

[violations.late-upload]
stopped_by = ["tracking-number-uploaded", "order-closed"]
repeat_every = "12h"
occurrences_max = 2
warn_before = ["2h"]

[violations.late-upload.deadline]
express = { start = "placed", limit = "24h" }

[violations.late-scan]
stopped_by = ["first-scan"]
repeat_every = "24h"
occurrences_max = 3
warn_before = ["80h", "4h"]

[violations.late-scan.deadline]
normal = { start = "placed", limit = "72h" }
express = { start = "uploaded", limit = "24h" }

[closure]
after_placed = "60h"

[retention]
clean = "7d"
violated = "90d"
"""
)
POLICIES = st.sampled_from(
    [
        POLICY,
        policy_with(('"0s"', '"1h"')),
        policy_with(('"0s"', '"48h"')),
        rulebook_with(close_unshipped=None),
        KINDS,
    ]
)


class OneByOne(Bulk):
    """Takes nothing."""

    def take(self, window: Sequence[Lane]) -> list[Record]:
        return [record for lane in window for record in lane.records()]


PLAIN = plain()


def committed(
    events: list[Event], policy: Rulebook, chaos: Chaos, live: bool
) -> list[tuple[dict[str, list[OutRecord]], dict[bytes, Any]]]:
    """Return the outputs of every partition but its marks, and the states it leaves."""
    log = records_of(events)
    end_ms = max(
        (r.timestamp for topics in log.values() for records in topics.values() for r in records),
        default=0,
    )
    machines = [
        OrdersMachine(partition, topics, policy, end_ms + 40 * DAY_MS, chaos)
        for partition, topics in log.items()
    ]
    for machine in machines:
        if live:
            machine.run_live(2 * HOUR_MS)
        else:
            machine.run()
    return [
        (by_topic(machine.committed.outputs), states(machine.committed.changelog))
        for machine in machines
    ]


def by_topic(outputs: list[OutRecord]) -> dict[str, list[OutRecord]]:
    """Part the outputs by topic, and leave out the marks: windows decide where those stand."""
    found: dict[str, list[OutRecord]] = defaultdict(list)
    for output in outputs:
        if output.partition is None:
            found[output.topic].append(output)
    return found


def states(changelog: list[Entry]) -> dict[bytes, Any]:
    """Return what is kept at the end, unpacked: the bytes of a state tell how it came about."""
    return {
        key: unpack_order(value) if value and key >= FIRST_ORDER_KEY else value
        for key, value in changelog
        if key != META_KEY
    }


@given(seed=SEEDS, policy=POLICIES, live=st.booleans())
def test_in_bulk_and_one_by_one_come_to_the_same(seed: int, policy: Rulebook, live: bool) -> None:
    """Every byte of outputs and items, and every state that is left."""
    events = make_log(seed)
    rng = random.Random(seed)
    chaos = Chaos(
        rng, batch_max=rng.choice((1, 5, 1000)), outputs_max=rng.choice((1, 10, 1000)),
        crash=0.1, lost_commit=0.1, mark=0.5, live=live,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders_task, "_STATES_MAX", rng.choice((1, 3, 20_000)))
        patch.setattr(orders_task, "_WINDOW_RECORDS", rng.choice((1, 7, 50, 20_000)))
        patch.setattr(orders_task, "_WINDOW_TIMERS", rng.choice((1, 7, 20_000)))
        assert_equal_ways(events, policy, chaos, seed, live)


def test_order_paid_a_little_ahead_of_its_record_is_kept_as_long() -> None:
    """Retention counts from the payment where that lies after the last change: no copy revives."""
    minute = 60_000
    order = paid(paid_at=PLACED_AT + 4 * minute)
    events: list[Event] = [
        {"topic": topic, "timestamp": PLACED_AT + after_ms, "value": value}
        for topic, after_ms, value in (
            ("order-paid", 0, order),
            ("tracking-number-uploaded", 1, upload(uploaded_at=PLACED_AT + 1)),
            ("first-scan", minute, scan(scanned_at=PLACED_AT + minute)),
            ("order-paid", 7 * DAY_MS + 3 * minute, order),
        )
    ]
    with pytest.MonkeyPatch.context() as patch:
        # Each state is committed, also one that is forgotten right after.
        patch.setattr(orders_task, "_WINDOW_RECORDS", 1)
        assert_equal_ways(events, POLICY, Chaos(random.Random(0)), 0, live=False)


def test_upload_that_comes_after_its_order_was_closed_does_not_prevent_that() -> None:
    """Its own time lies before the closure, and a warning's timer before both."""
    warned = {
        kind: replace(rules, warn_before=(13 * HOUR_MS,))
        for kind, rules in POLICY.policies[0].kinds.items()
    }
    policy = rulebook_with(kinds=warned, close_unshipped=60 * HOUR_MS)
    events: list[Event] = [
        {"topic": "order-paid", "timestamp": PLACED_AT, "value": paid()},
        {
            "topic": "tracking-number-uploaded",
            "timestamp": PLACED_AT + 61 * HOUR_MS,
            "value": upload(uploaded_at=PLACED_AT + 59 * HOUR_MS),
        },
    ]
    assert_equal_ways(events, policy, Chaos(random.Random(0)), 0, live=False)


def assert_equal_ways(
    events: list[Event], policy: Rulebook, chaos: Chaos, seed: int, live: bool
) -> None:
    """Run the log each way and compare; windows, and so accidents, may differ between them."""
    found = []
    for way in (OneByOne, PLAIN, Bulk):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(orders_task, "Bulk", way)
            chaos_again = with_changes(chaos, rng=random.Random(seed))
            found.append(committed(events, policy, chaos_again, live))
    for one_by_one, in_plain, compiled in zip(*found, strict=True):
        assert in_plain == one_by_one
        assert compiled == one_by_one


Played = tuple[dict[str, list[OutRecord]], list[dict[bytes, Any]]]


def play(seed: int, bulk: type[Bulk]) -> Played:
    """Play rough records; now and then the task begins anew, and then often by other rules."""
    rng = random.Random(seed)
    log, policy = draw_log(rng), draw_rules(rng)
    changelog: dict[bytes, bytes | None] = {}
    outputs: list[OutRecord] = []
    kept: list[dict[bytes, Any]] = []
    task: OrdersTask | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders_task, "Bulk", bulk)
        patch.setattr(orders_task, "_WINDOW_RECORDS", rng.choice((3, 20, 16_384, 16_384)))
        patch.setattr(orders_task, "_WINDOW_TIMERS", rng.choice((1, 4_096, 4_096)))
        stops = [
            PLACED_AT + rng.randrange(0, 20 * DAY_MS, HOUR_MS) for _ in range(rng.randrange(5))
        ]
        for until_ms in [*sorted(stops), PLACED_AT + 600 * DAY_MS]:
            if task is None or rng.random() < 0.4:
                if rng.random() < 0.5:
                    policy = draw_rules(rng)
                task = OrdersTask(0, policy, live=False)
                task.restore(changelog.items())
                task.restored()
                for topic, records in log.items():
                    task.offer(topic, columns(records[task.next_offsets[topic] :]), 0)
            for topic in log:
                task.complete(topic, until_ms)
            while checkpoint := task.step(10_000, mark=False):
                outputs += checkpoint.outputs
                changelog |= checkpoint.changelog
                changelog = {key: value for key, value in changelog.items() if value is not None}
                if not checkpoint.more:
                    break
            kept.append(states([*changelog.items()]))
    return by_topic(outputs), kept


def differs(seed: int, bulk: type[Bulk]) -> bool:
    """Tell whether bulk came to something else, or to an end."""
    try:
        return play(seed, bulk) != play(seed, OneByOne)
    except Exception:  # noqa: BLE001
        return True


@given(seed=SEEDS)
def test_rough_records_come_to_the_same(seed: int) -> None:
    """Wrong keys, odd identifiers, any rules, and other rules after a restart."""
    one_by_one = play(seed, OneByOne)
    assert play(seed, PLAIN) == one_by_one
    assert play(seed, Bulk) == one_by_one


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_condition_that_is_left_out_is_noticed(name: str) -> None:
    """Each is there because without it some log is judged otherwise."""
    mutant = MUTANTS[name]
    if mutant.compiled and not TAKE:
        pytest.skip("nothing is compiled here")
    assert differs(mutant.seed, mutated(mutant))
    assert not differs(mutant.seed, Bulk)
