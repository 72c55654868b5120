"""The owner of one partition: its task, its producer, and the loop that commits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced

from streams.engine.records import META_KEY, SHOP_VIOLATIONS, Checkpoint, Columns, CorruptChangelog
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.runtime.errors import PartitionRefused, PositionLost, TopicCreatedAnew, refusal
from streams.runtime.flow import Flow
from streams.runtime.inputs import Inputs
from streams.runtime.logs import Standing, error, event, reason, warn
from streams.runtime.restore import restore
from streams.runtime.settings import Settings
from streams.runtime.stage import LiveTask, Stage, Task, TimedTask
from streams.telemetry import metrics

log = logging.getLogger(__name__)

_RETRY_S_MIN, _RETRY_S_MAX = 0.5, 4.0
_REFUSED_S = 30.0
_FREEZE_STATES_MIN = 100_000
_TOPIC = attrgetter("topic")


class Batch(NamedTuple):
    """What a source puts on its channel: one partition's news, in this order."""

    partition: Partition
    incarnation: int
    records: Sequence[tuple[str, Columns]]
    now_ms: int
    completed: Sequence[str]
    as_of_ms: int


class Counters:
    """What a stage has done since its last summary; the metrics have it since the start."""

    def __init__(self, stage: str) -> None:
        self._records = metrics.RECORDS.labels(stage)
        self._transactions = metrics.TRANSACTIONS.labels(stage)
        self.clear()

    def clear(self) -> None:
        """Begin to count anew."""
        self.records = self.outputs = self.states = self.marks = self.transactions = 0

    @property
    def idle(self) -> bool:
        """Whether nothing but frontier marks came or went."""
        return not (self.records or self.outputs or self.states)

    def took(self, topic: str, records: Columns) -> None:
        """Count records read; of those between the stages the marks have no key."""
        marks = records.keys.count(None) if topic == SHOP_VIOLATIONS else 0
        count = len(records.keys) - marks
        self.records += count
        self._records.inc(count)
        self.marks += marks

    def wrote(self, checkpoint: Checkpoint) -> None:
        """Count a transaction; of its outputs only marks name their partition."""
        written = Tally(map(_TOPIC, checkpoint.outputs))
        marks = 0
        if SHOP_VIOLATIONS in written:
            marks = sum(output.partition is not None for output in checkpoint.outputs)
            written[SHOP_VIOLATIONS] -= marks
        for topic, count in written.items():
            metrics.OUTPUTS.labels(topic).inc(count)
        self.outputs += len(checkpoint.outputs) - marks
        self.marks += marks
        changelog = checkpoint.changelog
        self.states += len(changelog) - (META_KEY in changelog)
        self.transactions += 1
        self._transactions.inc()


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
        away: Standing,
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
        self._counts = counts
        self._partition_of = partition_of
        self._counters = counters
        self._restoring = restoring
        self._away = away
        """Shared: that the broker is away is said once for all partitions."""
        self._task: Task | None = None
        self._live: LiveTask | None = None
        self._transactions: Transactions | None = None
        self.incarnation = 0
        """Which life this is: an error ends one."""
        self._broken: Exception | None = None
        self._anew = ""
        """Which input was created anew: said at every life from then on."""
        self._begun: dict[str, int] = {}
        """Where this owner began to read last."""
        self._read_to: dict[str, int] = {}
        """Up to where it had read when it last gave up."""
        self._failures = Standing()
        self._crowds = Standing()
        self._retry_s = _RETRY_S_MIN
        self._closing = asyncio.Event()
        self._held = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        """Nothing was done that is not committed."""
        self._idle.set()
        self._committed_s = 0.0
        self._mark_interval_ns = settings.mark_interval_ms * 1_000_000
        self._marked_slot = 0
        self._loop = asyncio.create_task(self._run(), name=f"{stage.name}-{number}")
        self._loop.add_done_callback(ended)

    @property
    def frontier_ms(self) -> int:
        """Up to where the task has come; 0 without one."""
        return 0 if self._task is None else self._task.frontier_ms

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
        task = self._task
        if task is None or batch.incarnation != self.incarnation:
            return
        self._wake.set()
        try:
            for topic, records in batch.records:
                task.offer(topic, records, batch.now_ms)
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

    def regulate(self) -> None:
        """Pause and resume topics by what is held."""
        if self.ready:
            self._inputs.rest(self.number, self.flow.resting(self.held_bytes_max))

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

    # --- the loop

    async def _run(self) -> None:
        while not self._closing.is_set():
            pause_s = 0.0
            try:
                await self._work(*await self._open())
            except Exception as exc:  # noqa: BLE001 - what nobody expected is told, and tried again
                pause_s = self._say(exc)
                # Its frames hold the task, and clients may hold it for long.
                exc.__traceback__ = None
            finally:
                self._wake.clear()
                await self._drop()
            # Closing ends the pause, and so does a rebalance that leaves us the partition.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)
            # Amid one it may be another's already, who must not be fenced.
            while self._held and not self._closing.is_set():
                self._wake.clear()
                await self._wake.wait()

    def _say(self, exc: Exception) -> float:
        """Tell what ended a life, now and once a minute; return how long to wait, in seconds."""
        where = {"stage": self._stage.name, "partition": self.number}
        standing = self._away if isinstance(exc, KafkaConnectionError) else self._failures
        news = standing.news(type(exc).__name__)
        if isinstance(exc, TopicCreatedAnew):
            self._anew = str(exc)
        if isinstance(exc, ProducerFenced):
            self._count_failure("fenced")
            # If the other is right, a rebalance will close us; if not (we owned the partition
            # again before we noticed), we take it back.
            if news:
                warn(log, "fenced", **where, detail="another worker has taken the partition over, "
                     "or the broker gave its transaction up")  # fmt: skip
            return self._settings.session_timeout_ms / 1000
        if refused := refusal(exc):
            self._count_failure("refused")
            if news:
                error(log, "refused", **where, detail=refused.detail, hint=refused.hint,
                      retry_s=_REFUSED_S)  # fmt: skip
            return _REFUSED_S
        if isinstance(exc, (KafkaError, OSError, PositionLost)):
            self._count_failure("failed")
            if news:
                warn(log, "failed", **where, detail=reason(exc), retrying="until it works")
            pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, _RETRY_S_MAX)
            return pause_s
        self._count_failure("broken")
        if news:
            log.error("broken stage=%s partition=%s", *where.values(), exc_info=exc)
        return _REFUSED_S

    def _count_failure(self, kind: str) -> None:
        metrics.FAILURES.labels(self._stage.name, kind).inc()

    async def _open(self) -> tuple[Task, Transactions]:
        """Fence the last owner, restore, compare with the group's offsets, and start reading."""
        self._check_inputs()
        started_s = time.monotonic()
        transactions = Transactions(
            self._settings, self._stage, self.number, self._counts, self._partition_of
        )
        self._transactions = transactions
        async with self._restoring:
            await transactions.start()
            task = self._stage.new_task(self.number, self._counts)
            try:
                states, decided_to = await restore(self._settings, self._stage, self.number, task)
                if task.restored_policy is None and self.number:
                    # Nothing says how many partitions there were: the first one knows.
                    first = self._stage.new_task(0, self._counts)
                    await restore(self._settings, self._stage, 0, first)
                    del first
                self._begun = await self._checked_offsets(task, decided_to)
            except (CorruptChangelog, PartitionRefused):
                # Or we were asleep amid it, and what we read is half another owner's.
                await transactions.prove_ownership(await self._inputs.committed(self._places()))
                raise
        if task.policy_changed:
            warn(log, "policy-changed", stage=self._stage.name, partition=self.number,
                 before=task.restored_policy, now=task.policy,
                 detail="each order is judged anew at its next event or timer")  # fmt: skip
        if states >= _FREEZE_STATES_MIN:
            # Restored states live long: no full collection need look at them again. What a former
            # life has left must not stay with them.
            gc.collect()
            gc.freeze()
        self._check_inputs()
        self._task = task
        self._live = task if isinstance(task, LiveTask) else None
        self.flow.start(self._begun, task.last_ms if isinstance(task, TimedTask) else {})
        self.ready = True
        self._wake.set()
        self._inputs.seek(self.number, self._begun)
        self.regulate()
        event(
            log,
            "restored",
            stage=self._stage.name,
            partition=self.number,
            states=states,
            seconds=time.monotonic() - started_s,
        )
        return task, transactions

    def _check_inputs(self) -> None:
        if self._anew:
            raise TopicCreatedAnew(self._anew)
        # Amid a rebalance nothing is known: the one who began it will close, release or fail us.
        if not self._held and (missing := self._inputs.missing(self.number)):
            raise PartitionRefused(
                f"no partition {self.number} of {', '.join(missing)}: without it nothing is judged",
                "compare with: shipclock topics check",
            )

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(topic, self.number) for topic in self._stage.inputs]

    async def _checked_offsets(self, task: Task, decided_to: int) -> dict[str, int]:
        tps, own = self._places(), TopicPartition(self._stage.changelog, self.number)
        mine = {tp: task.next_offsets.get(tp.topic, 0) for tp in tps}
        committed, begins, ends = await asyncio.gather(
            self._inputs.committed(tps),
            self._inputs.beginning_offsets(tps),
            self._inputs.end_offsets([*tps, own]),
        )
        if committed and ends[own] != decided_to:
            raise PartitionRefused(
                f"{own.topic}[{own.partition}] is undecided from offset {decided_to} on: somebody "
                "else's transaction hides what was committed there since",
                "end it, or wait until the broker does",
            )
        for tp, offset in mine.items():
            name = f"{tp.topic}[{tp.partition}]"
            if committed.get(tp, offset) != offset:
                raise PartitionRefused(
                    f"the changelog {self._stage.changelog} says {name} was processed up to "
                    f"offset {offset}, the group {self._inputs.group_id} says {committed[tp]}; "
                    "one of the two was reset or is incomplete"
                )
            read_to = max(offset, self._read_to.get(tp.topic, 0))
            if read_to > ends[tp]:
                raise TopicCreatedAnew(
                    f"{name} was read up to offset {read_to} but ends at {ends[tp]}: "
                    "the topic was created anew, or its broker lost data"
                )
            if offset and committed and tp not in committed:
                raise TopicCreatedAnew(
                    f"the changelog says {name} was processed up to offset {offset}, but the group "
                    f"{self._inputs.group_id} has forgotten it: the topic was created anew"
                )
            first = max(offset, self._begun.get(tp.topic, 0))
            if first < begins[tp] and (offset or tp.topic in self._begun):
                error(log, "records-lost", topic=tp.topic, partition=tp.partition,
                      first=first, last=begins[tp] - 1,
                      detail="retention deleted them before they were processed")  # fmt: skip
        return {tp.topic: max(offset, begins[tp]) for tp, offset in mine.items()}

    async def _work(self, task: Task, transactions: Transactions) -> None:
        """Work off what comes; commit what was done by the clock, by its size, and at a halt."""
        while True:
            await self._news()
            more = True
            while more and not self._halting:
                self._check_life()
                more = self._step(task)
                if self._commit_is_due(task):
                    await self._commit(task, transactions)
                await asyncio.sleep(0)
            if self._halting and not self._idle.is_set():
                await self._commit(task, transactions)
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

    async def _commit(self, task: Task, transactions: Transactions) -> None:
        """Commit what was done, if there is anything."""
        self._check_life()
        # By the clock, so that all partitions mark at once and the shops commit once.
        slot = time.time_ns() // self._mark_interval_ns
        checkpoint = task.checkpoint(slot != self._marked_slot)
        self._marked_slot = slot
        if checkpoint is not None:
            await transactions.commit(checkpoint)
            self._committed_s = time.monotonic()
            self._counters.wrote(checkpoint)
            self._failures.over()
            self._retry_s = _RETRY_S_MIN
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
            self._read_to = dict(self.flow.read_to)
        self.ready = False
        self.incarnation += 1
        self._broken = None
        self._task = self._live = None
        self._idle.set()
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            await transactions.close()
