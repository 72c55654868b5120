"""Producers whose clocks are ahead or go backwards: no fine that evidence refutes."""

from __future__ import annotations

import json

from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.orders_task import OrdersTask
from streams.engine.records import columns
from tests.unit.samples import (
    DAY_MS,
    DEADLINE,
    HOUR_MS,
    PLACED_AT,
    POLICY,
    Value,
    paid,
    record,
    scan,
)  # fmt: skip


class Live:
    """A live task, a clock, and what stands of its determinations."""

    def __init__(self) -> None:
        self.task = OrdersTask(0, POLICY, live=True)
        self.task.restored()
        self.offset = 0
        self.types: list[str] = []

    def offer(self, topic: str, value: Value, timestamp: int, now_ms: int) -> None:
        self.task.offer(topic, columns([record(topic, value, timestamp, self.offset)]), now_ms)
        self.offset += 1

    def clock(self, now_ms: int) -> None:
        """Let all topics be read to their ends as of now."""
        for topic in INPUT_TOPICS:
            self.task.complete(topic, now_ms)
        while (checkpoint := self.task.step(1_000, mark=False)) is not None:
            for output in checkpoint.outputs:
                if output.topic in ("timeout", "dead-letter"):
                    value = json.loads(output.value)
                    self.types.append(value.get("type") or value["reason"])
            if not checkpoint.more:
                break


def test_a_producer_that_is_days_ahead_fines_nobody_early() -> None:
    """Its record counts as now, and so do those that follow it; the clock alone brings the due."""
    live = Live()
    live.offer("order-paid", paid("O1"), PLACED_AT, PLACED_AT)
    live.offer("order-paid", paid("O2"), PLACED_AT + 30 * DAY_MS, PLACED_AT + 1)
    for topic in INPUT_TOPICS[1:]:
        live.offer(topic, {"order_id": "O1"}, PLACED_AT + 30 * DAY_MS, PLACED_AT + 1)
    live.clock(DEADLINE - 1)
    assert "timeout.determined" not in live.types
    live.offer("first-scan", scan("O1", DEADLINE - HOUR_MS), DEADLINE - HOUR_MS, DEADLINE - 1)
    live.clock(DEADLINE + 1)
    assert live.types.count("timeout.determined") == 1


def test_a_producer_whose_clock_goes_backwards_loses_no_evidence() -> None:
    """A scan stamped before what its topic showed already counts by its own time."""
    live = Live()
    live.offer("order-paid", paid("O1"), PLACED_AT, PLACED_AT)
    live.offer("first-scan", scan("O2", PLACED_AT), PLACED_AT + 2 * HOUR_MS, DEADLINE - 2)
    live.offer("first-scan", scan("O1", PLACED_AT + HOUR_MS), PLACED_AT + HOUR_MS, DEADLINE - 2)
    live.clock(DEADLINE + DAY_MS)
    assert live.types == []


def test_a_stamp_far_in_the_past_is_late_evidence_and_takes_the_fine_back() -> None:
    """A clock that was reset to an old day moves no time back; what stands is right."""
    live = Live()
    live.offer("order-paid", paid("O1"), PLACED_AT, PLACED_AT)
    live.clock(DEADLINE + HOUR_MS)
    reset = scan("O1", PLACED_AT + HOUR_MS)
    live.offer("first-scan", reset, PLACED_AT + HOUR_MS, DEADLINE + HOUR_MS)
    live.clock(DEADLINE + 2 * HOUR_MS)
    assert live.types == ["timeout.determined", "timeout.revoked"]
