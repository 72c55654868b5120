"""The stateful agent of a partition: its state, the timers that are due, and the commit of both.

Each stage has one Faust agent, `agent`. It gives every batch to the agent of its partition, which
works beside those of the other partitions: while one waits for its transaction, the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import NamedTuple

from streams.core.facts.instants import END_OF_TIME_MS
from streams.engine.marks import Marks
from streams.engine.records import Columns
from streams.runtime.clock import wall_ms
from streams.runtime.counters import Counters
from streams.runtime.failures import Failures
from streams.runtime.flow import Flow
from streams.runtime.inputs import Inputs
from streams.runtime.logs import Standing
from streams.runtime.reports import Reports
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage, Task, TimedTask
from streams.runtime.takeover import Life


async def agent(batches: AsyncIterable[Batch]) -> None:
    """Take each batch into the state of its partition; what follows from it is `Agent.work`."""
    async for batch in batches:
        batch.owner.take(batch)


class Batch(NamedTuple):
    """What a source puts on its channel: one partition's news, in this order."""

    owner: Agent
    incarnation: int
    records: Sequence[tuple[str, Columns]]
    now_ms: int
    completed: Sequence[str]
    as_of_ms: int


class Agent:
    """One partition's state (`take`), timers (`_step`) and transactions (`_commit`).

    The state is that of a life: it was restored, and is dropped when anything fails.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        stage: Stage,
        inputs: Inputs,
        counters: Counters,
        reports: Reports,
        marks: Marks,
    ) -> None:
        self.number = number
        self.flow = Flow(stage.inputs)
        self.held_bytes_max = settings.buffered_bytes_max
        self.instant_bytes_max = settings.instant_bytes_max
        self.ready = False
        """Whether there is a state."""
        self._settings = settings
        self._stage = stage
        self._inputs = inputs
        self._counters = counters
        self._marks = marks
        self.processed: dict[str, int] = {}
        """For each input the offset up to which it is committed, once that is known."""
        self._life: Life | None = None
        self._timed: TimedTask | None = None
        self._completed = False
        """In this life an input was once read to its end."""
        self.incarnation = 0
        """Which life this is: an error ends one."""
        self._broken: Exception | None = None
        self._reports = reports
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
        self._marked_at_ms = 0
        """When it was last time to mark, by the machine's clock."""

    @property
    def frontier_ms(self) -> int:
        """Up to where the task has come; 0 without one."""
        return 0 if self._life is None else self._life.task.frontier_ms

    @property
    def judged_to_ms(self) -> int:
        """Up to where records are judged already; 0 for a task whose records carry no time."""
        return 0 if self._timed is None else self._timed.frontier_ms

    @property
    def waits_for_ms(self) -> int:
        """Until the inputs are read to their ends as of later than this there is nothing to do."""
        if self._life is None:
            return END_OF_TIME_MS
        task = self._life.task
        if not self._completed:
            return 0
        return min(task.waits_for_ms, self._marks.requested_ms(task.marked_ms))

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
                self._counters.took(records)
            for topic in batch.completed:
                life.task.complete(topic, batch.as_of_ms)
                self._completed = True
        except Exception as exc:  # noqa: BLE001 - the loop raises it: the agent serves others too
            self.fail(exc)
        self.flow.taken()

    def mark_if_due(self) -> None:
        """Wake the loop if somebody waits for a mark, or it is time for one."""
        if self._life is not None and self._mark_is_due(self._life.task):
            self._wake.set()

    def fail(self, exc: Exception) -> None:
        """Give up this life of the partition: the loop says why and begins another."""
        self._broken = self._broken or exc
        self._wake.set()

    def regulate(self) -> None:
        """Pause and resume topics by what is held."""
        if self.ready:
            resting: Iterable[str] = self.flow.resting(self.held_bytes_max)
            if self._timed is not None and not self._settings.clock.trusted:
                resting = self._stage.inputs
            self._inputs.rest(self.number, resting)

    async def work(self, life: Life) -> None:
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
        mark = self._mark_is_due(life.task)
        if mark:
            self._marked_at_ms = wall_ms()
        checkpoint = life.task.checkpoint(mark)
        if checkpoint is None and self._time_asked and self._timed is not None:
            checkpoint = self._timed.again()
        if checkpoint is not None:
            await life.transactions.commit(checkpoint)
            self._time_asked = False
            self._committed_s = time.monotonic()
            self.processed |= checkpoint.offsets
            self._counters.wrote(checkpoint)
            self._failures.over()
        self._idle.set()

    def _mark_is_due(self, task: Task) -> bool:
        """Tell whether to say how far the task has come: often only while somebody waits for it.

        By the clock, so that all partitions mark at once and the shops commit once.
        """
        if task.mark_ms <= task.marked_ms:
            return False
        awaited = self._marks.requested_ms(task.marked_ms) < task.mark_ms
        settings = self._settings
        interval_ms = settings.mark_interval_ms if awaited else settings.idle_mark_interval_ms
        return wall_ms() // interval_ms != self._marked_at_ms // interval_ms

    def _step_over_crowd(self) -> None:
        """Let the frontier pass an instant of which more is held than may be."""
        task = self._timed
        if self._held or task is None:
            return
        crowded = self.flow.crowded(self.held_bytes_max, self.instant_bytes_max)
        for topic, instant_ms in crowded:
            if self._crowds.news(topic):
                self._reports.add_once(
                    logging.WARNING, "crowded", self.number, topic=topic, detail="too many records "
                    "of one instant to be held: those that follow count as a millisecond later",
                )  # fmt: skip
            beyond_ms = max(task.frontier_ms, instant_ms) + 1
            task.complete(topic, beyond_ms)
            self.flow.completed(topic, beyond_ms)
        if crowded:
            # News for the task: until it has stepped there is no more to be said.
            self.flow.sent()
            self.flow.taken()
            self._wake.set()
