"""The owner of one partition: its task, its producer, and the loop that commits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streams.codec.state import StateVersionError
from streams.engine.records import CorruptChangelog, InRecord
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.runtime.errors import PartitionRefused
from streams.runtime.flow import Flow
from streams.runtime.inputs import Inputs
from streams.runtime.logs import error, event, reason, warn
from streams.runtime.restore import restore
from streams.runtime.settings import Settings
from streams.runtime.stage import LiveTask, Stage, Task

log = logging.getLogger(__name__)

_RETRY_S_MIN, _RETRY_S_MAX = 0.5, 4.0
_REFUSED_S = 30.0
_FREEZE_STATES_MIN = 100_000


class Batch(NamedTuple):
    """What a source puts on its channel: one partition's news, in this order."""

    partition: Partition
    incarnation: int
    records: Sequence[tuple[str, Sequence[InRecord]]]
    now_ms: int
    completed: Sequence[str]
    as_of_ms: int


class Counters:
    """What a stage has done since its last summary."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin to count anew."""
        self.records = self.outputs = self.states = self.transactions = 0


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
    ) -> None:
        self.number = number
        self.flow = Flow(stage.inputs)
        self.held_max = settings.buffered_records_max
        self.ready = False
        self.offsets: dict[str, int] = {}
        """Where reading goes on after a rebalance."""
        self._settings = settings
        self._stage = stage
        self._inputs = inputs
        self._counts = counts
        self._partition_of = partition_of
        self._counters = counters
        self._restoring = restoring
        self._task: Task | None = None
        self._transactions: Transactions | None = None
        self._incarnation = 0
        self._broken: Exception | None = None
        self._closing = asyncio.Event()
        self._held = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._mark_interval_ns = settings.mark_interval_ms * 1_000_000
        self._marked_slot = 0
        self._loop = asyncio.create_task(self._run(), name=f"{stage.name}-{number}")

    # --- called by the source and the agent

    def batch(
        self,
        records: Sequence[tuple[str, Sequence[InRecord]]],
        now_ms: int,
        completed: Sequence[str],
        as_of_ms: int,
    ) -> Batch:
        """Make a batch for this life of the partition: after an error it means nothing."""
        return Batch(self, self._incarnation, records, now_ms, completed, as_of_ms)

    def take(self, batch: Batch) -> None:
        """Offer a batch to the task and wake the loop."""
        task = self._task
        if task is None or batch.incarnation != self._incarnation:
            return
        self._wake.set()
        try:
            for topic, records in batch.records:
                task.offer(topic, records, batch.now_ms)
                self._counters.records += len(records)
            if isinstance(task, LiveTask):
                for topic in batch.completed:
                    task.complete(topic, batch.as_of_ms)
        except Exception as exc:  # noqa: BLE001 - the loop raises it: the agent serves others too
            self._broken = exc

    def regulate(self) -> None:
        """Pause and resume topics by what is held."""
        if self.ready:
            self._inputs.rest(self.number, self.flow.resting(self.held_max))

    async def hold(self) -> None:
        """Finish the commit in flight and begin none until released; keep the memory."""
        self._held = True
        await self._idle.wait()

    def release(self) -> None:
        """Go on after a rebalance that left us the partition."""
        self._held = False
        self._wake.set()
        if self.ready:
            self._inputs.seek(self.number, self.offsets)
        self._inputs.rest(self.number, () if self.ready else self._stage.inputs)
        self.regulate()

    async def close(self) -> None:
        """End: let the commit in flight finish if it does so soon, else abort it."""
        self._closing.set()
        self._wake.set()
        timeout_s = self._settings.stop_timeout_ms / 1000
        if not self._idle.is_set():
            await asyncio.wait([self._loop], timeout=timeout_s)
        self._loop.cancel()
        await asyncio.wait([self._loop], timeout=timeout_s)

    # --- the loop

    async def _run(self) -> None:
        retry_s = _RETRY_S_MIN
        where = {"stage": self._stage.name, "partition": self.number}
        while not self._closing.is_set():
            try:
                task, transactions = await self._open()
                retry_s = _RETRY_S_MIN
                await self._work(task, transactions)
                pause_s = 0.0
            except ProducerFenced:
                # Another worker took over. If it was right, a rebalance will close us; if not
                # (we owned the partition again before we noticed), we take it back.
                pause_s = self._settings.session_timeout_ms / 1000
                warn(log, "fenced", **where, detail="another worker has taken the partition over")
            except (CorruptChangelog, StateVersionError, PartitionRefused) as exc:
                pause_s = _REFUSED_S
                error(log, "refused", **where, detail=str(exc), retry_s=pause_s)
            except (KafkaError, OSError) as exc:
                if retry_s == _RETRY_S_MIN:
                    warn(log, "failed", **where, detail=reason(exc), retrying="until it works")
                pause_s, retry_s = retry_s, min(2 * retry_s, _RETRY_S_MAX)
            except Exception:
                pause_s = _REFUSED_S
                log.exception("broken stage=%s partition=%s", self._stage.name, self.number)
            finally:
                await self._drop()
            # Closing ends the pause, and so does a rebalance that leaves us the partition.
            self._wake.clear()
            if not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause_s)

    async def _open(self) -> tuple[Task, Transactions]:
        """Fence the last owner, restore, compare with the group's offsets, and start reading."""
        started_s = time.monotonic()
        transactions = Transactions(
            self._settings, self._stage, self.number, self._counts, self._partition_of
        )
        self._transactions = transactions
        async with self._restoring:
            await transactions.start()
            task = self._stage.new_task(self.number, self._counts)
            states = await restore(self._settings, self._stage, self.number, task)
        self.offsets = await self._checked_offsets(task)
        if task.restored_policy not in (None, task.policy):
            warn(log, "policy-changed", stage=self._stage.name, partition=self.number,
                 before=task.restored_policy, now=task.policy,
                 detail="each order is judged anew at its next event or timer")  # fmt: skip
        if states >= _FREEZE_STATES_MIN:
            # Restored states live long: no full collection need look at them again.
            gc.freeze()
        self._task = task
        self.flow.start(self.offsets)
        self.ready = True
        self._wake.set()
        self._inputs.seek(self.number, self.offsets)
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

    async def _checked_offsets(self, task: Task) -> dict[str, int]:
        tps = [TopicPartition(topic, self.number) for topic in self._stage.inputs]
        mine = {tp: task.next_offsets.get(tp.topic, 0) for tp in tps}
        committed, begins, ends = await asyncio.gather(
            self._inputs.committed(tps),
            self._inputs.beginning_offsets(tps),
            self._inputs.end_offsets(tps),
        )
        for tp, offset in mine.items():
            name = f"{tp.topic}[{tp.partition}]"
            if committed.get(tp, offset) != offset:
                raise PartitionRefused(
                    f"the changelog {self._stage.changelog} says {name} was processed up to "
                    f"offset {offset}, the group {self._inputs.group_id} says {committed[tp]}; "
                    "one of the two was reset or is incomplete"
                )
            if offset > ends[tp]:
                raise PartitionRefused(
                    f"{name} was processed up to offset {offset} but ends at {ends[tp]}: "
                    "the topic was created anew; start with another --app-id and empty changelogs"
                )
            if 0 < offset < begins[tp]:
                error(log, "records-lost", topic=tp.topic, partition=tp.partition,
                      first=offset, last=begins[tp] - 1,
                      detail="retention deleted them before they were read")  # fmt: skip
        return {tp.topic: max(offset, begins[tp]) for tp, offset in mine.items()}

    async def _work(self, task: Task, transactions: Transactions) -> None:
        interval_s = self._settings.commit_interval_ms / 1000
        next_commit_s = 0.0
        while True:
            await self._wake.wait()
            self._wake.clear()
            delay_s = next_commit_s - time.monotonic()
            if delay_s > 0 and not self._closing.is_set():
                await asyncio.sleep(delay_s)
            if self._closing.is_set():
                return
            if await self._step_while_more(task, transactions):
                next_commit_s = time.monotonic() + interval_s
            self.regulate()

    async def _step_while_more(self, task: Task, transactions: Transactions) -> bool:
        """Step and commit until nothing more is to be done; tell whether anything was."""
        committed = False
        while not self._held and not self._closing.is_set():
            if self._broken is not None:
                raise self._broken
            self._idle.clear()
            try:
                # By the clock, so that all partitions mark at once and the shops commit once.
                slot = time.time_ns() // self._mark_interval_ns
                mark = slot != self._marked_slot
                self.flow.pending = False
                checkpoint = task.step(self._settings.step_outputs_max, mark)
                self._marked_slot = slot
                if checkpoint is None:
                    break
                await transactions.commit(checkpoint)
            finally:
                self._idle.set()
            committed = True
            self.flow.processed(checkpoint.offsets)
            self._counters.outputs += len(checkpoint.outputs)
            self._counters.states += len(checkpoint.changelog)
            self._counters.transactions += 1
            if not checkpoint.more:
                break
            self.flow.pending = True
            await asyncio.sleep(0)
        return committed

    async def _drop(self) -> None:
        """Forget task and producer; batches under way for this life are ignored."""
        if self.ready:
            self._inputs.rest(self.number, self._stage.inputs)
        self.ready = False
        self._incarnation += 1
        self._broken = None
        self._task = None
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            await transactions.close()
