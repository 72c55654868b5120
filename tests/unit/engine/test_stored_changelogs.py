"""Changelogs written by version 1 of the state, kept as they were written.

Every later program must go on from them. A state of a new version adds a file; none is rewritten.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from streams.codec.encode import encode_value
from streams.codec.state import unpack_order
from streams.core.facts.events import INPUT_TOPICS
from streams.core.facts.order import Occurrence, Order
from streams.core.facts.outputs import FrontierMark
from streams.engine.orders_task import OrdersTask
from streams.engine.records import SHOP_VIOLATIONS, InRecord, OutRecord, columns
from streams.engine.shops_task import ShopsTask
from tests.unit.samples import DAY_MS, DEADLINE, HOUR_MS, PLACED_AT, POLICY, paid, record, scan

STORED = json.loads((Path(__file__).parent / "changelogs-v1.json").read_text(encoding="utf-8"))
WRITTEN_AT = DEADLINE + 2 * DAY_MS + 1


def entries(stage: str) -> list[tuple[bytes, bytes]]:
    """Return the stored changelog of a stage."""
    return [(each["key"].encode(), base64.b64decode(each["value"])) for each in STORED[stage]]


def restored_orders() -> OrdersTask:
    """Return the orders stage as it was left."""
    task = OrdersTask(0, POLICY, live=False)
    task.restore(entries("orders"))
    task.restored()
    return task


def told(outputs: list[OutRecord], *topics: str) -> list[str]:
    """Return type and id of what was written to some topics."""
    found = []
    for each in outputs:
        if each.topic in topics:
            value = json.loads(each.value)
            found.append(f"{value['type']} {value.get('entry_id') or value['violation_id']}")
    return found


def test_order_state_is_read_field_by_field() -> None:
    """Every field of version 1 keeps its meaning."""
    state = unpack_order(dict(entries("orders"))[b"O1"])
    assert (state.due_ms, state.last_change_ms) == (WRITTEN_AT - 1 + 90 * DAY_MS, WRITTEN_AT - 1)
    assert state.order == Order(
        "S1", ["P1"], "normal", PLACED_AT, PLACED_AT, 9900, "CNY", "CN-BJ", None, None
    )
    assert state.facts == [
        [1, "T1", "SF", PLACED_AT, None],
        [1, "T2", "SF", PLACED_AT + 5, "T1"],
        [5, "A1", "O1:late-scan:2", "granted", PLACED_AT + HOUR_MS],
    ]
    assert (state.uploaded_at, state.scanned_at, state.closed_at) == (PLACED_AT, None, None)
    assert state.appealed == ["O1:late-scan:2"]
    assert state.occurrences == [
        Occurrence("late-scan", 1, 1, True, DEADLINE, DEADLINE),
        Occurrence("late-scan", 3, 1, True, DEADLINE, DEADLINE + 2 * DAY_MS),
    ]
    assert (state.closed_original, state.closed_alternative, state.waiting) == (False, False, [])


def test_orders_go_on_from_the_stored_changelog() -> None:
    """Frontier, offsets, facts, waiting facts, exemptions and revisions are all taken up."""
    task = restored_orders()
    assert task.frontier_ms == WRITTEN_AT
    assert task.next_offsets == {
        "order-paid": 3,
        "tracking-number-uploaded": 2,
        "first-scan": 1,
        "order-closed": 0,
        "exemption-granted": 2,
        "appeal-decided": 1,
        "refund-failed": 1,
    }
    evidence = record("first-scan", scan("O1", PLACED_AT + HOUR_MS), WRITTEN_AT, offset=1)
    # O2's own scan waits for it since before its deadline; O9 is waived by name.
    orders = [
        record("order-paid", paid(name), WRITTEN_AT, offset)
        for offset, name in ((3, "O2"), (4, "O9"))
    ]
    task.offer("first-scan", columns([evidence]), now_ms=0)
    task.offer("order-paid", columns(orders), now_ms=0)
    for topic in INPUT_TOPICS:
        task.complete(topic, DEADLINE + 3 * DAY_MS + 1)
    checkpoint = task.step(1_000_000, mark=False)
    assert checkpoint is not None
    assert told(checkpoint.outputs, "timeout") == [
        "timeout.determined O2:late-scan:1",
        "timeout.revoked O1:late-scan:1",
        "timeout.revoked O1:late-scan:3",
        "timeout.determined O3:late-scan:2",
    ]


def test_shops_go_on_from_the_stored_changelog() -> None:
    """Frontier, what waits and what is booked are all taken up; its marks are passed over."""
    task = ShopsTask(0, POLICY, sources=1)
    task.restore(entries("shops"))
    task.restored()
    assert task.next_offsets == {SHOP_VIOLATIONS: 4}
    assert task.frontier_ms == WRITTEN_AT - 1
    mark = encode_value(FrontierMark(frontier_ms=WRITTEN_AT + DAY_MS, source=0))
    task.offer(SHOP_VIOLATIONS, columns([InRecord(4, 0, None, mark)]), now_ms=0)
    assert task.work(1_000_000) is False
    assert task.frontier_ms == WRITTEN_AT - 1
    task.complete(SHOP_VIOLATIONS, WRITTEN_AT + DAY_MS)
    checkpoint = task.step(1_000_000, mark=False)
    assert checkpoint is not None
    assert told(checkpoint.outputs, "penalty") == [
        "penalty.charged O1:late-scan:3:points:1",
        "penalty.charged O3:late-scan:1:points:1",
        "penalty.charged O1:late-scan:3:deposit:1",
        "penalty.charged O3:late-scan:1:deposit:1",
    ]
