"""Look at somebody's broker before the demo writes there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.demo.errors import DemoError
from streams.kafka.connection import Connection
from streams.kafka.groups import busy_groups
from streams.kafka.topic_admin import check_topics


async def look_around(connection: Connection) -> bool:
    """Tell whether shipclock's topics are there already, empty and unattended.

    Raises:
        DemoError: The demo's records would mix with others, or another worker would take them.
        TopicsError: The broker cannot be reached, or its topics do not fit together.
    """
    bootstrap = connection.bootstrap
    states = await check_topics(connection)
    present = [state.file.topic for state in states if state.status != "missing"]
    if not present:
        return False
    if len(present) < len(states):
        missing = [state.file.topic for state in states if state.status == "missing"]
        raise DemoError(
            f"some of shipclock's topics are missing at {bootstrap}: {', '.join(missing)}",
            "create them with: shipclock topics create",
        )
    admin = connection.admin()
    try:
        await admin.start()
        counts = {
            topic["topic"]: len(topic["partitions"])
            for topic in await admin.describe_topics(present)
        }
        busy = await busy_groups(admin)
    finally:
        with contextlib.suppress(KafkaError):
            await admin.close()
    if busy:
        raise DemoError(
            f"a worker runs at {bootstrap} (group {busy[0]}): it would judge the demo's orders too",
            "stop it first, or leave --bootstrap out",
        )
    written = await _written(connection, counts)
    if written:
        raise DemoError(
            f"topics at {bootstrap} hold records already ({', '.join(written[:3])}): the demo's "
            "made-up orders would mix with them",
            "leave --bootstrap out, or take a broker whose shipclock topics are empty",
        )
    return True


async def _written(connection: Connection, counts: Mapping[str, int]) -> list[str]:
    """Name the topics that hold or held records."""
    tps = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
    async with connection.consumer(group_id=None) as consumer:
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
    return list(dict.fromkeys(tp.topic for tp in tps if ends[tp] > 0))
