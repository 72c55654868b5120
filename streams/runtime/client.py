"""What short-lived commands need of a cluster: an answer in seconds, or one clear line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    RecordListTooLargeError,
)

from streams.core.errors import UserError
from streams.kafka.connection import Connection
from streams.runtime.logs import reason

# Long enough for a slow broker, short enough for a person who mistyped an address.
CONNECT_TIMEOUT_S = 8.0
# For a broker that is away.
_CLOSE_TIMEOUT_S = 2.0


class ClientError(UserError):
    """Why a cluster cannot do what was asked."""


@asynccontextmanager
async def connected(connection: Connection) -> AsyncIterator[dict[str, int]]:
    """Ask a cluster for its topics, and tell what goes wrong in the block as a `ClientError`.

    Yields:
        The partition count of every topic.
    """
    bootstrap = connection.bootstrap
    try:
        collect_hosts(bootstrap)
    except ValueError:
        raise ClientError(f"{bootstrap!r} is no broker address", "give host:port", 2) from None
    # What aiokafka logs is told to the person anyway.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    try:
        yield await _partition_counts(connection)
    except (KafkaConnectionError, NodeNotReadyError, OSError, TimeoutError):
        raise ClientError(
            f"no Kafka broker answers at {bootstrap}",
            "start one with `shipclock broker start`, or give its address with --bootstrap",
        ) from None
    except (MessageSizeTooLargeError, RecordListTooLargeError):
        raise ClientError(
            f"the broker at {bootstrap} refuses an event as too large",
            "divide it; the topic's max.message.bytes is the limit",
        ) from None
    except KafkaError as error:
        raise ClientError(f"the broker at {bootstrap} refused: {reason(error)}") from None


def count_of(topic: str, counts: dict[str, int]) -> int:
    """Partition count of a topic that must exist."""
    if topic not in counts:
        raise ClientError(f"topic {topic} does not exist", "shipclock topics create")
    return counts[topic]


async def let_go(closing: Coroutine[Any, Any, None]) -> None:
    """Disconnect; a broker that is away is not waited for.

    What the client says of it is dropped: it may even end by cancelling itself, which would look
    like Ctrl-C, and the reason has been told.
    """
    task = asyncio.create_task(closing)
    await asyncio.wait([task], timeout=_CLOSE_TIMEOUT_S)
    if task.done() and not task.cancelled():
        task.exception()


async def _partition_counts(connection: Connection) -> dict[str, int]:
    admin = connection.admin()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await admin.start()
            # All topics are listed: asking for one by name may create it.
            return {
                topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()
            }
    finally:
        await let_go(admin.close())
