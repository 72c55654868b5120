"""Mistakes that the simulation must notice: each is one that somebody could make in the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

import streams.runtime.restore
from streams.engine.records import META_KEY, Checkpoint
from streams.runtime.checkpoint import Transactions
from streams.runtime.partition import Partition
from tests.simulation.clients import MemoryConsumer, MemoryProducer
from tests.simulation.world import World

_NEVER_MS = 10**12

Mutant = Callable[[World], AbstractContextManager[None]]


@contextmanager
def offsets_apart(world: World) -> Iterator[None]:
    """Commit offsets at once, not with the transaction."""

    async def send(
        self: MemoryProducer, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None:
        for tp, offset in offsets.items():
            world.kafka.commit_offset(group_id, tp, offset)

    with patch.object(MemoryProducer, "send_offsets_to_transaction", send):
        yield


@contextmanager
def no_fencing(world: World) -> Iterator[None]:
    """Give every producer a transactional id of its own, so that nobody is fenced."""
    made = 0
    begin = MemoryProducer.__init__

    def init(self: MemoryProducer, *args: Any, transactional_id: str, **options: Any) -> None:
        nonlocal made
        made += 1
        begin(self, *args, transactional_id=f"{transactional_id}-{made}", **options)

    with patch.object(MemoryProducer, "__init__", init):
        yield


@contextmanager
def memory_kept(world: World) -> Iterator[None]:
    """Abort a transaction that failed, and go on with the memory that ran ahead."""
    commit = Transactions.commit

    async def go_on(self: Transactions, checkpoint: Checkpoint) -> None:
        try:
            await commit(self, checkpoint)
        except ProducerFenced:
            raise
        except KafkaError:
            with suppress(KafkaError, IllegalOperation):
                await self._producer.abort_transaction()
            self._open = False

    with patch.object(Transactions, "commit", go_on):
        yield


@contextmanager
def frontier_forgotten(world: World) -> Iterator[None]:
    """Let a restored task begin with no place in time."""

    def forget(entries: Iterable[tuple[bytes, bytes | None]]) -> list[tuple[bytes, bytes | None]]:
        return [(key, timeless(value) if key == META_KEY else value) for key, value in entries]

    def timeless(meta: bytes | None) -> bytes:
        version, policy, _, times, *rest = msgspec.msgpack.decode(meta or b"")
        return msgspec.msgpack.encode((version, policy, 0, [0] * len(times), *rest))

    kinds = {type(stage.new_task(0, world.counts)) for stage in world.stages}
    with _each(kinds, "restore", lambda restore: lambda self, some: restore(self, forget(some))):
        yield


@contextmanager
def aborted_seen(world: World) -> Iterator[None]:
    """Read inputs and changelogs uncommitted."""
    begin = MemoryConsumer.__init__

    def init(self: MemoryConsumer, *args: Any, **options: Any) -> None:
        begin(self, *args, **options | {"isolation_level": "read_uncommitted"})

    with patch.object(MemoryConsumer, "__init__", init):
        yield


@contextmanager
def ends_of_later(world: World) -> Iterator[None]:
    """Let a topic read to its end count as read up to now, with no slack left."""
    batch = Partition.batch

    def later(self: Partition, records: Any, now_ms: int, completed: Any, as_of_ms: int) -> Any:
        return batch(self, records, now_ms, completed, world.clock.now_ms())

    with patch.object(Partition, "batch", later):
        yield


@contextmanager
def refused_batch_forgotten(world: World) -> Iterator[None]:
    """Commit without asking what became of the batches."""
    send = MemoryProducer.send_batch

    async def forget(self: MemoryProducer, *args: Any, **options: Any) -> Any:
        delivery = await send(self, *args, **options)
        return asyncio.create_task(_quietly(delivery))

    with patch.object(MemoryProducer, "send_batch", forget):
        yield


@contextmanager
def record_skipped(world: World) -> Iterator[None]:
    """Read on one record too far after a rebalance that leaves us the partition."""
    release = Partition.release

    def skip(self: Partition) -> None:
        for topic, offset in self.flow.read_to.items():
            end = world.kafka.logs[TopicPartition(topic, self.number)].end
            self.flow.read_to[topic] = min(offset + 1, end)
        release(self)

    with patch.object(Partition, "release", skip):
        yield


@contextmanager
def impatient(world: World) -> Iterator[None]:
    """Send a transaction's request again while the first may still wait in the broker."""
    begin = MemoryProducer.__init__

    def init(self: MemoryProducer, *args: Any, **options: Any) -> None:
        begin(self, *args, **options | {"request_timeout_ms": 100})

    with patch.object(MemoryProducer, "__init__", init):
        yield


@contextmanager
def no_prove(world: World) -> Iterator[None]:
    """Believe what was restored, though another may have taken over meanwhile."""

    async def believe(self: Transactions, offsets: Mapping[TopicPartition, int]) -> None: ...

    with patch.object(Transactions, "prove_ownership", believe):
        yield


@contextmanager
def endless_restore(world: World) -> Iterator[None]:
    """Wait without limit for a changelog's records."""
    with _without(world, "restore_stall_limit_ms"):
        yield


@contextmanager
def endless_fetch(world: World) -> Iterator[None]:
    """Read on, without limit, with a client that has ceased to fetch."""
    with _without(world, "fetch_limit_ms"):
        yield


@contextmanager
def stop_awaited(world: World) -> Iterator[None]:
    """Wait for a client to stop for as long as that takes."""

    async def close(end: Callable[[], Awaitable[None]], client: object, limit_ms: int) -> None:
        with suppress(Exception):
            await end()

    with patch.object(streams.runtime.restore, "close_quietly", close):
        yield


@contextmanager
def _without(world: World, limit: str) -> Iterator[None]:
    world.settings = replace(world.settings, **{limit: _NEVER_MS})  # type: ignore[arg-type]
    yield


async def _quietly(delivery: asyncio.Future[None]) -> None:
    await asyncio.wait([delivery])


@contextmanager
def _each(kinds: Iterable[type], name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    patches = [patch.object(kind, name, change(getattr(kind, name))) for kind in kinds]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


MUTANTS: dict[str, Mutant] = {
    "offsets-apart": offsets_apart,
    "no-fencing": no_fencing,
    "memory-kept": memory_kept,
    "frontier-forgotten": frontier_forgotten,
    "aborted-seen": aborted_seen,
    "ends-of-later": ends_of_later,
    "refused-batch-forgotten": refused_batch_forgotten,
    "record-skipped": record_skipped,
    "impatient": impatient,
    "no-prove": no_prove,
    "endless-restore": endless_restore,
    "endless-fetch": endless_fetch,
    "stop-awaited": stop_awaited,
}
