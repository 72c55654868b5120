"""Changelogs written by earlier versions of the state, kept as they were written.

Every later program must go on from them. A state of a new version adds a file; none is rewritten.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from streams.codec.encode import encode_value
from streams.codec.state import pack_order, unpack_order
from streams.core.facts.accepted import AppealFact, ClosedFact, ScanFact, UploadFact
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.order import Occurrence, Order, Waiting
from streams.core.facts.outputs import FrontierMark, Revoked
from streams.engine.orders_changelog import FIRST_ORDER_KEY
from streams.engine.orders_task import OrdersTask
from streams.engine.records import SHOP_VIOLATIONS, InRecord, OutRecord, columns
from streams.engine.shops_task import ShopsTask
from tests.unit.samples import (
    DAY_MS,
    DEADLINE,
    HOUR_MS,
    PLACED_AT,
    POLICY,
    closed,
    exemption,
    paid,
    raw,
    record,
    refund_failed,
    scan,
    upload,
)

STORED = {
    version: json.loads((Path(__file__).parent / f"changelogs-v{version}.json").read_text("utf-8"))
    for version in (1, 2)
}
APP_IDS = {1: "", 2: "shipclock"}
WRITTEN_AT = DEADLINE + 2 * DAY_MS + 1
# Of version 2: when the younger orders were placed, and when an exemption interrupted the work.
PLACED_LATER = PLACED_AT + 7 * DAY_MS
SWEPT_AT = PLACED_LATER + 10 * HOUR_MS


def entries(version: int, stage: str) -> list[tuple[bytes, bytes]]:
    """Return the stored changelog of a stage."""
    stored = STORED[version][stage]
    return [(each["key"].encode(), base64.b64decode(each["value"])) for each in stored]


def restored_orders(version: int) -> OrdersTask:
    """Return the orders stage as it was left."""
    task = OrdersTask(0, POLICY, live=False, app_id=APP_IDS[version], partitions=version - 1)
    task.restore(entries(version, "orders"))
    task.restored()
    return task


def restored_shops(version: int) -> ShopsTask:
    """Return the shops stage as it was left."""
    task = ShopsTask(0, POLICY, 1, app_id=APP_IDS[version], partitions=version - 1)
    task.restore(entries(version, "shops"))
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


@pytest.mark.parametrize("version", sorted(STORED))
def test_what_is_read_of_a_state_is_what_today_writes(version: int) -> None:
    """A state that is read, written and read again is the same."""
    for key, value in entries(version, "orders"):
        if key >= FIRST_ORDER_KEY:
            assert value[0] == version
            state = unpack_order(value)
            assert unpack_order(pack_order(state)) == state


def test_order_state_of_version_1_is_read_field_by_field() -> None:
    """Every field keeps its meaning."""
    state = unpack_order(dict(entries(1, "orders"))[b"O1"])
    assert (state.due_ms, state.last_change_ms) == (WRITTEN_AT - 1 + 90 * DAY_MS, WRITTEN_AT - 1)
    assert state.order == Order(
        "S1", ["P1"], "normal", PLACED_AT, PLACED_AT, 9900, "CNY", "CN-BJ", None, None
    )
    assert state.facts == [
        UploadFact("T1", "SF", PLACED_AT),
        UploadFact("T2", "SF", PLACED_AT + 5, "T1"),
        AppealFact("A1", "O1:late-scan:2", "granted", PLACED_AT + HOUR_MS),
    ]
    assert (state.uploaded_at, state.scanned_at, state.closed_at) == (PLACED_AT, None, None)
    assert state.appealed == ["O1:late-scan:2"]
    assert state.occurrences == [
        Occurrence("late-scan", 1, 1, True, DEADLINE, DEADLINE),
        Occurrence("late-scan", 3, 1, True, DEADLINE, DEADLINE + 2 * DAY_MS),
    ]
    assert (state.closed_original, state.closed_alternative, state.waiting) == (False, False, [])


def test_orders_go_on_from_version_1() -> None:
    """Frontier, offsets, facts, waiting facts, exemptions and revisions are all taken up."""
    task = restored_orders(1)
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


def test_shops_go_on_from_version_1() -> None:
    """Frontier, what waits and what is booked are all taken up; its marks are passed over."""
    task = restored_shops(1)
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


def test_order_states_of_version_2_are_read_field_by_field() -> None:
    """Every field keeps its meaning."""
    states = {
        key.decode(): unpack_order(value)
        for key, value in entries(2, "orders")
        if key >= FIRST_ORDER_KEY
    }
    judged = states["judged"]
    assert (judged.due_ms, judged.last_change_ms) == (PLACED_AT + 11 * DAY_MS, SWEPT_AT)
    assert (judged.retiring, judged.told) == (False, True)
    assert judged.order == Order(
        "S1", ["P1", "P2"], "normal", PLACED_AT, PLACED_AT, 9900, "CNY", "CN-BJ", "CN-SH", None
    )
    assert judged.facts == [
        UploadFact("T1", "SF", PLACED_AT + HOUR_MS),
        UploadFact("T2", "SF", PLACED_AT + 2 * HOUR_MS, "T1"),
        AppealFact("A1", "judged:late-scan:2", "granted", PLACED_AT + 6 * DAY_MS),
    ]
    assert judged.uploaded_at == PLACED_AT + HOUR_MS
    assert judged.appealed == ["judged:late-scan:2"]
    assert judged.occurrences == [
        Occurrence("late-scan", number, 1, False, DEADLINE, DEADLINE + (number - 1) * DAY_MS)
        for number in (1, 2, 3)
    ]
    unshipped = states["closed"]
    assert (unshipped.closed_original, unshipped.closed_alternative) == (True, True)
    assert (unshipped.retiring, unshipped.told) == (True, True)
    assert unshipped.refund_failed_at == PLACED_AT + 3 * HOUR_MS
    exempted = states["exempted"].occurrences[0]
    assert (exempted.revision, exempted.standing) == (2, True)
    assert exempted.deadline == DEADLINE + 2 * DAY_MS
    presale = states["presale"]
    assert presale.order == Order(
        "S4", ["P1"], "presale", PLACED_LATER, PLACED_LATER + 3, 9900, "CNY", None, None,
        PLACED_AT + 20 * DAY_MS,
    )  # fmt: skip
    assert presale.due_ms == PLACED_AT + 19 * DAY_MS
    shipped = states["shipped"]
    assert (shipped.due_ms, shipped.retiring, shipped.told) == (
        PLACED_LATER + 7 * DAY_MS + 2 * HOUR_MS, True, False,
    )  # fmt: skip
    assert shipped.facts == [
        UploadFact("T1", "SF", PLACED_LATER + HOUR_MS),
        ScanFact("T1", "SF", PLACED_LATER + 2 * HOUR_MS),
    ]
    assert states["refunded"].order is not None
    assert states["refunded"].order.currency == "USD"
    assert states["refunded"].facts == [ClosedFact(PLACED_LATER + 2 * HOUR_MS, "refund-agreed")]
    assert states["paid"].last_change_ms == PLACED_LATER
    waited = upload("waiting", PLACED_LATER + HOUR_MS, carrier="YTO")
    assert states["waiting"].order is None
    assert states["waiting"].waiting[0] == Waiting(
        PLACED_LATER + HOUR_MS + 7 * DAY_MS, 1, 4, PLACED_LATER + HOUR_MS, raw(waited),
        UploadFact("T1", "YTO", PLACED_LATER + HOUR_MS),
    )  # fmt: skip


def test_orders_go_on_from_version_2() -> None:
    """The exemption at hand is applied to the rest; then come timers, waiting facts, evidence."""
    task = restored_orders(2)
    assert task.frontier_ms == SWEPT_AT
    assert task.next_offsets == {
        "order-paid": 11,
        "tracking-number-uploaded": 5,
        "first-scan": 3,
        "order-closed": 1,
        "exemption-granted": 2,
        "appeal-decided": 2,
        "refund-failed": 1,
    }
    assert task.topic_ids == {
        topic: f"id-of-{topic}" for topic in INPUT_TOPICS if topic != "refund-failed"
    }
    granted = exemption(
        "X3", granted_at=SWEPT_AT, effect={"extend_to": PLACED_AT + 12 * DAY_MS},
        scope={"regions": ["CN-BJ"]},
    )  # fmt: skip
    placed = {"placed_at": PLACED_LATER}
    again = (
        ("order-paid", paid("shipped", shop_id="S4", paid_at=PLACED_LATER + 2, **placed), 12),
        ("first-scan", scan("shipped", PLACED_LATER + 2 * HOUR_MS), 4),
        ("order-closed", closed("refunded", PLACED_LATER + 2 * HOUR_MS, reason="refund-agreed"), 1),
        ("refund-failed", refund_failed("closed", PLACED_AT + 3 * HOUR_MS), 1),
    )
    for topic, value, offset in (
        ("exemption-granted", granted, 2),
        ("order-paid", paid("waiting", paid_at=PLACED_LATER, **placed), 11),
        ("first-scan", scan("banned", DEADLINE + HOUR_MS), 3),
        *again,
    ):
        task.offer(topic, columns([record(topic, value, SWEPT_AT, offset)]), now_ms=0)
    for topic in INPUT_TOPICS:
        task.complete(topic, PLACED_AT + 13 * DAY_MS)
    checkpoint = task.step(1_000_000, mark=False)
    assert checkpoint is not None
    assert told(checkpoint.outputs, "timeout") == [
        "timeout.revoked banned:late-scan:2",
        "timeout.revoked banned:late-scan:3",
        "timeout.determined paid:late-scan:1",
        "timeout.determined paid:late-scan:2",
        "timeout.determined judged:late-scan:1",
        "timeout.determined paid:late-scan:3",
        "timeout.determined uploaded:late-scan:1",
    ]
    assert [each for each in checkpoint.outputs if each.topic == "dead-letter"] == []
    # What was known already changes nothing.
    assert not {b"shipped", b"refunded", b"closed"} & checkpoint.changelog.keys()
    waiting = unpack_order(checkpoint.changelog[b"waiting"] or b"")
    assert (waiting.uploaded_at, waiting.retiring) == (PLACED_LATER + HOUR_MS, True)


def test_shops_go_on_from_version_2() -> None:
    """What waits, what is booked and what is banned are all taken up."""
    task = restored_shops(2)
    assert task.next_offsets == {SHOP_VIOLATIONS: 22}
    assert task.topic_ids == {SHOP_VIOLATIONS: "id-of-shop-violations"}
    assert task.frontier_ms == SWEPT_AT
    third = encode_value(
        Revoked(
            log_time_ms=SWEPT_AT, order_id="banned", shop_id="S2", revision=1,
            determined_at=DEADLINE + 2 * DAY_MS, violation_id="banned:late-scan:3",
        )
    )  # fmt: skip
    task.offer(SHOP_VIOLATIONS, columns([InRecord(22, 0, b"S2", third)]), now_ms=0)
    task.complete(SHOP_VIOLATIONS, SWEPT_AT + DAY_MS)
    checkpoint = task.step(1_000_000, mark=False)
    assert checkpoint is not None
    assert told(checkpoint.outputs, "penalty", "product-ban") == [
        "penalty.reversed judged:late-scan:1:deposit:2",
        "penalty.reversed judged:late-scan:1:points:2",
        "penalty.reversed judged:late-scan:3:deposit:2",
        "penalty.reversed judged:late-scan:3:points:2",
        "penalty.reversed banned:late-scan:3:points:2",
        "product-ban.lifted banned:late-scan:3",
    ]
