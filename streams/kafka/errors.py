"""What goes wrong with a cluster, as one clear line with what to do about it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    RecordListTooLargeError,
)

from streams.core.errors import UserError
from streams.kafka.acls import Acl, missing
from streams.kafka.connection import Connection
from streams.kafka.diagnosis import Finding, diagnose, unreachable

UNREACHABLE = (
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    OSError,
    TimeoutError,
)
"""What a client raises when no broker answers it, or none lets it in."""


class ClientError(UserError):
    """Why a cluster cannot do what was asked."""


@asynccontextmanager
async def clear_errors(connection: Connection, needs: Sequence[Acl] = ()) -> AsyncIterator[None]:
    """Raise as a `ClientError` what goes wrong with the cluster in the block.

    Args:
        needs: The rights that the block needs, so that one which is missing can be named.
    """
    # What aiokafka logs is reported anyway.
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    except UNREACHABLE as error:
        raise _error(await why_unreachable(connection, error)) from None
    except (MessageSizeTooLargeError, RecordListTooLargeError):
        raise ClientError(
            f"the broker at {connection.bootstrap} refuses an event as too large",
            "divide it; the topic's max.message.bytes is the limit",
        ) from None
    except KafkaError as error:
        if found := missing(error, needs):
            raise _error(found) from None
        text = " ".join(str(error).split())
        raise ClientError(f"the broker at {connection.bootstrap} refused: {text}") from None
    finally:
        logger.setLevel(level)


async def why_unreachable(connection: Connection, error: BaseException) -> Finding:
    """Say why the client could not connect; if it could now, what it waited for in vain."""
    if found := await diagnose(connection):
        return found
    if isinstance(error, (TimeoutError, KafkaTimeoutError)):
        return Finding(
            f"the broker at {connection.bootstrap} answers, but not in time to all that was asked",
            "a partition may have no leader, or a topic may just be being deleted: see `shipclock "
            "topics check`, and try again",
            False,
        )
    return unreachable(connection, " ".join(str(error).split()) or "no answer in time")


def _error(found: Finding) -> ClientError:
    return ClientError(found.detail, found.hint)
