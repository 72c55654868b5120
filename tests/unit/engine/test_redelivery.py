"""A copy of a forgotten order's payment: it must not bring the order back."""

from __future__ import annotations

import json

import pytest

from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.orders_task import OrdersTask
from streams.engine.records import OutRecord, columns
from streams.engine.simulate import simulate
from tests.unit.samples import DAY_MS, HOUR_MS, PLACED_AT, POLICY, line, paid, record, scan

MINUTE_MS = 60_000
WEEK_MS = 7 * DAY_MS


@pytest.mark.parametrize(
    ("copied", "reasons"),
    [
        (WEEK_MS, []),
        (WEEK_MS + 2 * MINUTE_MS, []),
        (WEEK_MS + 4 * MINUTE_MS, []),
        (WEEK_MS + 4 * MINUTE_MS + 1, ["too-late"]),
    ],
)
def test_copy_of_an_order_paid_a_little_ahead_revives_nothing(
    copied: int, reasons: list[str]
) -> None:
    """An order is kept until a copy of its payment, however far ahead of its record, is too old."""
    order = paid(paid_at=PLACED_AT + 4 * MINUTE_MS)
    lines = [
        line("first-scan", scan()),
        line("order-paid", order, timestamp=PLACED_AT),
        line("order-paid", order, timestamp=PLACED_AT + copied),
    ]
    outputs = [json.loads(each) for each in simulate(lines, POLICY, PLACED_AT + 19 * DAY_MS)]
    assert [each["value"].get("reason") for each in outputs] == reasons


def test_live_copy_of_an_order_paid_far_ahead_revives_nothing() -> None:
    """An order whose payment a wrong clock dates ten days ahead is kept until that is past."""
    task = OrdersTask(0, POLICY, live=True)
    task.restored()
    order = paid(paid_at=PLACED_AT + 10 * DAY_MS)
    task.offer("order-paid", columns([record("order-paid", order)]), PLACED_AT)
    task.offer("first-scan", columns([record("first-scan", scan())]), PLACED_AT)
    assert work(task, PLACED_AT + 8 * DAY_MS) == []
    assert task.states == 1
    copy = record("order-paid", order, offset=1)
    task.offer("order-paid", columns([copy]), PLACED_AT + 8 * DAY_MS + HOUR_MS)
    assert work(task, PLACED_AT + 9 * DAY_MS) == []
    assert (task.states, task.buffered) == (1, 0)


def work(task: OrdersTask, now_ms: int) -> list[OutRecord]:
    """Let every topic be read up to an instant; returns what that puts out."""
    for topic in INPUT_TOPICS:
        task.complete(topic, now_ms)
    checkpoint = task.step(1000, mark=False)
    return [] if checkpoint is None else checkpoint.outputs
