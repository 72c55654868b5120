"""Read the dead letters of a cluster in the order they were written, however many there are."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from heapq import heapify, heappop, heapreplace
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.core.outputs import DeadLetter
from streams.engine.evidence import DEAD_LETTERS
from streams.engine.records import InRecord
from streams.kafka.connection import Connection
from streams.kafka.waiting import close_quietly
from streams.runtime.client import connected, count_of
from streams.runtime.lean import AsColumns, columns, lean, readable
from streams.runtime.rights import reading_rights

_FETCH_WAIT_MS = 500
# A broker that goes away while it is read is given this long to come back.
_PATIENCE_S = 20.0

_decode = msgspec.json.Decoder(DeadLetter).decode


class Letter(NamedTuple):
    """A record of the topic `dead-letter`, written at `at_ms` by the broker's clock."""

    at_ms: int
    key: bytes | None
    letter: DeadLetter
    raw: bytes
    """The refused record's value; empty where it had none."""


async def dead_letters(
    connection: Connection, since_ms: int = 0
) -> AsyncGenerator[Letter | None, None]:
    """Read all dead letters written from an instant on, up to the topic's end as it is now.

    Only what was committed is read, and no more of it is held than what a fetch brings. To be
    closed by the reader (`contextlib.aclosing`) if it does not read to the end.

    Yields:
        The letters, oldest first; `None` for a record that this program cannot read.

    Raises:
        ClientError: The broker cannot be reached or refuses, or there is no such topic.
    """
    async with connected(connection, reading_rights(connection, [DEAD_LETTERS])) as counts:
        places = [TopicPartition(DEAD_LETTERS, n) for n in range(count_of(DEAD_LETTERS, counts))]
        mark = AsColumns() if lean() else None
        consumer = connection.consumer(
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            value_deserializer=mark,
        )
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await consumer.start()
                ends = await _seek(consumer, places, since_ms)
            logs = [_records(consumer, mark, tp, end) for tp, end in ends.items()]
            heads = [
                (record.timestamp, number, record)
                for number, log in enumerate(logs)
                if (record := await anext(log, None)) is not None
            ]
            heapify(heads)
            while heads:
                _, number, record = heads[0]
                yield _letter(record)
                following = await anext(logs[number], None)
                if following is None:
                    heappop(heads)
                else:
                    heapreplace(heads, (following.timestamp, number, following))
        finally:
            await close_quietly(consumer.stop, consumer)


async def _seek(
    consumer: AIOKafkaConsumer, places: list[TopicPartition], since_ms: int
) -> dict[TopicPartition, int]:
    """Take the partitions from an instant on; return their ends."""
    consumer.assign(places)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
    starts = await consumer.offsets_for_times(dict.fromkeys(places, since_ms))
    for tp, found in starts.items():
        consumer.seek(tp, ends[tp] if found is None else found.offset)
    return ends


async def _records(
    consumer: AIOKafkaConsumer, mark: AsColumns | None, tp: TopicPartition, end: int
) -> AsyncIterator[InRecord]:
    """Read one partition up to an offset; the fetches of the others wait meanwhile.

    A batch that cannot be read is one record without key and value.
    """
    position = await consumer.position(tp)
    while position < end:
        async with asyncio.timeout(_PATIENCE_S):
            fetched: dict[TopicPartition, list[Any]] = {}
            while not fetched and (position := await consumer.position(tp)) < end:
                if mark is not None:
                    mark.begin()
                fetched = await consumer.getmany(tp, timeout_ms=_FETCH_WAIT_MS)
        read, unread = readable(fetched)
        if tp in read:
            for record in map(InRecord, *columns(read[tp])):
                if record.offset < end:
                    yield record
        if tp in unread:
            consumer.seek(tp, unread[tp].last + 1)
            yield InRecord(unread[tp].first, unread[tp].timestamp, None, None)


def _letter(record: InRecord) -> Letter | None:
    try:
        letter = _decode(record.value or b"")
        raw = base64.b64decode(letter.raw, validate=True)
    except (ValueError, TypeError):
        return None
    return Letter(record.timestamp, record.key, letter, raw)
