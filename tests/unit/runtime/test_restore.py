"""A restore with clients that hang: it ends, and says why."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.runtime.progress import Progress
from streams.runtime.restore import restore
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.telemetry import metrics

TP = TopicPartition("changelog", 3)


class Consumer:
    """Gives one record a fetch, until it is told to do something else instead."""

    def __init__(self) -> None:
        self.at = 0
        self.end = 5
        self.instead: dict[str, Callable[[], Awaitable[Any]]] = {}

    async def _do(self, name: str) -> None:
        if name in self.instead:
            await self.instead[name]()

    async def start(self) -> None:
        await self._do("start")

    async def stop(self) -> None:
        await self._do("stop")

    def assign(self, tps: object) -> None: ...
    def seek(self, tp: object, offset: int) -> None: ...

    async def beginning_offsets(self, tps: object) -> dict[TopicPartition, int]:
        await self._do("beginning_offsets")
        return {TP: 0}

    async def end_offsets(self, tps: object) -> dict[TopicPartition, int]:
        await self._do("end_offsets")
        return {TP: self.end}

    async def getmany(self, tp: object, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0.001)
        await self._do("getmany")
        self.at += 1
        return {TP: [SimpleNamespace(key=b"k", value=b"v")]}

    async def position(self, tp: object) -> int:
        await self._do("position")
        return self.at


async def run(consumer: Consumer, progress: Progress | None = None) -> int:
    """Restore partition 3 with short limits."""
    connection: Any = SimpleNamespace(reader=lambda **_: consumer, inflated_bytes_max=1)
    settings = Settings(
        connection=connection, answer_limit_ms=200, restore_stall_limit_ms=100, stop_timeout_ms=50
    )
    task: Any = SimpleNamespace(restore=list, restored=lambda: None)
    no_task: Any = None
    stage = Stage("bench", ("in",), (), "changelog", (), no_task)
    async with asyncio.timeout(5):
        return await restore(settings, stage, 3, task, progress or Progress("bench", 3))


async def test_what_is_left_is_measured() -> None:
    """From all offsets down to none."""
    left: list[float] = []
    gauge = metrics.RESTORE_REMAINING.labels("bench", "3")
    consumer, progress = Consumer(), Progress("bench", 3)

    async def look() -> None:
        left.append(gauge.value)

    consumer.instead["getmany"] = look
    assert await run(consumer, progress) == 5
    progress.ready()
    assert [*left, gauge.value] == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "name", ["start", "beginning_offsets", "end_offsets", "getmany", "position"]
)
async def test_an_answer_that_never_comes_ends_it(name: str) -> None:
    """Whatever hangs in the client."""
    consumer = Consumer()
    consumer.instead[name] = asyncio.Event().wait
    with pytest.raises(KafkaTimeoutError, match="no answer within"):
        await run(consumer)


async def test_a_client_that_fetches_no_more_ends_it() -> None:
    """Its fetching may have died without a word: then it answers that nothing has come."""
    consumer = Consumer()

    async def nothing() -> None:
        consumer.at -= 1

    consumer.instead["getmany"] = nothing
    with pytest.raises(KafkaTimeoutError, match="nothing was read of changelog"):
        await run(consumer)


async def test_one_that_advances_may_take_longer() -> None:
    """Each record comes late, and all of them later than the limit."""
    consumer = Consumer()

    async def late() -> None:
        await asyncio.sleep(0.04)

    consumer.instead["getmany"] = late
    assert await run(consumer) == 5


async def test_a_client_that_cancels_itself_when_it_stops_cancels_nothing_else() -> None:
    """Aiokafka's fetcher does, if it waits to try again when it is stopped."""
    consumer = Consumer()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    consumer.instead["stop"] = cancelled
    assert await run(consumer) == 5
    consumer.instead["getmany"] = cancelled
    with pytest.raises(KafkaError, match="the client gave up"):
        await run(consumer)
