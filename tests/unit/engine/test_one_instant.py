"""A sale's orders fall due at one instant: they are judged in bounded steps, and all of them."""

from __future__ import annotations

import json
import time

import pytest

from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.orders_task import OrdersTask
from streams.engine.records import InRecord, columns
from tests.unit.samples import DEADLINE, HOUR_MS, PLACED_AT, POLICY, paid

OUTPUTS_MAX = 4_000
# Outputs that one timer may add to a step that was just below its limit, and frontier marks.
OVER = 12


def sale(count: int) -> OrdersTask:
    """Return a task that knows this many orders placed at one instant, all before their warning."""
    task = OrdersTask(0, POLICY, live=True)
    task.restored()
    template = json.dumps(paid("O@"), separators=(",", ":"))
    records = []
    for number in range(count):
        order_id = f"O{number:06}"
        value = template.replace("O@", order_id).encode()
        records.append(InRecord(number, PLACED_AT, order_id.encode(), value))
    task.offer("order-paid", columns(records), now_ms=DEADLINE)
    work_off(task, PLACED_AT + 1)
    assert task.states == count
    return task


def work_off(task: OrdersTask, until_ms: int) -> list[tuple[int, int, float]]:
    """Read all topics to their ends; return outputs, states and CPU seconds of each step."""
    for topic in INPUT_TOPICS:
        task.complete(topic, until_ms)
    steps = []
    more = True
    while more:
        began_s = time.thread_time()
        checkpoint = task.step(OUTPUTS_MAX, mark=False)
        took_s = time.thread_time() - began_s
        if checkpoint is None:
            break
        steps.append((len(checkpoint.outputs), len(checkpoint.changelog), took_s))
        more = checkpoint.more
    return steps


@pytest.mark.parametrize("count", [20_000, pytest.param(300_000, marks=pytest.mark.long)])
def test_timers_of_one_instant_fire_in_bounded_steps(count: int) -> None:
    """Between two steps commits, heartbeats and other partitions have their turn."""
    task = sale(count)
    work_off(task, DEADLINE - HOUR_MS)
    steps = work_off(task, DEADLINE + 1)
    outputs, states, seconds = map(max, zip(*steps, strict=True))
    print(f"timers={count} steps={len(steps)} outputs_max={outputs} states_max={states} "
          f"step_s_max={seconds:.3f}")  # fmt: skip
    # A timeout, its notification and the shop's item each; marks with every step.
    assert 3 * count <= sum(step[0] for step in steps) < 3 * count + len(steps) * OVER
    assert outputs < OUTPUTS_MAX + OVER + OUTPUTS_MAX // 2
    assert states <= OUTPUTS_MAX
    assert len(steps) >= count // OUTPUTS_MAX
    assert seconds < 1


@pytest.mark.parametrize("count", [30_000, pytest.param(300_000, marks=pytest.mark.long)])
def test_records_of_one_instant_are_taken_in_bounded_steps(count: int) -> None:
    """A past load whose records all bear the instant of the load: each order is overdue at once."""
    task = OrdersTask(0, POLICY, live=True)
    task.restored()
    records = [
        InRecord(number, DEADLINE + HOUR_MS, order_id.encode(), json.dumps(paid(order_id)).encode())
        for number, order_id in enumerate(f"O{number % (count // 2):06}" for number in range(count))
    ]
    task.offer("order-paid", columns(records), now_ms=DEADLINE + HOUR_MS)
    for topic in INPUT_TOPICS:
        task.complete(topic, DEADLINE + HOUR_MS + 1)
    steps = []
    more = True
    while more:
        offset = task.next_offsets["order-paid"]
        more = task.work(OUTPUTS_MAX)
        checkpoint = task.checkpoint(mark=False)
        outputs = 0 if checkpoint is None else len(checkpoint.outputs)
        steps.append((outputs, task.next_offsets["order-paid"] - offset))
    # The second half are copies, which leave neither output nor state.
    outputs, taken = map(max, zip(*steps, strict=True))
    assert sum(step[1] for step in steps) == count
    assert outputs < OUTPUTS_MAX + OVER + OUTPUTS_MAX // 2
    assert taken < count // 2 + OUTPUTS_MAX
