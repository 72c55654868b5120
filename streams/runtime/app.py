"""The Faust app: agents on channels of batches, fed by our sources."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterable, Sequence
from typing import Any

import faust
from faust.app.base import BootStrategy

from streams.core.policy import Policy
from streams.runtime.errors import WorkerError
from streams.runtime.logs import event, warn
from streams.runtime.partition import Batch
from streams.runtime.settings import Settings
from streams.runtime.source import Source
from streams.runtime.stage import Stage
from streams.runtime.stages import product_stages

log = logging.getLogger(__name__)

_CHANNEL_BATCHES_MAX = 64
_STOP_SECONDS_MAX = 4.5
_UNREACHABLE_INTERVAL_S = 5.0
# At Python's default of 700 the collector walks all open orders again and again, for a third of
# the throughput; never collecting leaks.
_GC_THRESHOLD = 200_000


class _WithoutKafka(BootStrategy):
    """Start agents only: consumer, producer and tables are ours, and no web server listens."""

    enable_kafka = False
    enable_web = False


class WorkerApp(faust.App):
    """The app of one worker process: an agent and a source for each stage."""

    BootStrategy = _WithoutKafka
    logger = logging.getLogger("faust")

    def __init__(self, settings: Settings, stages: Sequence[Stage]) -> None:
        super().__init__(
            settings.app_id,
            broker=f"kafka://{settings.bootstrap}",
            web_enabled=False,
            autodiscover=False,
        )
        self._bootstrap = settings.bootstrap
        self._next_unreachable_s = 0.0
        self.fatal: asyncio.Future[WorkerError] = asyncio.get_running_loop().create_future()
        self.sources = [self._add_stage(settings, stage) for stage in stages]

    def _add_stage(self, settings: Settings, stage: Stage) -> Source:
        channel = self.channel(maxsize=_CHANNEL_BATCHES_MAX)

        async def agent(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.partition.take(batch)

        self.agent(channel, name=stage.name)(agent)
        return Source(
            settings,
            stage,
            channel,
            self._on_fatal,
            self._on_unreachable,
            loop=self.loop,
            beacon=self.beacon,
        )

    def _on_fatal(self, exc: WorkerError) -> None:
        if not self.fatal.done():
            self.fatal.set_result(exc)

    def _on_unreachable(self, detail: str) -> None:
        """Say once for all stages that the broker is away."""
        now_s = time.monotonic()
        if now_s >= self._next_unreachable_s:
            self._next_unreachable_s = now_s + _UNREACHABLE_INTERVAL_S
            hint = "trying again; one on this machine: shipclock broker start"
            warn(
                log, "broker-unreachable", bootstrap=self._bootstrap, detail=detail, hint=hint
            )  # fmt: skip

    async def on_first_start(self) -> None:
        """Leave out Faust's data folders: nothing of ours lies on disk."""

    async def on_started(self) -> None:
        """Start the sources once the agents listen."""
        # Channels deliver nothing until a consumer resumes them; ours is not Faust's.
        self.flow_control.resume()
        for source in self.sources:
            await self.add_runtime_dependency(source)

    async def on_stop(self) -> None:
        """Stop, and free what Faust's consumer holds.

        Faust's streams make it and nothing starts it, but its thread's loop has sockets already.
        """
        await super().on_stop()
        unused: Any = self.consumer
        unused._thread.thread_loop.close()


def run_worker(settings: Settings, policy: Policy) -> None:
    """Run one worker process until it is told to stop.

    SIGTERM, SIGINT and the end of a supervising parent stop it within 5 seconds. Raises WorkerError
    if it cannot work at all.
    """
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    asyncio.run(_run(settings, product_stages(policy, settings.app_id)))


async def _run(settings: Settings, stages: Sequence[Stage]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _request_stop, stop, signal.Signals(number).name)
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop.add_reader(parent.sentinel, _request_stop, stop, "the supervisor is gone")
    app = WorkerApp(settings, stages)
    event(
        log,
        "started",
        app_id=settings.app_id,
        pid=os.getpid(),
        bootstrap=settings.bootstrap,
        stages="+".join(stage.name for stage in stages),
    )
    await app.start()
    app.fatal.add_done_callback(lambda _: stop.set())
    await stop.wait()
    with contextlib.suppress(ValueError):
        if parent is not None:
            loop.remove_reader(parent.sentinel)
    # Together: Faust would stop one after the other.
    await asyncio.gather(*(source.stop() for source in app.sources))
    await app.stop()
    event(log, "stopped", pid=os.getpid())
    if app.fatal.done():
        raise app.fatal.result()


def _request_stop(stop: asyncio.Event, why: str) -> None:
    if stop.is_set():
        return
    event(log, "stopping", pid=os.getpid(), why=why)
    stop.set()
    # Nothing is lost by a hard end: an open transaction is aborted by the next owner.
    watchdog = threading.Timer(_STOP_SECONDS_MAX, os._exit, args=(0,))
    watchdog.daemon = True
    watchdog.start()


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    """Keep quiet about futures whose failure we have already handled by dropping a partition."""
    log.debug("loop: %s", context.get("message"))
