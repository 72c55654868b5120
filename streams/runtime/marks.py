"""A worker's one reader of `frontier-marks`: a service that reads it while the worker runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from streams.engine.marks import MARKS_PARTITION, Marks
from streams.engine.records import FRONTIER_MARKS
from streams.kafka.waiting import close_quietly, within
from streams.runtime.clock import wall_ms
from streams.runtime.errors import WorkerError, refusal
from streams.runtime.lasting import Lasting
from streams.runtime.logs import Standing, error, reason, warn
from streams.runtime.settings import Settings
from streams.telemetry import metrics

log = logging.getLogger(__name__)

_PLACE = TopicPartition(FRONTIER_MARKS, MARKS_PARTITION)
_NAME = f"{FRONTIER_MARKS}[{MARKS_PARTITION}]"
_RETRY_S, _REFUSED_S = 1.0, 30.0


class _Asked(NamedTuple):
    """When something was asked: by a clock that never steps, and by the machine's for people."""

    steady_s: float
    wall_ms: int


class MarksReader(Lasting):
    """Keeps `marks` as the topic has them, for all partitions of the process.

    It reads from the beginning, without a group: the topic is compacted. Whatever it cannot do in
    time ends the attempt, is logged, and begins again from there; meanwhile shops charge nothing.
    """

    def __init__(
        self, settings: Settings, on_fatal: Callable[[WorkerError], None], **kwargs: Any
    ) -> None:
        super().__init__(f"the reader of {FRONTIER_MARKS}", on_fatal, **kwargs)
        self.marks = Marks(settings.app_id)
        self._settings = settings
        self._exists = asyncio.Event()
        self._standing = Standing()
        self._odd = Standing()

    def begin(self) -> None:
        """Start reading, now that the topic is known to exist: to ask for it might create it."""
        self._exists.set()

    async def _run(self) -> None:
        await self._exists.wait()
        while True:
            try:
                await self._read()
            except Exception as exc:  # noqa: BLE001 - also what nobody expected is logged and retried
                pause_s = self._report(exc)
            await asyncio.sleep(pause_s)

    def _report(self, exc: Exception) -> float:
        """Log why the marks cannot be read; return how long to wait, in seconds."""
        refused = refusal(exc)
        if self._standing.news(type(exc).__name__):
            tell = error if refused else warn
            detail = refused.detail if refused else reason(exc)
            hint = refused.hint if refused else "trying again; nothing is charged meanwhile"
            tell(log, "marks-unread", topic=FRONTIER_MARKS, detail=detail, hint=hint)
        return _REFUSED_S if refused else _RETRY_S

    async def _read(self) -> None:
        """Read until something fails."""
        settings = self._settings
        consumer = settings.connection.reader(
            client_id=f"{settings.app_id}-marks",
            request_timeout_ms=settings.request_timeout_ms,
            fetch_max_wait_ms=settings.marks_wait_ms,
        )
        limit_ms = settings.request_timeout_ms
        try:
            async with within(limit_ms, f"the beginning of {_NAME}"):
                await consumer.start()
                begin = (await consumer.beginning_offsets([_PLACE]))[_PLACE]
            consumer.assign([_PLACE])
            consumer.seek(_PLACE, begin)
            asked, end = await self._end(consumer)
            while True:
                async with within(settings.marks_wait_ms + limit_ms, f"a fetch of {_NAME}"):
                    fetched = await consumer.getmany(timeout_ms=settings.marks_wait_ms)
                    position = await consumer.position(_PLACE)
                for records in fetched.values():
                    self._take(records)
                age_ms = (time.monotonic() - asked.steady_s) * 1000
                if position >= end:
                    self._standing.over()
                    metrics.MARKS_READ.labels().set(asked.wall_ms)
                    if age_ms > settings.idle_probe_interval_ms:
                        asked, end = await self._end(consumer)
                elif age_ms > settings.fetch_limit_ms:
                    # The client's fetching may have died without a word.
                    raise KafkaTimeoutError(f"{_NAME} is read to offset {position} of {end}")
        finally:
            await close_quietly(consumer.stop, consumer)

    async def _end(self, consumer: AIOKafkaConsumer) -> tuple[_Asked, int]:
        """Ask where the committed marks end; return when that was asked, too."""
        asked = _Asked(time.monotonic(), wall_ms())
        async with within(self._settings.request_timeout_ms, f"the end of {_NAME}"):
            return asked, (await consumer.end_offsets([_PLACE]))[_PLACE]

    def _take(self, records: Sequence[Any]) -> None:
        for record in records:
            if not self.marks.take(record.key, record.value) and self._odd.news(FRONTIER_MARKS):
                warn(log, "marks-unknown", topic=FRONTIER_MARKS, offset=record.offset,
                     detail="this record is not a mark of a program like this one: passed over"
                     )  # fmt: skip
