"""Waits for a broker end: with an answer, with an error, or cut off."""

import asyncio
import gc

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.kafka import waiting


async def cancels_itself() -> None:
    """End as aiokafka's fetcher does when it closes: a task of its own was cancelled."""
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def test_a_wait_has_a_limit() -> None:
    """What hangs is told by its name."""
    with pytest.raises(KafkaTimeoutError, match=r"no answer within 0\.01 s: the ends"):
        async with waiting.within(10, "the ends"):
            await asyncio.Event().wait()


async def test_a_client_that_cancels_itself_is_an_error() -> None:
    """Nobody cancelled the caller: it goes on, and knows."""
    with pytest.raises(KafkaError, match="the client gave up: the ends"):
        async with waiting.within(10_000, "the ends"):
            await cancels_itself()


async def test_who_is_cancelled_stays_cancelled() -> None:
    """A worker that stops does not take it for a mistake of the client."""

    async def ask() -> None:
        async with waiting.within(10_000, "the ends"):
            await asyncio.Event().wait()

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()


@pytest.mark.parametrize("end", [cancels_itself, asyncio.Event().wait])
async def test_closing_harms_nobody(end: object) -> None:
    """Neither a client that hangs nor one that cancels itself reaches the caller."""
    async with asyncio.timeout(5):
        await waiting.close_quietly(end, object(), 10)  # type: ignore[operator]


async def test_a_client_that_does_not_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heartbeats would keep partitions in the group that nobody processes."""

    class Part:
        def __init__(self) -> None:
            self.heartbeat = asyncio.create_task(asyncio.Event().wait())

    class Client:
        def __init__(self) -> None:
            self.coordinator = Part()

    Part.__module__ = Client.__module__ = "aiokafka.consumer"
    monkeypatch.setattr(waiting, "_CUT_OFF_S", 0.01)
    client = Client()
    await waiting.close_quietly(asyncio.Event().wait, client)  # type: ignore[arg-type]
    await asyncio.wait([client.coordinator.heartbeat], timeout=5)
    assert client.coordinator.heartbeat.cancelled()


def test_pauses_differ() -> None:
    """Many that failed together do not try again together."""
    pauses = {waiting.jittered(4.0) for _ in range(50)}
    assert len(pauses) > 40
    assert all(3.0 <= pause <= 5.0 for pause in pauses)


def test_a_close_that_has_not_begun_when_the_program_ends_warns_of_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """As of a worker that is refused: a coroutine made beforehand would never be awaited."""

    class Client:
        async def stop(self) -> None: ...

    async def refused() -> None:
        client = Client()
        asyncio.create_task(waiting.close_quietly(client.stop, client)).cancel()

    asyncio.run(refused())
    gc.collect()
    assert [str(one.message) for one in recwarn] == []
