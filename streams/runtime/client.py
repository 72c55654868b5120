"""What short-lived commands need of a cluster: an answer in seconds, or one clear line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from streams.kafka.acls import Acl, hidden_topics
from streams.kafka.connection import Connection
from streams.kafka.errors import ClientError, clear_errors
from streams.kafka.waiting import close_quietly

# Long enough for a slow broker, short enough for a person who mistyped an address.
CONNECT_TIMEOUT_S = 8.0

Workers = Literal["live", "stopped", "unknown"]
"""Whether workers run, or ran; Kafka forgets those that stopped a week ago."""


@asynccontextmanager
async def connected(
    connection: Connection, needs: Sequence[Acl] = ()
) -> AsyncIterator[dict[str, int]]:
    """Ask a cluster for its topics, and report what goes wrong in the block as a `ClientError`.

    Args:
        needs: The rights that the block needs.

    Yields:
        The partition count of every topic that this user may see.
    """
    async with clear_errors(connection, needs):
        yield await _partition_counts(connection, needs)


def count_of(topic: str, counts: dict[str, int]) -> int:
    """Partition count of a topic that must exist."""
    if topic not in counts:
        raise ClientError(f"topic {topic} does not exist", "shipclock topics create")
    return counts[topic]


async def workers_of(connection: Connection, groups: Sequence[str]) -> Workers:
    """Tell whether any of these consumer groups has live members, or else exists.

    A group that this user has no right to see counts as one with members.
    """
    admin = connection.admin()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await admin.start()
            described = await admin.describe_consumer_groups(list(groups))
        found = [group for answer in described for group in answer.groups]
    except KafkaError:
        return "live"
    finally:
        await close_quietly(admin.close, admin)
    if any(error_code or members for error_code, _, _, _, _, members, *_ in found):
        return "live"
    return "unknown" if all(state == "Dead" for _, _, state, *_ in found) else "stopped"


async def _partition_counts(connection: Connection, needs: Sequence[Acl]) -> dict[str, int]:
    admin = connection.admin()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await admin.start()
            # All topics are listed: asking for one by name may create it.
            counts = {
                topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()
            }
            wanted = {acl.name for acl in needs if acl.resource == "topic"}
            unseen = wanted - {connection.topic_prefix + topic for topic in counts}
            if hidden := await hidden_topics(admin, unseen):
                raise TopicAuthorizationFailedError(hidden)
            return counts
    finally:
        await close_quietly(admin.close, admin)
