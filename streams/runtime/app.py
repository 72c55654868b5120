"""The Faust app: agents on channels of batches, fed by our sources."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
from collections.abc import Iterator, Sequence
from typing import Any

from streams.core.rules.book import Rulebook
from streams.engine.compiled import NOT_COMPILED_WHY
from streams.runtime import frame, lean
from streams.runtime.agent import agent
from streams.runtime.errors import WorkerError
from streams.runtime.logs import event, warn
from streams.runtime.marks import MarksReader
from streams.runtime.reach import Reach
from streams.runtime.settings import Settings
from streams.runtime.source import Source
from streams.runtime.stage import Stage
from streams.runtime.stages import product_stages
from streams.runtime.stopping import stopped_by_signals
from streams.telemetry import metrics

log = logging.getLogger(__name__)

_CHANNEL_BATCHES_MAX = 64
# At Python's default of 700 the collector walks all open orders again and again, for a third of
# the throughput; never collecting leaks.
_GC_THRESHOLD = 200_000


class _WithoutKafka(frame.BootStrategy):
    """Start agents only: consumer, producer and tables are ours, and no web server listens."""

    enable_kafka = False
    enable_web = False


class WorkerApp(frame.App):
    """The app of one worker process: an agent and a source for each stage."""

    BootStrategy = _WithoutKafka
    logger = logging.getLogger("faust")

    def __init__(self, settings: Settings, stages: Sequence[Stage]) -> None:
        super().__init__(
            settings.app_id,
            broker=f"kafka://{settings.connection.bootstrap}",
            web_enabled=False,
            autodiscover=False,
            **frame.settings(),
        )
        frame.without_kafka(self)
        self._reach = Reach(settings.connection.bootstrap)
        self.fatal: asyncio.Future[WorkerError] = asyncio.get_running_loop().create_future()
        self.marks = MarksReader(settings, self._on_fatal, loop=self.loop, beacon=self.beacon)
        self.sources = [self._add_stage(settings, stage) for stage in stages]

    def _add_stage(self, settings: Settings, stage: Stage) -> Source:
        channel = self.channel(maxsize=_CHANNEL_BATCHES_MAX)

        self.agent(channel, name=stage.name)(agent)
        return Source(
            settings,
            stage,
            channel,
            self.marks,
            self._on_fatal,
            self._reach,
            loop=self.loop,
            beacon=self.beacon,
        )

    def _on_fatal(self, exc: WorkerError) -> None:
        if not self.fatal.done():
            self.fatal.set_result(exc)

    async def on_first_start(self) -> None:
        """Leave out Faust's data folders: nothing of ours lies on disk."""

    async def on_started(self) -> None:
        """Start the sources once the agents listen."""
        # Channels deliver nothing until a consumer resumes them; ours is not Faust's.
        self.flow_control.resume()
        for service in (self.marks, *self.sources):
            await self.add_runtime_dependency(service)

    async def on_stop(self) -> None:
        """Stop, and free what Faust made and nothing started."""
        await super().on_stop()
        frame.free(self)


def run_worker(settings: Settings, rulebook: Rulebook, parent: int | None = None) -> None:
    """Run one worker process until it is told to stop.

    SIGTERM, SIGINT and the end of a supervising parent stop it within 5 seconds. Raises WorkerError
    if it cannot work at all.

    Args:
        parent: Descriptor that becomes readable when the supervising process has ended.
    """
    run_stages(
        settings,
        product_stages(rulebook, settings.app_id, policy_change=settings.policy_change),
        parent,
    )


def run_stages(settings: Settings, stages: Sequence[Stage], parent: int | None = None) -> None:
    """Run a worker process of any stages; see `run_worker`."""
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    # What has been imported stays: no full collection need look at it.
    gc.collect()
    gc.freeze()
    _allow_files()
    asyncio.run(_run(settings, stages, parent))


@contextlib.contextmanager
def _metrics_served(port: int | None) -> Iterator[None]:
    if port is None:
        yield
        return
    try:
        end = metrics.serve(port)
    except OSError as exc:
        raise WorkerError(
            f"metrics cannot be served at {metrics.HOST}:{port}: {exc.strerror}",
            hint="give another --metrics-port",
        ) from None
    event(log, "metrics", url=f"http://{metrics.HOST}:{port}/metrics")
    yield
    end()


def _allow_files() -> None:
    """Open as many files as we may: each partition's producer has three connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(settings: Settings, stages: Sequence[Stage], parent: int | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(_on_loop_error)
    if why := NOT_COMPILED_WHY or lean.NOT_COMPILED_WHY:
        warn(
            log,
            "plain-engine",
            detail=why,
            hint="usual events take longer: install shipclock again where there is a C compiler; "
            "in a checkout: .venv/bin/python -m pip install --force-reinstall --no-deps -e .",
        )
    for stage in stages:
        metrics.declare(stage.name, stage.inputs, stage.outputs)
    with stopped_by_signals(stop, parent), _metrics_served(settings.metrics_port):
        app = WorkerApp(settings, stages)
        event(
            log,
            "started",
            app_id=settings.app_id,
            pid=os.getpid(),
            bootstrap=settings.connection.bootstrap,
            stages="+".join(stage.name for stage in stages),
        )
        await app.start()
        app.fatal.add_done_callback(lambda _: stop.set())
        await stop.wait()
        # Together: Faust would stop one after the other.
        await asyncio.gather(*(service.stop() for service in (app.marks, *app.sources)))
        await app.stop()
        event(log, "stopped", pid=os.getpid())
    if app.fatal.done():
        raise app.fatal.result()


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    """Keep quiet about futures whose failure we have already handled by dropping a partition."""
    log.debug("loop: %s", context.get("message"))
