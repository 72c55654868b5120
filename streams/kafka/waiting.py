"""Waiting for a broker: every wait has a limit, and always ends with an answer or an error.

aiokafka asks again for as long as a request fails, waits for tasks of its own that may have died,
and may end by cancelling itself, which looks as if the caller had been cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError

CLOSE_LIMIT_MS = 1_500
# Long enough for a transaction that is under way; then nothing of the client may go on.
_CUT_OFF_S = 30.0

# Spreads retries.
_draw = random.Random()
_closing: set[asyncio.Task[None]] = set()


@contextlib.asynccontextmanager
async def within(limit_ms: int, what: str) -> AsyncIterator[None]:
    """Limit how long the block may wait for the broker.

    Raises:
        KafkaTimeoutError: It took longer; `what` says what was waited for.
        KafkaError: The client cancelled itself.
    """
    try:
        async with asyncio.timeout(limit_ms / 1000):
            yield
    except TimeoutError:
        raise KafkaTimeoutError(f"no answer within {limit_ms / 1000:g} s: {what}") from None
    except asyncio.CancelledError:
        if cancelled():
            raise
        raise KafkaError(f"the client gave up: {what}") from None


def cancelled() -> bool:
    """Return whether the current task was cancelled; if not, a CancelledError is the client's."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def close_quietly(
    close: Callable[[], Coroutine[Any, Any, None]], client: object, limit_ms: int = CLOSE_LIMIT_MS
) -> None:
    """Close a client without waiting long for a broker that is away.

    After the limit it is closed in the background, and at last cut off: a member of a group that
    goes on sending heartbeats would keep partitions that nobody processes.
    """
    task = asyncio.create_task(_closed(close, client))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.wait([task], timeout=limit_ms / 1000)


async def _closed(close: Callable[[], Coroutine[Any, Any, None]], client: object) -> None:
    try:
        # What ended its use has been reported; what its end raises adds nothing.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CUT_OFF_S):
                await close()
    finally:
        _cut_off(client)


def _cut_off(client: object) -> None:
    """End what a client and its parts have begun: tasks and connections."""
    for part in (client, *getattr(client, "__dict__", {}).values()):
        if type(part).__module__.partition(".")[0] != "aiokafka":
            continue
        for value in vars(part).values():
            if isinstance(value, asyncio.Task):
                value.cancel()
        for connection in getattr(part, "_conns", {}).values():
            connection.close()


def jittered(seconds: float) -> float:
    """Spread a pause by a quarter each way, so that many do not try again at one instant."""
    return seconds * _draw.uniform(0.75, 1.25)
