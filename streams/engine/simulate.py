"""Run the product over a file of events: no broker, the same partition tasks."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import msgspec

from streams.codec.encode import encode_value
from streams.core.clock import END_OF_TIME_MS, NEVER_MS
from streams.core.events import (
    EXEMPTION_GRANTED,
    INPUT_TOPICS,
    OWN_TIME_FIELDS,
)
from streams.core.outputs import DeadLetter, FrontierMark, Source
from streams.core.policy import Policy
from streams.engine.orders_task import OrdersTask
from streams.engine.records import SHOP_VIOLATIONS, Checkpoint, InRecord, OutRecord
from streams.engine.shops_task import ShopsTask

_RANKS = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}
_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]
# Large enough that a file is a handful of steps, small enough that memory stays bounded.
_OUTPUTS_PER_STEP = 50_000


class BadLine(ValueError):
    """An input line that is no event line; `number` counts from 1."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"line {number}: {message}")
        self.number = number


class _Envelope(msgspec.Struct):
    """A line as it stands; the value stays the bytes it was written in."""

    topic: Annotated[str, msgspec.Meta(min_length=1)]
    timestamp: Annotated[int, msgspec.Meta(ge=0, lt=NEVER_MS)] | None = None
    partition: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    key: str | None = None
    value: msgspec.Raw = msgspec.Raw(b"")
    raw: str | None = None


class _Line(NamedTuple):
    """One parsed line; `partition` None means the default."""

    number: int
    topic: str
    timestamp: int
    partition: int | None
    key: bytes | None
    raw: bytes
    value: Any


class _Emission(NamedTuple):
    """An output record with its place: L, stage, partition, sequence."""

    log_time_ms: int
    stage: int
    partition: int
    sequence: int
    record: OutRecord


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_Log = dict[tuple[str, int], list[InRecord]]


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
    log = _log(_parse(lines))
    emissions: list[_Emission] = _strangers(log, until)
    partitions = sorted({partition for _, partition in log})
    shops = ShopsTask(0, policy, sources=1)
    for partition in partitions:
        for sequence, record in enumerate(_orders(log, partition, policy, until)):
            if record.topic == SHOP_VIOLATIONS:
                shops.offer(SHOP_VIOLATIONS, [InRecord(0, 0, record.key, record.value)], 0)
            else:
                emissions.append(_Emission(record.log_time_ms, 0, partition, sequence, record))
    mark = END_OF_TIME_MS if until is None else until - policy.grace
    final = encode_value(FrontierMark(frontier_ms=mark, source=0))
    shops.offer(SHOP_VIOLATIONS, [InRecord(0, 0, None, final)], 0)
    for sequence, record in enumerate(_drive(shops)):
        emissions.append(_Emission(record.log_time_ms, 1, 0, sequence, record))
    emissions.sort(key=lambda emission: emission[:4])
    return [_printed(emission.record) for emission in emissions]


def _orders(log: _Log, partition: int, policy: Policy, until: int | None) -> Iterable[OutRecord]:
    """Yield what the orders stage of one partition puts out."""
    task = OrdersTask(partition, policy, shop_partitions=0, live=False)
    last = 0
    for topic in INPUT_TOPICS:
        records = _before(log.get((topic, partition), []), until)
        last = max([last, *(record.timestamp for record in records)])
        task.offer(topic, records, now_ms=0)
    # Up to the last record log time passes as in a live run, states are forgotten in it; a drain
    # then only fires what puts something out.
    for topic in INPUT_TOPICS:
        task.complete(topic, last if until is None else until)
    yield from _drive(task)
    if until is None:
        task.drain()
        yield from _drive(task)


def _drive(task: OrdersTask | ShopsTask) -> Iterable[OutRecord]:
    checkpoint: Checkpoint | None
    while checkpoint := task.step(_OUTPUTS_PER_STEP, mark=False):
        yield from checkpoint.outputs
        if not checkpoint.more:
            return


def _before(records: list[InRecord], until: int | None) -> list[InRecord]:
    """Cut a topic partition at the first effective timestamp at or after an instant."""
    if until is None:
        return records
    for index, record in enumerate(records):
        # The first timestamp at or after it lifts the effective timestamp of all that follow.
        if record.timestamp >= until:
            return records[:index]
    return records


def _strangers(log: _Log, until: int | None) -> list[_Emission]:
    """Dead letters of the records whose topic is none of the inputs."""
    emissions: list[_Emission] = []
    for (topic, partition), records in log.items():
        if topic in _RANKS:
            continue
        effective = 0
        for record in _before(records, until):
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


# Reading


def _log(lines: list[_Line]) -> _Log:
    """Give every line its partition and offset; exemptions without one fan out."""
    of_order: dict[str, int] = {}
    partitions: dict[int, None] = {}
    for line in lines:
        if line.partition is None and line.topic == _EXEMPTIONS:
            continue
        partition = line.partition or 0
        partitions[partition] = None
        order_id = _field(line.value, "order_id")
        if line.topic not in _RANKS or not isinstance(order_id, str):
            continue
        if line.key != order_id.encode():
            # Its key leads it elsewhere, and it ends as a dead letter there.
            continue
        if of_order.setdefault(order_id, partition) != partition:
            raise BadLine(
                line.number,
                f"order {order_id} stands in partitions {of_order[order_id]} and {partition}",
            )
    everywhere = sorted(partitions) or [0]
    log: _Log = {}
    for line in lines:
        if line.partition is not None or line.topic != _EXEMPTIONS:
            targets = [line.partition or 0]
        else:
            order_ids = _field(_field(line.value, "scope"), "order_ids")
            if isinstance(order_ids, list):
                known = {
                    of_order[one] for one in order_ids if isinstance(one, str) and one in of_order
                }
                targets = sorted(known) or everywhere[:1]
            else:
                targets = everywhere
        for partition in targets:
            records = log.setdefault((line.topic, partition), [])
            records.append(InRecord(len(records), line.timestamp, line.key, line.raw))
    return log


def _parse(lines: Iterable[bytes]) -> list[_Line]:
    return [_parse_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _parse_line(number: int, text: bytes) -> _Line:
    try:
        line = _decode_envelope(text)
    except (ValueError, RecursionError) as error:
        raise BadLine(number, f"not an event line: {error}") from None
    raw = bytes(line.value)
    if bool(raw) == (line.raw is not None):
        raise BadLine(number, "either `value` or `raw` must be given")
    if line.raw is not None:
        raw = line.raw.encode()
    value = _lenient(raw)
    key = line.key
    if key is None:
        name = _field(value, "exemption_id" if line.topic == _EXEMPTIONS else "order_id")
        key = name if isinstance(name, str) else None
    timestamp = line.timestamp
    if timestamp is None:
        timestamp = _own_time(line.topic, value)
    if timestamp is None:
        raise BadLine(number, "`timestamp` is missing and the value has no time of its own")
    return _Line(
        number, line.topic, timestamp, line.partition,
        None if key is None else key.encode(), raw, value,
    )  # fmt: skip


def _lenient(raw: bytes) -> Any:
    """Decode a value as far as placing it needs; what is wrong with it the decoder says."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None


def _own_time(topic: str, value: Any) -> int | None:
    if topic not in _RANKS:
        return None
    own_time = _field(value, OWN_TIME_FIELDS[_RANKS[topic]])
    return own_time if type(own_time) is int and 0 <= own_time < NEVER_MS else None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
