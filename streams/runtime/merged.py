"""Read all partitions of a topic, up to where they end now, in the order of their timestamps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from heapq import heapify, heappop, heapreplace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine.records import InRecord
from streams.kafka.connection import Connection
from streams.kafka.waiting import close_quietly
from streams.runtime.lean import AsColumns, columns, lean, readable

_FETCH_WAIT_MS = 500
# A broker that goes away while it is read is given this long to come back.
_PATIENCE_S = 20.0


async def merged(
    connection: Connection, topic: str, partitions: int, since_ms: int = 0
) -> AsyncGenerator[InRecord]:
    """Read a topic from an instant on; within `connected`, which turns failures into ClientError.

    Only what was committed is read, and no more of it is held than what a fetch brings. To be
    closed by the reader (`contextlib.aclosing`) if it does not read to the end.

    Yields:
        The records, oldest first, those of one partition in their order; for a batch that cannot
        be read one without key and value.
    """
    places = [TopicPartition(topic, number) for number in range(partitions)]
    mark = AsColumns(connection.inflated_bytes_max) if lean() else None
    consumer = connection.reader(value_deserializer=mark)
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
            yield record
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
    """Read one partition up to an offset; the fetches of the others wait meanwhile."""
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
