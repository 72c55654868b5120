"""Topic ids from a real broker: a topic created again has another one."""

import asyncio
import uuid

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.kafka.topic_ids import topic_ids
from tests.integration.topics import create_topics

pytestmark = pytest.mark.kafka


async def test_a_topic_created_again_has_another_id(broker: str) -> None:
    """And a topic that does not exist has none, nor is it created by asking."""
    topic, other = (f"{name}-{uuid.uuid4().hex}" for name in ("same-name", "never-made"))
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await create_topics(admin, NewTopic(topic, 3, 1))
    first = await topic_ids(admin, [topic, other])
    assert list(first) == [topic]
    assert len(first[topic]) == 22
    assert await topic_ids(admin, [topic]) == first
    await admin.delete_topics([topic])
    while topic in await admin.list_topics():
        await asyncio.sleep(0.05)
    await create_topics(admin, NewTopic(topic, 3, 1))
    assert (await topic_ids(admin, [topic]))[topic] != first[topic]
    assert other not in await admin.list_topics()
    await admin.close()
