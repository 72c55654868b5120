"""Read what the logs hold of one order: a few partitions, each to the end it has now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine.evidence import DEAD_LETTERS, SHOP_OUTPUTS, Evidence
from streams.engine.records import ORDERS_CHANGELOG, SHOPS_CHANGELOG
from streams.kafka.connection import Connection
from streams.runtime.batches import KeyPartitioner
from streams.runtime.client import CONNECT_TIMEOUT_S, connected, count_of, let_go

_FETCH_WAIT_MS = 500
_FETCH_PARTITION_BYTES = 4 * 1024 * 1024

ProgressListener = Callable[[int, int], None]
"""Called with the offsets read and those to read."""


async def look_up(connection: Connection, order_id: str, progress: ProgressListener) -> Evidence:
    """Gather an order's evidence from changelogs and output topics.

    A shop's journal is not sorted by order, so its whole partition is read.

    Raises:
        ClientError: The broker cannot be reached, or topics are missing.
    """
    evidence = Evidence(order_id)
    partition_of = KeyPartitioner()
    async with connected(connection) as counts:

        def place(topic: str, key: str) -> TopicPartition:
            return TopicPartition(topic, partition_of(key.encode(), count_of(topic, counts)))

        for topic in (ORDERS_CHANGELOG, SHOPS_CHANGELOG, DEAD_LETTERS, *SHOP_OUTPUTS):
            count_of(topic, counts)
        consumer = connection.consumer(
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=_FETCH_PARTITION_BYTES,
        )
        try:
            await consumer.start()
            await _read(consumer, [place(ORDERS_CHANGELOG, order_id)], evidence, progress)
            places = [place(DEAD_LETTERS, order_id)]
            shop_id = evidence.shop_id
            if shop_id is not None:
                places += [place(topic, shop_id) for topic in (SHOPS_CHANGELOG, *SHOP_OUTPUTS)]
            await _read(consumer, places, evidence, progress)
        finally:
            await let_go(consumer.stop())
    return evidence


async def _read(
    consumer: AIOKafkaConsumer,
    places: Iterable[TopicPartition],
    evidence: Evidence,
    progress: ProgressListener,
) -> None:
    wanted = list(places)
    begins = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    open_places = [tp for tp in wanted if begins[tp] < ends[tp]]
    total = sum(ends[tp] - begins[tp] for tp in open_places)
    done = dict.fromkeys(open_places, 0)
    consumer.assign(open_places)
    for tp in open_places:
        consumer.seek(tp, begins[tp])
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S) as patience:
        while open_places:
            for tp, records in (await consumer.getmany(timeout_ms=_FETCH_WAIT_MS)).items():
                _take(evidence, tp.topic, [(record.key, record.value) for record in records])
                # The client itself waits for ever for a broker that is away.
                patience.reschedule(loop.time() + CONNECT_TIMEOUT_S)
            for tp in list(open_places):
                position = await consumer.position(tp)
                done[tp] = min(position, ends[tp]) - begins[tp]
                if position >= ends[tp]:
                    consumer.pause(tp)
                    open_places.remove(tp)
            progress(sum(done.values()), total)


def _take(evidence: Evidence, topic: str, entries: list[tuple[bytes | None, bytes | None]]) -> None:
    if topic == ORDERS_CHANGELOG:
        evidence.orders_changelog(entries)
    elif topic == SHOPS_CHANGELOG:
        evidence.shops_changelog(entries)
    else:
        evidence.outputs(topic, entries)
