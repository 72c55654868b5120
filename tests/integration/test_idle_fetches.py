"""How long a real broker holds the fetches of an idle reader, and that nothing waits for that."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.runtime.lean import AsColumns, lean
from tests.integration.topics import create_topics

pytestmark = pytest.mark.kafka

SHORT_MS, LONG_MS = 100, 5_000


@asynccontextmanager
async def reading(
    broker: str,
) -> AsyncIterator[tuple[AIOKafkaConsumer, AIOKafkaProducer, list[TopicPartition]]]:
    """Give a reader of two partitions that are idle, as a stage's, and who may write to them."""
    assert lean()
    topic = f"idle-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await create_topics(admin, NewTopic(topic, 2, 1))
    await admin.close()
    tps = [TopicPartition(topic, number) for number in range(2)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        enable_auto_commit=False,
        isolation_level="read_committed",
        value_deserializer=AsColumns(idle_wait_ms=LONG_MS),
        fetch_max_wait_ms=SHORT_MS,
    )
    producer = AIOKafkaProducer(bootstrap_servers=broker, transactional_id=topic)
    await consumer.start()
    await producer.start()
    try:
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        yield consumer, producer, tps
    finally:
        await consumer.stop()
        await producer.stop()


async def fetched(consumer: AIOKafkaConsumer, tp: TopicPartition) -> float:
    """Return how many seconds it takes until something of a partition has come."""
    began_s = time.monotonic()
    while tp not in await consumer.getmany(timeout_ms=SHORT_MS):
        assert time.monotonic() < began_s + 10
    return time.monotonic() - began_s


async def stamps(consumer: AIOKafkaConsumer, tp: TopicPartition, seconds: float) -> set[Any]:
    """Return when a partition was fetched, as the client stamps it, while some seconds pass."""
    found = set()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        assert not await consumer.getmany(timeout_ms=SHORT_MS // 4)
        found.add(consumer.last_poll_timestamp(tp))
    return found


async def send(producer: AIOKafkaProducer, tp: TopicPartition) -> None:
    """Commit one record."""
    async with producer.transaction():
        await producer.send_and_wait(tp.topic, b"v", partition=tp.partition)


async def test_an_idle_reader_fetches_seldom_and_gets_the_first_record_at_once(broker: str) -> None:
    """The broker holds the fetch, and ends the wait when a transaction is committed."""
    async with reading(broker) as (consumer, producer, tps):
        assert len(await stamps(consumer, tps[0], 2)) <= 2
        for tp in (*tps, *tps):
            await send(producer, tp)
            assert await fetched(consumer, tp) < LONG_MS / 1000 / 2


async def test_a_resumed_partition_does_not_wait_for_an_idle_one(broker: str) -> None:
    """While one rests the fetches without it are short."""
    async with reading(broker) as (consumer, producer, tps):
        await send(producer, tps[0])
        await fetched(consumer, tps[0])
        consumer.pause(tps[0])
        await send(producer, tps[0])
        # The fetch in flight asked for both, so it brings what was sent, which is then left out.
        assert len(await stamps(consumer, tps[1], 2)) > 5
        consumer.resume(tps[0])
        assert await fetched(consumer, tps[0]) < LONG_MS / 1000 / 2


async def test_what_is_not_taken_in_time_is_fetched_on_at_once_when_it_is(broker: str) -> None:
    """A reader that is slow to take a partition's records leaves it out of the next fetch."""
    async with reading(broker) as (consumer, producer, tps):
        await send(producer, tps[0])
        await asyncio.sleep(1)
        await fetched(consumer, tps[0])
        await send(producer, tps[0])
        assert await fetched(consumer, tps[0]) < LONG_MS / 1000 / 2
