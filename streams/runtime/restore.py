"""Bring a partition's task back: its changelog from the beginning to the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from streams.kafka.waiting import close_quietly, within
from streams.runtime.errors import PartitionRefused
from streams.runtime.lean import AsEntries, entries, lean, readable
from streams.runtime.progress import Progress
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage, Task


@runtime_checkable
class LargeTask(Task, Protocol):
    """A task with so many states that it cannot finish a restore in one go."""

    def restored_in_parts(self) -> Iterator[None]: ...


async def restore(
    settings: Settings, stage: Stage, partition: int, task: Task, progress: Progress
) -> int:
    """Feed the task its changelog; return up to where the changelog is decided.

    The end does not move if the caller has fenced the last owner. Another's changelog may grow
    meanwhile: it is read until no transaction of it is read in part. It may take as long as it
    advances.

    Raises KafkaError if the broker does not answer, or nothing was read for the limit.
    """
    tp = TopicPartition(stage.changelog, partition)
    mark = AsEntries(settings.connection.inflated_bytes_max) if lean() else None
    consumer = settings.connection.reader(
        client_id=f"{settings.app_id}-{stage.name}-{partition}-restore",
        max_partition_fetch_bytes=4 * settings.fetch_partition_bytes,
        request_timeout_ms=settings.request_timeout_ms,
        fetch_max_wait_ms=settings.fetch_wait_ms,
        value_deserializer=mark,
    )
    name = f"{tp.topic}[{tp.partition}]"

    async def end_now() -> int:
        async with within(settings.answer_limit_ms, f"the end of {name}"):
            return int((await consumer.end_offsets([tp]))[tp])

    try:
        async with within(settings.answer_limit_ms, f"the beginning of {name}"):
            await consumer.start()
            consumer.assign([tp])
            begin = (await consumer.beginning_offsets([tp]))[tp]
        end = await end_now()
        consumer.seek(tp, begin)
        position = begin
        advanced_s = time.monotonic()
        while position != end:
            if position > end:
                end = await end_now()
                continue
            progress.restoring(end - position, end - begin)
            if mark is not None:
                mark.begin()
            async with within(settings.answer_limit_ms, f"records of {name}"):
                fetched = await consumer.getmany(tp, timeout_ms=settings.fetch_wait_ms)
            read, unread = readable(fetched)
            for records in read.values():
                for batch in entries(records):
                    task.restore(batch)
            if tp in unread:
                raise PartitionRefused(
                    f"the changelog {tp.topic} cannot be read: {unread[tp].detail}",
                    "see Batches that cannot be read in docs/operations.md",
                    f"{name} at offset {unread[tp].first}",
                )
            async with within(settings.answer_limit_ms, f"the position in {name}"):
                before, position = position, await consumer.position(tp)
            if position != before:
                advanced_s = time.monotonic()
            elif time.monotonic() > advanced_s + settings.restore_stall_limit_ms / 1000:
                raise KafkaTimeoutError(
                    f"nothing was read of {name} for {settings.restore_stall_limit_ms / 1000:g} s"
                )
        if isinstance(task, LargeTask):
            for _ in task.restored_in_parts():
                # Heartbeats, and the commits of partitions that are further.
                await asyncio.sleep(0)
        else:
            task.restored()
        return end
    finally:
        await close_quietly(consumer.stop, consumer, settings.stop_timeout_ms)
