"""What the integration tests share: topics made and deleted, and the broker's word for it."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.kafka.topic_admin import planned_topics

TOPICS = [file.topic for file in planned_topics()]


async def create_topics(admin: AIOKafkaAdminClient, *topics: NewTopic) -> None:
    """Create topics and wait until the broker tells of them: it does so a moment later."""
    names = {topic.name for topic in topics}
    await admin.create_topics(list(topics))
    while not names <= set(await admin.list_topics()):
        await asyncio.sleep(0.05)


async def delete_topics(admin: AIOKafkaAdminClient, *topics: str) -> None:
    """Delete topics, or all of ours, and wait until the broker has forgotten them."""
    names = topics or TOPICS
    while found := [topic for topic in await admin.list_topics() if topic in names]:
        await admin.delete_topics(found)
        await asyncio.sleep(0.1)
