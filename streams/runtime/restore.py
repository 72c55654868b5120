"""Bring a partition's task back: its changelog from the beginning to the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from aiokafka import TopicPartition

from streams.runtime.errors import PartitionRefused
from streams.runtime.lean import AsEntries, entries, lean, readable
from streams.runtime.logs import event
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage, Task

log = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 1.0


@runtime_checkable
class LargeTask(Task, Protocol):
    """A task with so many states that it cannot finish a restore in one go."""

    def restored_in_parts(self) -> Iterator[None]: ...


async def restore(settings: Settings, stage: Stage, partition: int, task: Task) -> int:
    """Feed the task its changelog; return up to where the changelog is decided.

    The end does not move if the caller has fenced the last owner. Another's changelog may grow
    meanwhile: it is read until no transaction of it is read in part.
    """
    tp = TopicPartition(stage.changelog, partition)
    mark = AsEntries(settings.inflated_bytes_max) if lean() else None
    consumer = settings.connection.consumer(
        client_id=f"{settings.app_id}-{stage.name}-{partition}-restore",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 * settings.fetch_partition_bytes,
        request_timeout_ms=settings.request_timeout_ms,
        fetch_max_wait_ms=settings.fetch_wait_ms,
        value_deserializer=mark,
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end: int = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, begin)
        count = 0
        next_progress = time.monotonic() + _PROGRESS_INTERVAL_S
        position = begin
        while position != end:
            if position > end:
                end = (await consumer.end_offsets([tp]))[tp]
                continue
            if mark is not None:
                mark.begin()
            fetched = await consumer.getmany(tp, timeout_ms=settings.fetch_wait_ms)
            read, unread = readable(fetched)
            for records in read.values():
                for batch in entries(records):
                    task.restore(batch)
                    count += len(batch)
            if tp in unread:
                raise PartitionRefused(
                    f"the changelog {tp.topic}[{tp.partition}] cannot be read at offset "
                    f"{unread[tp].first}: {unread[tp].detail}",
                    "see Batches that cannot be read in docs/semantics.md",
                )
            position = await consumer.position(tp)
            if time.monotonic() > next_progress and position < end:
                next_progress += _PROGRESS_INTERVAL_S
                percent = 100 * (position - begin) // (end - begin)
                event(log, "restoring", stage=stage.name, partition=partition, records=count,
                      percent=percent)  # fmt: skip
        if isinstance(task, LargeTask):
            for _ in task.restored_in_parts():
                # Heartbeats, and the commits of partitions that are further.
                await asyncio.sleep(0)
        else:
            task.restored()
        return end
    finally:
        await consumer.stop()
