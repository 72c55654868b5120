"""Let a worker go on past one batch that cannot be read."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streams.engine.records import SHOP_VIOLATIONS
from streams.kafka.connection import Connection
from streams.kafka.errors import ClientError
from streams.kafka.waiting import close_quietly
from streams.runtime.client import (
    CONNECT_TIMEOUT_S,
    connected,
    count_of,
    workers_of,
)
from streams.runtime.lean import AsColumns, Unread, lean, readable
from streams.runtime.rights import skipping_rights
from streams.runtime.unreadable import skips_group

_FETCH_WAIT_MS = 500


class Skipped(NamedTuple):
    """A batch that may be skipped."""

    batch: Unread
    before: bool
    """It was marked so already."""
    live: bool
    """Workers of the app id run; else they have run."""


async def skip(connection: Connection, app_id: str, tp: TopicPartition, offset: int) -> Skipped:
    """Keep, for the workers of an app id, that the batch at an offset may be skipped.

    Raises:
        ClientError: There is no such batch, or it can be read; or no worker of this app id is known
            to the broker; or it cannot be reached.
    """
    name = f"{tp.topic}[{tp.partition}]"
    async with connected(connection, skipping_rights(connection, app_id)) as counts:
        if not tp.partition < (count := count_of(tp.topic, counts)):
            raise ClientError(f"{tp.topic} has no partition {tp.partition}", f"it has {count}")
        if not lean():
            raise ClientError("this aiokafka cannot tell batches apart", "install version 0.14")
        stage = "shops" if tp.topic == SHOP_VIOLATIONS else "orders"
        workers = await workers_of(connection, [f"{app_id}-{stage}"])
        if workers == "unknown":
            raise ClientError(
                f"no worker with --app-id {app_id} has worked on {tp.topic}, so nothing is skipped",
                "give the app_id of the worker whose log names the batch, or start it first",
            )
        mark = AsColumns(connection.inflated_bytes_max)
        consumer = connection.consumer(
            group_id=skips_group(app_id),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            value_deserializer=mark,
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await consumer.start()
                consumer.assign([tp])
                begin = (await consumer.beginning_offsets([tp]))[tp]
                end = (await consumer.end_offsets([tp]))[tp]
                if not begin <= offset < end:
                    raise ClientError(
                        f"{name} has no offset {offset}", f"it has those from {begin} to {end - 1}"
                    )
                consumer.seek(tp, offset)
                fetched: dict[TopicPartition, list[object]] = {}
                while not fetched and await consumer.position(tp) < end:
                    mark.begin()
                    fetched = await consumer.getmany(tp, timeout_ms=_FETCH_WAIT_MS)
                read, unread = readable(fetched)
                if tp in read or tp not in unread:
                    raise ClientError(
                        f"{name} can be read at offset {offset}, so nothing is skipped",
                        "give the offset that the worker's log names",
                    )
                batch = unread[tp]
                before = await consumer.committed(tp) == batch.first
                await consumer.commit({tp: OffsetAndMetadata(batch.first, "")})
        finally:
            await close_quietly(consumer.stop, consumer)
    return Skipped(batch, before, workers == "live")
