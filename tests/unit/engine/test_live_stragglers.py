"""Records that come live between the partial steps of one long catch-up."""

from __future__ import annotations

import json

import pytest

from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.orders_task import OrdersTask
from streams.engine.records import SHOP_VIOLATIONS, OutRecord, columns
from tests.unit.samples import DAY_MS, HOUR_MS, PLACED_AT, POLICY, Value, paid, record, scan, upload

MANY = 1_000_000
NOW = PLACED_AT + 200 * HOUR_MS


@pytest.fixture(autouse=True)
def halting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let work stop everywhere, as it may where there are too many timers for one step."""
    monkeypatch.setattr(OrdersTask, "_next_window", lambda self: (self._frontier.value(), False))


def hour(hours: int) -> int:
    """Return the instant so many hours after the orders were placed."""
    return PLACED_AT + hours * HOUR_MS


def catching_up(*orders: Value, as_of_ms: int) -> OrdersTask:
    """Return a live task that has read orders and knows every topic up to an instant."""
    task = OrdersTask(0, POLICY, live=True)
    task.restored()
    records = [record("order-paid", order, offset=offset) for offset, order in enumerate(orders)]
    task.offer("order-paid", columns(records), NOW)
    complete(task, as_of_ms)
    return task


def complete(task: OrdersTask, as_of_ms: int) -> None:
    """Let every topic be read to its end."""
    for topic in INPUT_TOPICS:
        task.complete(topic, as_of_ms)


def overdue(order_id: str, hours: int) -> Value:
    """Return an order that is late when it is paid, and so puts something out at once."""
    return paid(order_id, placed_at=hour(hours) - 3 * DAY_MS, paid_at=hour(hours))


def taken(task: OrdersTask, max_outputs: int = MANY, steps: int = MANY) -> list[OutRecord]:
    """Take steps, as long as there is something to commit; returns the outputs."""
    outputs: list[OutRecord] = []
    while steps and (checkpoint := task.step(max_outputs, mark=True)):
        outputs += checkpoint.outputs
        steps -= 1
    return outputs


def warned(outputs: list[OutRecord]) -> list[tuple[str, int]]:
    """Return order and lead in hours of the warnings."""
    values = [json.loads(each.value) for each in outputs if each.topic == "deadline-warning"]
    return [(value["order_id"], value["lead"] // HOUR_MS) for value in values]


def test_straggler_behind_what_is_being_worked_off_warns_only_once() -> None:
    """A record offered amid a catch-up counts from the end of what has been gathered."""
    task = catching_up(paid(), overdue("O2", 47), paid("O3", paid_at=hour(49)), as_of_ms=hour(50))
    outputs = taken(task, max_outputs=1, steps=1)
    assert hour(47) <= task.frontier_ms < hour(48)
    late = upload(uploaded_at=hour(47) + HOUR_MS // 2)
    task.offer("tracking-number-uploaded", columns([record("tracking-number-uploaded", late)]), NOW)
    outputs += taken(task)
    complete(task, hour(51))
    outputs += taken(task)
    assert warned(outputs).count(("O1", 24)) == 1
    assert task.buffered == 0


def test_straggler_amid_one_instant_warns_only_once() -> None:
    """A step that stopped between the timers of an instant lets no record in there."""
    task = catching_up(paid("O1"), paid("O2"), as_of_ms=hour(50))
    outputs = taken(task, max_outputs=1, steps=1)
    assert warned(outputs) == [("O1", 24)]
    late = upload(uploaded_at=hour(40))
    task.offer("tracking-number-uploaded", columns([record("tracking-number-uploaded", late)]), NOW)
    outputs += taken(task)
    complete(task, hour(51))
    outputs += taken(task)
    assert warned(outputs) == [("O1", 24), ("O2", 24)]
    assert task.buffered == 0


def test_straggler_brings_nothing_below_a_mark_already_sent() -> None:
    """A shop that has passed an instant is never told of it again."""
    task = catching_up(paid(), overdue("O2", 71), overdue("O3", 75), as_of_ms=hour(80))
    outputs = []
    while task.frontier_ms < hour(72):
        outputs += taken(task, max_outputs=1, steps=1)
    assert task.frontier_ms < hour(75)
    late = record("first-scan", scan(scanned_at=hour(71)), timestamp=task.frontier_ms + 60_000)
    task.offer("first-scan", columns([late]), NOW)
    outputs += taken(task, max_outputs=1)
    complete(task, hour(81))
    outputs += taken(task, max_outputs=1)
    promised, revoked = 0, []
    for value in (json.loads(each.value) for each in outputs if each.topic == SHOP_VIOLATIONS):
        if value["type"] == "mark":
            promised = value["frontier_ms"]
            continue
        assert value["log_time_ms"] >= promised
        if value["type"] == "revoked":
            revoked.append(value["violation_id"])
    assert revoked == ["O1:late-scan:1"]
