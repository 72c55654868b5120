"""What an event costs in core and codec, in units that no machine changes.

Executed bytecode instructions and calls into C are counted, not timed: the same program on the same
events counts the same anywhere, so a few percent more than before is a finding and not noise.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

import orjson
import pytest

from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.rules.book import Rulebook
from streams.engine import compiled
from streams.engine.orders_task import OrdersTask
from streams.engine.records import InRecord, columns
from streams.rulebook import load_rulebook
from tests.unit.samples import PLACED_AT, paid, scan, upload

ORDERS = 400
HOUR_MS = 3_600_000
# Counted when this was last set, and what it may come to before somebody looks.
COSTS = {
    ("compiled", "douyin-2022"): (255, 9.2),
    ("compiled", "douyin-first-scan"): (211, 7.9),
    ("plain", "douyin-2022"): (1014, 30.6),
    ("plain", "douyin-first-scan"): (684, 26.2),
}
HEAD_ROOM = 1.05


def usual_events() -> dict[str, list[InRecord]]:
    """Make the usual life of some hundred orders; one in 25 is never scanned."""
    topics: dict[str, list[InRecord]] = {topic: [] for topic in INPUT_TOPICS[:3]}

    def put(topic: str, at: int, value: dict[str, Any]) -> None:
        records = topics[topic]
        key = str(value["order_id"]).encode()
        records.append(InRecord(len(records), at, key, orjson.dumps(value)))

    for number in range(ORDERS):
        order_id, placed_at = f"O{number:09d}", PLACED_AT + number * 20_000
        put("order-paid", placed_at, paid(order_id, placed_at=placed_at, paid_at=placed_at))
        at = placed_at + HOUR_MS
        put("tracking-number-uploaded", at, upload(order_id, uploaded_at=at))
        if number % 25:
            at = placed_at + 10 * HOUR_MS
            put("first-scan", at, scan(order_id, scanned_at=at))
    return topics


def play(topics: dict[str, list[InRecord]], rulebook: Rulebook) -> int:
    """Run the events through an orders stage until every clock has run out; count outputs."""
    task = OrdersTask(0, rulebook, live=True)
    end = PLACED_AT + 300 * 24 * HOUR_MS
    for topic in INPUT_TOPICS:
        task.offer(topic, columns(topics.get(topic, [])), end)
        task.complete(topic, end)
    outputs = 0
    while checkpoint := task.step(4_000, mark=False):
        outputs += len(checkpoint.outputs)
    return outputs


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="counted for Python 3.11")
@pytest.mark.parametrize(("way", "pack"), sorted(COSTS))
def test_event_costs_no_more_than_it_did(
    way: str, pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytecode instructions and C calls an event, retention and outputs included."""
    if way == "plain":
        monkeypatch.setattr(compiled, "TAKE", {})
    elif not compiled.TAKE:
        pytest.skip("nothing is compiled here")
    instructions_before, calls_before = COSTS[way, pack]
    rulebook = load_rulebook([pack])
    topics = usual_events()
    events = sum(map(len, topics.values()))
    play(topics, rulebook)
    counted: Counter[str] = Counter()

    def trace(frame: FrameType, what: str, _: object) -> Any:
        if what == "call":
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        counted[what] += 1
        return trace

    def profile(_: FrameType, what: str, __: object) -> None:
        counted[what] += 1

    before = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(trace)
        outputs = play(topics, rulebook)
        sys.settrace(before[0])
        sys.setprofile(profile)
        play(topics, rulebook)
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    assert outputs > ORDERS // 25 * 3
    instructions, calls = counted["opcode"] / events, counted["c_call"] / events
    assert instructions < instructions_before * HEAD_ROOM
    assert calls < calls_before * HEAD_ROOM
    # Where it has become much cheaper, the limits must follow, or they guard nothing.
    assert instructions > instructions_before / HEAD_ROOM
