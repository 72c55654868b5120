"""Copy the facts to topics under another prefix, where keys may belong in other partitions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import msgspec
from aiokafka import TopicPartition

from streams.core.facts.events import ExemptionGranted
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.engine.records import InRecord
from streams.kafka.connection import Connection
from streams.kafka.errors import ClientError
from streams.kafka.waiting import close_quietly
from streams.runtime.batches import KeyPartitioner
from streams.runtime.client import CONNECT_TIMEOUT_S, connected, count_of
from streams.runtime.merged import merged
from streams.runtime.publish import Placed, Publisher, publisher
from streams.runtime.rights import reading_rights

_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]
_BATCH_RECORDS, _BATCH_BYTES = 2_000, 1024 * 1024

CopyListener = Callable[[str, int], None]
"""Called with a topic and how many of its records were copied since the last time."""

_decode = msgspec.json.Decoder(ExemptionGranted).decode


class Copied(Counter[str]):
    """Records copied, by topic."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[str] = []
        """Places of what cannot be read or is empty, and stays where it is."""


async def copy_facts(connection: Connection, prefix: str, listen: CopyListener) -> Copied:
    """Copy the input topics, up to where they end now.

    Each record keeps its key, value and timestamp and goes to the partition of its key; an
    exemption goes to those of its orders or to all, once. Records of one key stay in their order,
    all in the order of time. Headers stay behind.

    Args:
        connection: Where the facts are.
        prefix: What the names of the topics begin with to which they go, on the same cluster.

    Raises:
        ClientError: The topics there do not exist or hold records, or the broker cannot be
            reached.
    """
    into = replace(connection, topic_prefix=prefix)
    copied = Copied()
    needs = reading_rights(connection, INPUT_TOPICS)
    async with connected(connection, needs) as counts, publisher(into) as sink:
        await _refuse_records(into, sink)
        for topic in INPUT_TOPICS:
            await _copy(connection, topic, count_of(topic, counts), sink, copied, listen)
    return copied


async def _copy(
    connection: Connection, topic: str, partitions: int, sink: Publisher, copied: Copied,
    listen: CopyListener,
) -> None:  # fmt: skip
    partition_of = KeyPartitioner()
    count = sink.partitions(topic)
    seen: set[tuple[bytes | None, bytes]] = set()
    batch: list[Placed] = []
    size = records = 0

    async def send() -> None:
        nonlocal size, records
        if batch:
            await sink.write(batch)
        copied[topic] += records
        listen(topic, records)
        batch.clear()
        size = records = 0

    async with aclosing(merged(connection, topic, partitions)) as found:
        async for record in found:
            if record.value is None and record.key is None:
                copied.left_out.append(f"{topic} offset {record.offset}")
                continue
            places = [0 if record.key is None else partition_of(record.key, count)]
            if topic == _EXEMPTIONS:
                fact = record.key, record.value or b""
                if fact in seen:
                    # Its copy in another partition.
                    continue
                seen.add(fact)
                places = _targets(record, count, partition_of) or places
            records += 1
            for place in places:
                size += len(record.key or b"") + len(record.value or b"")
                batch.append(Placed(topic, place, record.key, record.value, record.timestamp))
            if len(batch) >= _BATCH_RECORDS or size >= _BATCH_BYTES:
                await send()
    await send()


def _targets(record: InRecord, count: int, partition_of: KeyPartitioner) -> list[int]:
    """Return the partitions of an exemption; none for what is not one."""
    try:
        order_ids = _decode(record.value or b"").scope.order_ids
    except (ValueError, RecursionError):
        return []
    if order_ids is None:
        return [*range(count)]
    return sorted({partition_of(order_id.encode(), count) for order_id in order_ids})


async def _refuse_records(into: Connection, sink: Publisher) -> None:
    places = [
        TopicPartition(topic, number)
        for topic in INPUT_TOPICS
        for number in range(sink.partitions(topic))
    ]
    consumer = into.consumer()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await consumer.start()
            ends = await consumer.end_offsets(places)
    finally:
        await close_quietly(consumer.stop, consumer)
    if used := list(dict.fromkeys(tp.topic for tp in places if ends[tp])):
        raise ClientError(
            f"topics with the prefix {into.topic_prefix!r} hold records already: {', '.join(used)}",
            "copy into topics that were created for it: give another prefix",
        )
