"""The owner of one partition: the loop that takes records, steps, and commits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka.errors import KafkaError

from streams.engine.records import Columns
from streams.kafka.waiting import cancelled
from streams.runtime.batches import KeyPartitioner
from streams.runtime.counters import Counters
from streams.runtime.errors import PartitionRefused, PositionLost, TopicRecreated
from streams.runtime.failures import Failures
from streams.runtime.flow import Flow
from streams.runtime.inputs import Inputs
from streams.runtime.logs import Standing, reason, warn
from streams.runtime.positions import Positions
from streams.runtime.progress import Progress
from streams.runtime.reports import Reports
from streams.runtime.settings import Settings
from streams.runtime.stage import LiveTask, Stage, Task, TimedTask
from streams.runtime.takeover import Life, Takeover

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What a source puts on its channel: one partition's news, in this order."""

    partition: Partition
    incarnation: int
    records: Sequence[tuple[str, Columns]]
    now_ms: int
    completed: Sequence[str]
    as_of_ms: int


class Partition:
    """One partition from assignment to revocation.

    It takes the partition over (fences, restores, seeks), then steps and commits. On any error it
    drops task and producer and begins again: the log is the truth.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        stage: Stage,
        inputs: Inputs,
        counts: Mapping[str, int],
        partition_of: KeyPartitioner,
        counters: Counters,
        restoring: asyncio.Semaphore,
        reports: Reports,
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.number = number
        self.flow = Flow(stage.inputs)
        self.held_bytes_max = settings.buffered_bytes_max
        self.instant_bytes_max = settings.instant_bytes_max
        self.ready = False
        self._settings = settings
        self._stage = stage
        self._inputs = inputs
        self._counters = counters
        self._positions = Positions(stage, inputs, number, settings.accepted_topics)
        self.progress = Progress(stage.name, number)
        self.processed: dict[str, int] = {}
        """For each input the offset up to which it is committed, once that is known."""
        self.lag = 0
        """Offsets between what was read (before it is ready: committed) and the ends."""
        self._takeover = Takeover(
            settings, stage, number, counts, partition_of, self._positions, restoring, self.progress
        )
        self._life: Life | None = None
        self._live: LiveTask | None = None
        self.incarnation = 0
        """Which life this is: an error ends one."""
        self._broken: Exception | None = None
        self._recreated: TopicRecreated | None = None
        """What ends every life from then on."""
        self._ended = ended
        self._failures = Failures(settings, stage, number, reports)
        self._crowds = Standing()
        self._closing = asyncio.Event()
        self._held = False
        self._time_asked = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        """Nothing was done that is not committed."""
        self._idle.set()
        self._committed_s = 0.0
        self._mark_interval_ns = settings.mark_interval_ms * 1_000_000
        self._marked_slot = 0
        self._loop = asyncio.create_task(self._run(), name=f"{stage.name}-{number}")
        self._loop.add_done_callback(self._on_end)

    @property
    def frontier_ms(self) -> int:
        """Up to where the task has come; 0 without one."""
        return 0 if self._life is None else self._life.task.frontier_ms

    @property
    def judged_to_ms(self) -> int:
        """Up to where records are judged already; 0 for a task whose records carry no time."""
        return 0 if self._live is None else self._live.frontier_ms

    # --- called by the source and the agent

    def batch(
        self,
        records: Sequence[tuple[str, Columns]],
        now_ms: int,
        completed: Sequence[str],
        as_of_ms: int,
    ) -> Batch:
        """Make a batch for this life of the partition: after an error it means nothing."""
        self.flow.sent()
        return Batch(self, self.incarnation, records, now_ms, completed, as_of_ms)

    def take(self, batch: Batch) -> None:
        """Offer a batch to the task and wake the loop."""
        life = self._life
        if life is None or batch.incarnation != self.incarnation:
            return
        self._wake.set()
        try:
            for topic, records in batch.records:
                life.task.offer(topic, records, batch.now_ms)
                self._counters.took(topic, records)
            if self._live is not None:
                for topic in batch.completed:
                    self._live.complete(topic, batch.as_of_ms)
        except Exception as exc:  # noqa: BLE001 - the loop raises it: the agent serves others too
            self.fail(exc)
        self.flow.taken()

    def fail(self, exc: Exception) -> None:
        """Give up this life of the partition: the loop says why and begins another."""
        self._broken = self._broken or exc
        self._wake.set()

    def shrunk(self, topic: str, read_to: int, end: int) -> None:
        """Give up this life: a topic ends before what was read of it."""
        self._positions.shrunk(topic, end)
        self.fail(PositionLost(f"{topic} was read up to offset {read_to} but ends at {end}"))

    def compare_topics(self, ids: Mapping[str, str]) -> None:
        """Give up this life if a topic is not the one any more whose records it processes."""
        known = {} if self._life is None else self._life.task.topic_ids
        for topic in known:
            if ids.get(topic, known[topic]) != known[topic]:
                self.fail(PositionLost(f"{topic} was deleted and created again"))

    def regulate(self) -> None:
        """Pause and resume topics by what is held."""
        if self.ready:
            resting: Iterable[str] = self.flow.resting(self.held_bytes_max)
            if self._live is not None and not self._settings.clock.trusted:
                resting = self._stage.inputs
            self._inputs.rest(self.number, resting)

    def ask_time(self) -> None:
        """Commit once more what was committed last: the broker stamps it with its time."""
        self._time_asked = self._live is not None
        self._wake.set()

    async def hold(self) -> None:
        """Commit what was done and do nothing more until released; keep the memory."""
        self._held = True
        self._wake.set()
        await self._idle.wait()

    def release(self) -> None:
        """Go on after a rebalance that left us the partition."""
        self._held = False
        self._wake.set()
        if self.ready:
            self._inputs.seek(self.number, self.flow.read_to)
        self._inputs.rest(self.number, () if self.ready else self._stage.inputs)
        self.regulate()

    async def close(self) -> None:
        """End: commit what was done if that does not take long, else abort it."""
        self._closing.set()
        self._wake.set()
        timeout_s = self._settings.stop_timeout_ms / 1000
        if not self._idle.is_set():
            await asyncio.wait([self._loop], timeout=timeout_s)
        self._loop.cancel()
        await asyncio.wait([self._loop], timeout=timeout_s)
        self.progress.ready()

    # --- the loop

    def _on_end(self, loop: asyncio.Task[None]) -> None:
        """Report an end that is not meant: it would leave a partition that nobody works on."""
        if not self._closing.is_set():
            self._ended(loop)

    async def _run(self) -> None:
        while not self._closing.is_set():
            pause_s = 0.0
            try:
                await self._work(await self._open())
            except asyncio.CancelledError:
                if cancelled():
                    raise
                pause_s = self._give_up(KafkaError("the client gave up"))
            except Exception as exc:  # noqa: BLE001 - reported, and tried again
                pause_s = self._give_up(exc)
            finally:
                self._wake.clear()
                await self._drop()
            # Closing ends the pause, and so does a rebalance that leaves us the partition.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)
            # During one it may be another's already, who must not be fenced.
            while self._held and not self._closing.is_set():
                self.progress.begin("the end of a rebalance")
                self._wake.clear()
                await self._wake.wait()

    def _give_up(self, exc: Exception) -> float:
        """Report what ended a life; return how long to wait before the next, in seconds."""
        pause_s = self._failures.report(exc)
        self.progress.begin(f"another try after {reason(exc)}")
        if isinstance(exc, TopicRecreated):
            self._recreated = exc
        # Its frames hold the task, and clients may hold it for long.
        exc.__traceback__ = None
        return pause_s

    async def _open(self) -> Life:
        """Take the partition over, and begin to read."""
        self._check_inputs()
        self._life = life = await self._takeover.run()
        self._check_inputs()
        task = life.task
        self._live = task if isinstance(task, LiveTask) else None
        self.flow.start(life.begun, task.last_ms if isinstance(task, TimedTask) else {})
        self.processed = dict(life.begun)
        self.ready = True
        self.progress.ready()
        self._wake.set()
        self._inputs.seek(self.number, life.begun)
        self.regulate()
        return life

    def _check_inputs(self) -> None:
        if self._recreated is not None:
            raise self._recreated
        # During a rebalance nothing is known: the one who began it will close, release or fail us.
        if not self._held and (missing := self._inputs.missing(self.number)):
            raise PartitionRefused(
                f"no partition {self.number} of {', '.join(missing)}: without it nothing is judged",
                "compare with: shipclock topics check",
            )

    async def _work(self, life: Life) -> None:
        """Work off what comes; commit what was done by the clock, by its size, and at a halt."""
        task = life.task
        while True:
            await self._news()
            more = True
            while more and not self._halting:
                self._check_life()
                more = self._step(task)
                if self._commit_is_due(task):
                    await self._commit(life)
                await asyncio.sleep(0)
            if self._halting and not self._idle.is_set():
                await self._commit(life)
            if self._closing.is_set():
                return
            self._step_over_crowd()
            self.regulate()

    def _check_life(self) -> None:
        """Let a life that was given up commit nothing any more."""
        if self._broken is not None:
            raise self._broken

    @property
    def _halting(self) -> bool:
        return self._held or self._closing.is_set()

    async def _news(self) -> None:
        """Wait until something came, or what was done must be committed."""
        wait_s = None
        if not self._idle.is_set():
            wait_s = max(0.0, self._committed_s + self._interval_s() - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    def _step(self, task: Task) -> bool:
        """Let the task work for a moment; tell whether it can go on."""
        self._idle.clear()
        self.flow.stepping()
        more = task.work(self._settings.step_outputs_max)
        if not more:
            self.flow.worked_off()
        self.flow.processed(task.next_offsets.items())
        return more

    def _commit_is_due(self, task: Task) -> bool:
        return (
            task.pending >= self._settings.transaction_records_max
            or time.monotonic() >= self._committed_s + self._interval_s()
        )

    def _interval_s(self) -> float:
        """How long to gather before a commit: while catching up nobody waits for the outputs."""
        settings, frontier_ms = self._settings, self.frontier_ms
        behind_ms = settings.clock.now_ms() - settings.idle_slack_ms - frontier_ms
        if behind_ms > settings.catch_up_ms:
            return settings.catch_up_commit_interval_ms / 1000
        return settings.commit_interval_ms / 1000

    async def _commit(self, life: Life) -> None:
        """Commit what was done, if there is anything."""
        self._check_life()
        # By the clock, so that all partitions mark at once and the shops commit once.
        slot = time.time_ns() // self._mark_interval_ns
        checkpoint = life.task.checkpoint(slot != self._marked_slot)
        self._marked_slot = slot
        if checkpoint is None and self._time_asked and self._live is not None:
            checkpoint = self._live.again()
        if checkpoint is not None:
            await life.transactions.commit(checkpoint)
            self._time_asked = False
            self._committed_s = time.monotonic()
            self.processed |= checkpoint.offsets
            self._counters.wrote(checkpoint)
            self._failures.over()
        self._idle.set()

    def _step_over_crowd(self) -> None:
        """Let the frontier pass an instant of which more is held than may be."""
        task = self._live
        if self._held or task is None:
            return
        crowded = self.flow.crowded(self.held_bytes_max, self.instant_bytes_max)
        for topic, instant_ms in crowded:
            if self._crowds.news(topic):
                warn(log, "crowded", stage=self._stage.name, topic=topic, partition=self.number,
                     detail="too many records of one instant to be held: those that follow count "
                     "as a millisecond later")  # fmt: skip
            beyond_ms = max(task.frontier_ms, instant_ms) + 1
            task.complete(topic, beyond_ms)
            self.flow.completed(topic, beyond_ms)
        if crowded:
            # News for the task: until it has stepped there is no more to be said.
            self.flow.sent()
            self.flow.taken()
            self._wake.set()

    async def _drop(self) -> None:
        """Forget task and producer; batches under way for this life are ignored."""
        if self.ready:
            self._inputs.rest(self.number, self._stage.inputs)
            self._positions.gave_up(self.flow.read_to)
        self.ready = False
        self.incarnation += 1
        self._broken = None
        self._idle.set()
        life, self._life, self._live = self._life, None, None
        if life is not None:
            await life.transactions.close()
