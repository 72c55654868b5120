"""Run the product over a file of events: no broker, the same partition tasks."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

import msgspec

from streams.codec.encode import encode_value
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.outputs import DeadLetter, Source
from streams.core.rules.book import Rulebook
from streams.engine.event_file import EventFile, Log, before, read_events
from streams.engine.orders_task import OrdersTask
from streams.engine.records import (
    BETWEEN_STAGES,
    SHOP_VIOLATIONS,
    Checkpoint,
    InRecord,
    OutRecord,
    columns,
)
from streams.engine.shops_task import ShopsTask

# Large enough that a file is a handful of steps, small enough that memory stays bounded.
_OUTPUTS_PER_STEP = 50_000

ORDERS, SHOPS = 0, 1
_LINE = attrgetter("line")


class _Emission(NamedTuple):
    """An output record with its place: L, stage, partition, sequence."""

    log_time_ms: int
    stage: int
    partition: int
    sequence: int
    record: OutRecord


class Refusal(NamedTuple):
    """The dead letters of one reason: how many, and the first of them in the file."""

    reason: str
    records: int
    line: int
    topic: str
    detail: str


class Simulation(NamedTuple):
    """What comes out of a file, and what a person should know of what went in."""

    lines: list[bytes]
    """JSON lines `{"key", "topic", "value"}` in emission order."""
    refusals: list[Refusal]
    """By reason, in the order of their first lines."""
    disorder: tuple[int, int] | None
    """See `EventFile.disorder`."""


def simulate(lines: Iterable[bytes], rulebook: Rulebook, until: int | None = None) -> list[bytes]:
    """Judge a log of events as `simulate_file` does; return what comes out."""
    return simulate_file(lines, rulebook, until).lines


def simulate_file(
    lines: Iterable[bytes], rulebook: Rulebook, until: int | None = None, by_time: bool = False
) -> Simulation:
    """Judge a log of events.

    Args:
        lines: JSON lines `{"topic", "timestamp"?, "partition"?, "key"?, "value" | "raw"}` in
            arrival order per topic partition.
        until: Leave out records with an effective timestamp at or after this instant and fire the
            timers due before it (grace included); `None` takes all records and fires every
            determination, warning, closure and settlement timer.
        by_time: Sort the lines by timestamp first.

    Raises:
        BadLine: A line is not an event line, or an order stands in two partitions.
    """
    file = read_events(lines, by_time)
    log = file.log
    emissions = _strangers(log, until)
    for stage, partition, checkpoint in judge_log(log, rulebook, until):
        emissions += [
            _Emission(record.log_time_ms, stage, partition, len(emissions) + index, record)
            for index, record in enumerate(checkpoint.outputs)
            if record.topic not in BETWEEN_STAGES
        ]
    emissions.sort(key=lambda emission: emission[:4])
    return Simulation(
        [_printed(emission.record) for emission in emissions],
        _refusals(file, [emission.record for emission in emissions]),
        file.disorder(),
    )


def _refusals(file: EventFile, records: Iterable[OutRecord]) -> list[Refusal]:
    """Count the dead letters by reason."""
    by_reason: dict[str, list[Refusal]] = {}
    for record in records:
        if record.topic != "dead-letter":
            continue
        letter = msgspec.json.decode(record.value, type=DeadLetter)
        source = letter.source
        line = file.numbers[source.topic, source.partition][source.offset]
        entry = Refusal(letter.reason, 1, line, source.topic, letter.detail)
        by_reason.setdefault(letter.reason, []).append(entry)
    firsts = [min(found, key=_LINE)._replace(records=len(found)) for found in by_reason.values()]
    return sorted(firsts, key=_LINE)


def judge_log(
    log: Log, rulebook: Rulebook, until: int | None
) -> Iterator[tuple[int, int, Checkpoint]]:
    """Run both stages over a log; yields stage, partition and checkpoint, orders first."""
    shops = ShopsTask(0, rulebook, sources=1)
    for partition in sorted({partition for _, partition in log}):
        for checkpoint in _orders(log, partition, rulebook, until):
            items = [r for r in checkpoint.outputs if r.topic == SHOP_VIOLATIONS]
            shops.offer(
                SHOP_VIOLATIONS, columns([InRecord(0, 0, r.key, r.value) for r in items]), 0
            )
            yield ORDERS, partition, checkpoint
    shops.complete(
        SHOP_VIOLATIONS, END_OF_TIME_MS if until is None else until - rulebook.processing.grace
    )
    for checkpoint in _drive(shops):
        yield SHOPS, 0, checkpoint


def _orders(
    log: Log, partition: int, rulebook: Rulebook, until: int | None
) -> Iterator[Checkpoint]:
    task = OrdersTask(partition, rulebook, live=False)
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
    while checkpoint := task.step(_OUTPUTS_PER_STEP, mark=True):
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
                detail=f"{topic} is not an input topic",
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
