"""Load topics, run worker processes, wait until they are done, read what they wrote."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.codec.states.checkpoint import decode_head
from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.marks import request_record
from streams.engine.records import META_KEY, SHOPS_CHANGELOG
from streams.kafka.connection import Connection
from streams.kafka.groups import busy_groups
from streams.kafka.topic_admin import ensure_topics, planned_topics
from streams.settings import environment_of

OUTPUT_TOPICS = (
    "timeout",
    "penalty",
    "product-ban",
    "shop-action",
    "deadline-warning",
    "deadline-changed",
    "notification",
    "order-closure",
    "dead-letter",
)
_POLL_S = 0.2
# A session lasts 10 s, as nothing here sets another.
_LEFT_S = 60
_BATCH_BYTES = 900_000


class LogRecord(NamedTuple):
    """A record to load, or one that was read."""

    topic: str
    partition: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    offset: int = -1
    """Where it was read; unknown before."""


async def load(connection: Connection, records: Iterable[LogRecord]) -> int:
    """Write records to their partitions with their own timestamps; returns how many."""
    producer = connection.producer(max_batch_size=_BATCH_BYTES)
    await producer.start()
    count = 0
    try:
        builders: dict[tuple[str, int], BatchBuilder] = {}
        for record in records:
            place = record.topic, record.partition
            builder = builders.get(place)
            if builder is None:
                builder = builders[place] = producer.create_batch()
            fields = {"key": record.key, "value": record.value, "timestamp": record.timestamp}
            if builder.append(**fields) is None:
                await producer.send_batch(builder, record.topic, partition=record.partition)
                builder = builders[place] = producer.create_batch()
                builder.append(**fields)
            count += 1
        for (topic, partition), builder in builders.items():
            await producer.send_batch(builder, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    return count


async def empty_topics(
    connection: Connection, partitions: int, shop_partitions: int | None = None
) -> None:
    """Create all topics anew, whatever was in them; the shops' own may have another count.

    A worker that was killed counts as live, with its rules, until its session ends: waits for it.
    """
    admin = connection.admin()
    await admin.start()
    try:
        async with asyncio.timeout(_LEFT_S):
            while await _attended(admin):
                await asyncio.sleep(_POLL_S)
        ours = {planned.topic for planned in planned_topics()}
        while found := sorted(ours.intersection(await admin.list_topics())):
            await admin.delete_topics(found)
            await asyncio.sleep(_POLL_S)
    finally:
        await admin.close()
    await ensure_topics(connection, partitions, shop_partitions=shop_partitions)


async def _attended(admin: AIOKafkaAdminClient) -> bool:
    """Tell whether a worker is in its group; nobody is while a fresh broker has no coordinator."""
    try:
        return bool(await busy_groups(admin))
    except GroupCoordinatorNotAvailableError:
        return False


class WorkerProcess:
    """A `shipclock worker` of its own; its log goes to a file."""

    program: Sequence[str] = ("-m", "streams")
    """What Python runs as `shipclock`."""

    def __init__(self, connection: Connection, log_path: Path, *options: str) -> None:
        self._log = log_path.open("ab")
        self.log_path = log_path
        self.process = subprocess.Popen(
            [
                sys.executable,
                *self.program,
                "worker",
                "--bootstrap",
                connection.bootstrap,
                *options,
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment_of(connection), "PYTHONUNBUFFERED": "1"},
        )

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_path.read_text()

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()
        self._log.close()

    def stop(self, timeout_s: float = 10) -> int:
        """Ask it to stop; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout_s)
        self._log.close()
        return code


def restored(log: str) -> set[tuple[str, int]]:
    """Return stage and number of the partitions of which a log says that they were restored."""
    found = re.findall(r" restored +stage=(\S+) partitions=([\d,-]+) ", log)
    return {(stage, number) for stage, ranges in found for number in numbers(ranges)}


def numbers(ranges: str) -> list[int]:
    """Read partition numbers as the log writes them, such as `0-3,7`."""
    found: list[int] = []
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


async def read(connection: Connection, topics: Iterable[str]) -> list[LogRecord]:
    """Read topics from beginning to end, committed records only."""
    consumer = connection.reader(*topics)
    await consumer.start()
    records: list[LogRecord] = []
    try:
        assigned = list(consumer.assignment())
        ends = await consumer.end_offsets(assigned)
        while any([await consumer.position(tp) < ends[tp] for tp in assigned]):
            for tp, fetched in (await consumer.getmany(timeout_ms=200)).items():
                records += [
                    LogRecord(
                        tp.topic,
                        r.partition,
                        r.timestamp,
                        r.key,
                        r.value,
                        tuple(r.headers),
                        r.offset,
                    )
                    for r in fetched
                ]
    finally:
        await consumer.stop()
    return records


async def wait_until_done(
    connection: Connection, until_ms: int, app_id: str = "shipclock", timeout_s: float = 120
) -> None:
    """Wait until both stages have worked off all input and log time up to an instant.

    Done is: every order partition has committed its inputs to their ends, and every shop partition
    a frontier at or after `until_ms`, which is not before all order partitions have. Idle
    partitions write theirs once a minute: it asks for them.

    Raises:
        TimeoutError: It did not come to pass in time.
    """
    async with asyncio.timeout(timeout_s):
        admin = connection.admin()
        await admin.start()
        shops = connection.consumer(
            SHOPS_CHANGELOG, isolation_level="read_committed",
            auto_offset_reset="earliest", enable_auto_commit=False,
        )  # fmt: skip
        ends = connection.consumer(*INPUT_TOPICS, enable_auto_commit=False)
        await ends.start()
        await shops.start()
        try:
            wanted = await ends.end_offsets(list(ends.assignment()))
            await _wait_for_commits(admin, f"{app_id}-orders", wanted)
            await _request_marks(connection, app_id, until_ms)
            await _wait_for_shops(shops, until_ms)
        finally:
            await shops.stop()
            await ends.stop()
            await admin.close()


async def committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, Any]:
    """Ask for a group's offsets; none while a fresh broker has no coordinator for it."""
    try:
        return dict(await admin.list_consumer_group_offsets(group))
    except GroupCoordinatorNotAvailableError:
        return {}


async def _wait_for_commits(
    admin: AIOKafkaAdminClient, group: str, wanted: Mapping[TopicPartition, int]
) -> None:
    while True:
        found = await committed(admin, group)
        if all(tp in found and found[tp].offset >= end for tp, end in wanted.items() if end):
            return
        await asyncio.sleep(_POLL_S)


async def _request_marks(connection: Connection, app_id: str, until_ms: int) -> None:
    """Let every partition of both stages say as soon as it has reached an instant."""
    request = request_record(app_id, f"until:{until_ms}", until_ms - 1)
    producer = connection.producer()
    await producer.start()
    try:
        await producer.send_and_wait(
            request.topic, request.value, request.key, partition=request.partition
        )
    finally:
        await producer.stop()


async def _wait_for_shops(changelogs: AIOKafkaConsumer, until_ms: int) -> None:
    """Wait for the frontiers: offsets are committed when items are taken, not when worked off."""
    reached = dict.fromkeys(changelogs.assignment(), -1)
    while min(reached.values()) < until_ms:
        for tp, records in (await changelogs.getmany(timeout_ms=200)).items():
            for record in records:
                if record.key == META_KEY:
                    head = decode_head(record.value)
                    reached[tp] = head.reached_ms


def now_ms() -> int:
    """Read the machine's clock, epoch milliseconds."""
    return time.time_ns() // 1_000_000
