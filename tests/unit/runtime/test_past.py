"""What of a load lies in the past, and that payments wait for their evidence."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition

from streams.core.facts.inputs import INPUT_TOPICS
from streams.kafka.errors import ClientError
from streams.runtime import past
from streams.runtime.past import Frontiers, PacedLoad, Survey
from streams.runtime.publish import InputEvent
from tests.unit.samples import DAY_MS, HOUR_MS, POLICY, exemption, paid, scan, upload

FRONTIER = 1_700_000_000_000
MINUTE = 60_000


def event(topic: str, value: dict[str, Any], timestamp_ms: int = FRONTIER) -> InputEvent:
    """Make an event ready to be sent."""
    key = value.get("order_id") or value["exemption_id"]
    return InputEvent(topic, key.encode(), orjson.dumps(value), timestamp_ms)


def payment(order_id: str, ago_ms: int, timestamp_ms: int = FRONTIER) -> InputEvent:
    """Make a payment of so long before the frontier."""
    at = FRONTIER - ago_ms
    return event("order-paid", paid(order_id, placed_at=at, paid_at=at), timestamp_ms)


def survey(events: Iterable[InputEvent]) -> Survey:
    """Look at events in two portions."""
    found, all_events = Survey(POLICY, FRONTIER), list(events)
    found.add(all_events[:1])
    found.add(all_events[1:])
    return found


def test_records_of_now_with_deadlines_to_come_are_no_past() -> None:
    """A minute is what a record may take on its way."""
    found = survey([
        payment("O1", 71 * HOUR_MS),
        payment("O2", HOUR_MS, FRONTIER - MINUTE),
        event("first-scan", scan("O1", scanned_at=FRONTIER - 5 * DAY_MS)),
    ])  # fmt: skip
    assert (found.behind, found.overdue, found.too_old) == (0, 0, [])


def test_records_behind_and_payments_overdue_are_counted() -> None:
    """With the oldest of them: a timestamp, or a deadline that has passed."""
    found = survey([
        payment("O1", HOUR_MS, FRONTIER - MINUTE - 1),
        payment("O2", 80 * HOUR_MS),
        event("first-scan", scan("O1"), FRONTIER - HOUR_MS),
    ])  # fmt: skip
    assert (found.behind, found.overdue) == (2, 1)
    assert found.oldest_ms == FRONTIER - 8 * HOUR_MS


def test_what_would_be_too_late_whatever_the_order() -> None:
    """A payment, and a fact of an order of the load; others' orders may be known."""
    old = FRONTIER - 8 * DAY_MS
    found = survey([
        event("first-scan", scan("O1", scanned_at=old)),
        event("tracking-number-uploaded", upload("O9", uploaded_at=old)),
        event("exemption-granted", exemption(granted_at=old)),
        payment("O1", 6 * DAY_MS),
        payment("O2", 7 * DAY_MS),
        payment("O3", 7 * DAY_MS - 2 * HOUR_MS),
    ])  # fmt: skip
    assert sorted(found.too_old) == [old, FRONTIER - 7 * DAY_MS]


class Sent:
    """A publisher that gives offsets in order."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    async def publish(self, events: Sequence[InputEvent]) -> dict[TopicPartition, int]:
        self.topics += [each.topic for each in events]
        return {TopicPartition(each.topic, 1): len(self.topics) for each in events}


class Followed(Frontiers):
    """Checkpoints of a worker that takes one more record whenever it is looked at."""

    def __init__(self, step: int) -> None:
        super().__init__(None, 2)  # type: ignore[arg-type]
        self.taken, self._step = 0, step

    async def poll(self) -> bool:
        await asyncio.sleep(0.001)
        self.taken += self._step
        return True

    def _processed(self, tp: TopicPartition) -> int:
        assert tp.topic in INPUT_TOPICS
        return self.taken


EVENTS = [payment("O1", HOUR_MS), event("first-scan", scan("O1")), event("first-scan", scan("O2"))]


async def test_payments_wait_until_their_evidence_was_taken() -> None:
    """And both are sent once."""
    sent, followed = Sent(), Followed(step=1)
    load = PacedLoad(sent, followed)  # type: ignore[arg-type]
    told: list[int] = []
    assert await load.evidence(EVENTS) == 2
    await load.ready(told.append)
    assert (followed.taken, told) == (2, [1, 1, 0])
    assert await load.payments(EVENTS) == 1
    assert sent.topics == ["first-scan", "first-scan", "order-paid"]


async def test_a_worker_that_takes_nothing_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any payment: it would be judged without its evidence."""
    monkeypatch.setattr(past, "_PATIENCE_S", 0.05)
    load = PacedLoad(Sent(), Followed(step=0))  # type: ignore[arg-type]
    await load.evidence(EVENTS)
    with pytest.raises(ClientError, match=r"no worker has taken the evidence in partitions \[1\]"):
        await load.ready(lambda _: None)
