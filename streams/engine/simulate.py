"""Run the product over a file of events: no broker, the same partition tasks."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from streams.codec.encode import encode_value
from streams.core.clock import END_OF_TIME_MS
from streams.core.events import INPUT_TOPICS
from streams.core.outputs import DeadLetter, FrontierMark, Source
from streams.core.policy import Policy
from streams.engine.event_file import Log, before, read_log
from streams.engine.orders_task import OrdersTask
from streams.engine.records import SHOP_VIOLATIONS, Checkpoint, InRecord, OutRecord, columns
from streams.engine.shops_task import ShopsTask

# Large enough that a file is a handful of steps, small enough that memory stays bounded.
_OUTPUTS_PER_STEP = 50_000

ORDERS, SHOPS = 0, 1


class _Emission(NamedTuple):
    """An output record with its place: L, stage, partition, sequence."""

    log_time_ms: int
    stage: int
    partition: int
    sequence: int
    record: OutRecord


def simulate(lines: Iterable[bytes], policy: Policy, until: int | None = None) -> list[bytes]:
    """Judge a log of events.

    Args:
        lines: JSON lines `{"topic", "timestamp"?, "partition"?, "key"?, "value" | "raw"}` in
            arrival order per topic partition.
        until: Leave out records with an effective timestamp at or after this instant and fire the
            timers due before it (grace included); `None` takes all records and fires every
            determination, warning, closure and settlement timer.

    Returns:
        JSON lines `{"key", "topic", "value"}` in emission order.

    Raises:
        BadLine: A line is no event line, or an order stands in two partitions.
    """
    log = read_log(lines)
    emissions = _strangers(log, until)
    for stage, partition, checkpoint in judge_log(log, policy, until):
        emissions += [
            _Emission(record.log_time_ms, stage, partition, len(emissions) + index, record)
            for index, record in enumerate(checkpoint.outputs)
            if record.topic != SHOP_VIOLATIONS
        ]
    emissions.sort(key=lambda emission: emission[:4])
    return [_printed(emission.record) for emission in emissions]


def judge_log(log: Log, policy: Policy, until: int | None) -> Iterator[tuple[int, int, Checkpoint]]:
    """Run both stages over a log; yields stage, partition and checkpoint, orders first."""
    shops = ShopsTask(0, policy, sources=1)
    for partition in sorted({partition for _, partition in log}):
        for checkpoint in _orders(log, partition, policy, until):
            items = [r for r in checkpoint.outputs if r.topic == SHOP_VIOLATIONS]
            shops.offer(
                SHOP_VIOLATIONS, columns([InRecord(0, 0, r.key, r.value) for r in items]), 0
            )
            yield ORDERS, partition, checkpoint
    mark = END_OF_TIME_MS if until is None else until - policy.grace
    final = encode_value(FrontierMark(frontier_ms=mark, source=0))
    shops.offer(SHOP_VIOLATIONS, columns([InRecord(0, 0, None, final)]), 0)
    for checkpoint in _drive(shops):
        yield SHOPS, 0, checkpoint


def _orders(log: Log, partition: int, policy: Policy, until: int | None) -> Iterator[Checkpoint]:
    task = OrdersTask(partition, policy, shop_partitions=0, live=False)
    last = 0
    for topic in INPUT_TOPICS:
        records = before(log.get((topic, partition), []), until)
        last = max([last, *(record.timestamp for record in records)])
        task.offer(topic, columns(records), now_ms=0)
    # Up to the last record log time passes as in a live run, states are forgotten in it; a drain
    # then only fires what puts something out.
    for topic in INPUT_TOPICS:
        task.complete(topic, last if until is None else until)
    yield from _drive(task)
    if until is None:
        task.drain()
        yield from _drive(task)


def _drive(task: OrdersTask | ShopsTask) -> Iterator[Checkpoint]:
    while checkpoint := task.step(_OUTPUTS_PER_STEP, mark=False):
        yield checkpoint
        if not checkpoint.more:
            return


def _strangers(log: Log, until: int | None) -> list[_Emission]:
    """Dead letters of the records whose topic is none of the inputs."""
    emissions: list[_Emission] = []
    for (topic, partition), records in log.items():
        if topic in INPUT_TOPICS:
            continue
        effective = 0
        for record in before(records, until):
            effective = max(effective, record.timestamp)
            value = DeadLetter(
                detail=f"{topic} is no input topic",
                raw=base64.b64encode(record.value or b"").decode(),
                reason="unknown-topic",
                source=Source(
                    offset=record.offset,
                    partition=partition,
                    timestamp=record.timestamp,
                    topic=topic,
                ),
            )
            letter = OutRecord("dead-letter", record.key, encode_value(value), (), None, effective)
            emissions.append(_Emission(effective, 0, partition, -1, letter))
    return emissions


def _printed(record: OutRecord) -> bytes:
    key = None if record.key is None else record.key.decode("utf-8", "replace")
    line = {"key": key, "topic": record.topic, "value": msgspec.Raw(record.value)}
    return encode_value(line)
