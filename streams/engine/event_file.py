"""A file of events as the logs of topic partitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import msgspec

from streams.core.clock import NEVER_MS
from streams.core.events import EXEMPTION_GRANTED, INPUT_TOPICS, OWN_TIME_FIELDS
from streams.core.words import shortened
from streams.engine.records import InRecord

_RANKS = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}
_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]

_HINT = 'a line is {"topic": "order-paid", "timestamp": 1670315400000, "value": {...}}'

# Records in offset order, by topic and partition.
Log = dict[tuple[str, int], list[InRecord]]


class BadLine(ValueError):
    """An input line that is no event line, or does not fit the others; `number` counts from 1."""

    def __init__(self, number: int, message: str, hint: str = _HINT) -> None:
        super().__init__(f"line {number}: {message}")
        self.number = number
        self.hint = hint


class _Envelope(msgspec.Struct):
    """A line as it stands; the value stays the bytes it was written in."""

    topic: Annotated[str, msgspec.Meta(min_length=1)]
    timestamp: Annotated[int, msgspec.Meta(ge=0, lt=NEVER_MS)] | None = None
    partition: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    key: str | msgspec.UnsetType | None = msgspec.UNSET
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


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def read_log(lines: Iterable[bytes]) -> Log:
    """Read JSON lines; every one gets its partition and offset, exemptions without one fan out.

    Raises:
        BadLine: A line is no event line, or an order stands in two partitions.
    """
    return _lay_out(
        [_parse_line(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    )


def before(records: list[InRecord], until: int | None) -> list[InRecord]:
    """Cut a topic partition at the first effective timestamp at or after an instant."""
    if until is None:
        return records
    for index, record in enumerate(records):
        # The first timestamp at or after it lifts the effective timestamp of all that follow.
        if record.timestamp >= until:
            return records[:index]
    return records


def _lay_out(lines: list[_Line]) -> Log:
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
                "leave `partition` out, or give the record that went astray the `key` it had",
            )
    everywhere = sorted(partitions) or [0]
    log: Log = {}
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


def _parse_line(number: int, text: bytes) -> _Line:
    try:
        line = _decode_envelope(text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text)
    except (ValueError, RecursionError) as error:
        raise BadLine(number, f"not an event line: {error}") from None
    raw = bytes(line.value)
    if not raw:
        if line.raw is None:
            raise BadLine(number, "`value` must be given, or `raw` for what is no JSON")
        raw = line.raw.encode()
    value = lenient(raw)
    key = line.key
    if key is msgspec.UNSET:
        name = _field(value, "exemption_id" if line.topic == _EXEMPTIONS else "order_id")
        key = name if isinstance(name, str) else None
    timestamp = line.timestamp
    if timestamp is None:
        timestamp = own_time(line.topic, value)
    if timestamp is None:
        raise BadLine(number, _no_time(line.topic))
    return _Line(
        number, line.topic, timestamp, line.partition,
        None if key is None else key.encode(), raw, value,
    )  # fmt: skip


def _no_time(topic: str) -> str:
    """Say why a line without a timestamp cannot default to its event's own time."""
    if topic in _RANKS:
        field = OWN_TIME_FIELDS[_RANKS[topic]]
        return f"`timestamp` is missing and the value has no usable `{field}` to stand in for it"
    return (
        f"`timestamp` is missing, and {shortened(topic)} is no input topic with a time of its own"
    )


def lenient(raw: bytes) -> Any:
    """Decode a value as far as placing it needs; what is wrong with it the decoder says."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None


def own_time(topic: str, value: Any) -> int | None:
    """Read when an event happened, where its decoded value says so."""
    if topic not in _RANKS:
        return None
    at = _field(value, OWN_TIME_FIELDS[_RANKS[topic]])
    return at if type(at) is int and 0 <= at < NEVER_MS else None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
