"""What short-lived commands need of a cluster: an answer in seconds, or one clear line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    RecordListTooLargeError,
)

from streams.runtime.logs import reason

# Long enough for a slow broker, short enough for a person who mistyped an address.
CONNECT_TIMEOUT_S = 8.0


class ClientError(Exception):
    """A cluster that cannot do what was asked: `message` says why, `hint` what to do.

    `exit_code` is the command's: 1, or 2 if it was used wrongly.
    """

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


@asynccontextmanager
async def connected(bootstrap: str) -> AsyncIterator[dict[str, int]]:
    """Ask a cluster for its topics, and tell what goes wrong in the block as a `ClientError`.

    Yields:
        The partition count of every topic.
    """
    try:
        collect_hosts(bootstrap)
    except ValueError:
        raise ClientError(f"{bootstrap!r} is no broker address", "give host:port", 2) from None
    # What aiokafka logs is told to the person anyway.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    try:
        yield await _partition_counts(bootstrap)
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


async def _partition_counts(bootstrap: str) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await admin.start()
            # All topics are listed: asking for one by name may create it.
            return {
                topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()
            }
    finally:
        await admin.close()
