"""A file of events as the logs of topic partitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import msgspec

from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_OF_TOPIC, INPUT_TOPICS
from streams.core.facts.instants import NEVER_MS
from streams.core.text import json_mistake, without_mark
from streams.engine.records import InRecord

_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]

LINE_HINT = 'a line is {"topic": "order-paid", "timestamp": 1670315400000, "value": {...}}'

# Records in offset order, by topic and partition.
Log = dict[tuple[str, int], list[InRecord]]


class EventFile(NamedTuple):
    """A log, and where its records stand in the file."""

    log: Log
    numbers: dict[tuple[str, int], list[int]]
    """Line numbers, which count from 1, as `log` has the records."""

    def disorder(self) -> tuple[int, int] | None:
        """Find the first line that is older than one before it in its topic partition.

        Returns:
            Its number, and that of the later one; `None` if all lines are in time order.
        """
        found = []
        for place, records in self.log.items():
            latest = 0
            for index, record in enumerate(records):
                if record.timestamp < records[latest].timestamp:
                    found.append((self.numbers[place][index], self.numbers[place][latest]))
                    break
                latest = index
        return min(found, default=None)


class BadLine(ValueError):
    """An input line that is no event line, or does not fit the others; `number` counts from 1."""

    def __init__(self, number: int, message: str, hint: str = LINE_HINT) -> None:
        super().__init__(f"line {number}: {message}")
        self.number = number
        self.hint = hint


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A line as it stands; the value stays the bytes it was written in.

    A field that is not read may be a misspelt timestamp, without which the event would count as of
    another time: it makes the line invalid. The last four are what `dead-letters export` adds.
    """

    topic: Annotated[str, msgspec.Meta(min_length=1)]
    timestamp: Annotated[int, msgspec.Meta(ge=0, lt=NEVER_MS)] | None = None
    partition: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    key: str | msgspec.UnsetType | None = msgspec.UNSET
    value: msgspec.Raw = msgspec.Raw(b"")
    raw: str | None = None
    origin: msgspec.Raw = msgspec.Raw(b"")
    reason: msgspec.Raw = msgspec.Raw(b"")
    detail: msgspec.Raw = msgspec.Raw(b"")
    resent_at: msgspec.Raw = msgspec.Raw(b"")


class _Line(NamedTuple):
    """One parsed line; `partition` None means the default, `timestamp` None that it has none."""

    number: int
    topic: str
    timestamp: int | None
    partition: int | None
    key: bytes | None
    raw: bytes
    value: Any


_decode_envelope = msgspec.json.Decoder(Envelope).decode


def read_log(lines: Iterable[bytes]) -> Log:
    """Read JSON lines as `read_events` does, without their numbers."""
    return read_events(lines).log


def read_events(lines: Iterable[bytes], by_time: bool = False) -> EventFile:
    """Read JSON lines; every one gets its partition and offset, exemptions without one fan out.

    A line that has no timestamp, and no usable time of its own, gets that of the record before it:
    its event is refused for what it lacks.

    Args:
        by_time: Sort the lines by timestamp; those of one instant stay in their order.

    Raises:
        BadLine: A line is not an event line, or an order stands in two partitions.
    """
    parsed = [_parse_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if by_time:
        parsed.sort(key=lambda line: line.timestamp or 0)
    return _lay_out(parsed)


def before(records: list[InRecord], until: int | None) -> list[InRecord]:
    """Cut a topic partition at the first effective timestamp at or after an instant."""
    if until is None:
        return records
    for index, record in enumerate(records):
        # The first timestamp at or after it lifts the effective timestamp of all that follow.
        if record.timestamp >= until:
            return records[:index]
    return records


def _lay_out(lines: list[_Line]) -> EventFile:
    """Give every line its partition and offset; exemptions without one fan out."""
    of_order: dict[str, int] = {}
    partitions: dict[int, None] = {}
    for line in lines:
        if line.partition is None and line.topic == _EXEMPTIONS:
            continue
        partition = line.partition or 0
        partitions[partition] = None
        order_id = _field(line.value, "order_id")
        if line.topic not in INPUT_OF_TOPIC or not isinstance(order_id, str):
            continue
        if line.key != order_id.encode():
            # Its key leads it elsewhere, and it ends as a dead letter there.
            continue
        if of_order.setdefault(order_id, partition) != partition:
            raise BadLine(
                line.number,
                f"order {order_id} stands in partitions {of_order[order_id]} and {partition}",
                "leave `partition` out, or give the record that went astray the `key` it had",
            )
    everywhere = sorted(partitions) or [0]
    log: Log = {}
    numbers: dict[tuple[str, int], list[int]] = {}
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
            timestamp = line.timestamp
            if timestamp is None:
                timestamp = records[-1].timestamp if records else 0
            records.append(InRecord(len(records), timestamp, line.key, line.raw))
            numbers.setdefault((line.topic, partition), []).append(line.number)
    return EventFile(log, numbers)


def envelope_of(text: bytes) -> Envelope:
    """Decode a line.

    Raises:
        ValueError: It is not an event line; why.
    """
    try:
        return _decode_envelope(text)
    except msgspec.ValidationError as error:
        raise ValueError(f"not an event line: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not an event line: {json_mistake(text, error)}") from None


def _parse_line(number: int, text: bytes) -> _Line:
    try:
        line = envelope_of(without_mark(text) if number == 1 else text)
    except ValueError as error:
        raise BadLine(number, str(error)) from None
    raw = bytes(line.value)
    if not raw:
        if line.raw is None:
            raise BadLine(number, "`value` must be given, or `raw` for what is not JSON")
        raw = line.raw.encode()
    value = lenient(raw)
    key = line.key
    if key is msgspec.UNSET:
        known = INPUT_OF_TOPIC.get(line.topic)
        name = _field(value, "order_id" if known is None else known.key)
        key = name if isinstance(name, str) else None
    timestamp = line.timestamp
    if timestamp is None:
        timestamp = own_time(line.topic, value)
    return _Line(
        number, line.topic, timestamp, line.partition,
        None if key is None else key.encode(), raw, value,
    )  # fmt: skip


def lenient(raw: bytes) -> Any:
    """Decode a value as far as placing it needs; what is wrong with it the decoder says."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None


def own_time(topic: str, value: Any) -> int | None:
    """Read when an event happened, where its decoded value says so."""
    if topic not in INPUT_OF_TOPIC:
        return None
    at = _field(value, INPUT_OF_TOPIC[topic].own_time)
    return at if type(at) is int and 0 <= at < NEVER_MS else None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
