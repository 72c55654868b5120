"""One membership in a stage's consumer group, from joining to leaving."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError

from streams.engine.records import FRONTIER_MARKS, Columns
from streams.kafka.waiting import within
from streams.runtime.awaited import AwaitedMarks
from streams.runtime.batches import KeyPartitioner
from streams.runtime.counters import Counters
from streams.runtime.errors import PartitionRefused, PositionLost
from streams.runtime.inputs import Fetched, Inputs, keys_moved
from streams.runtime.logs import Standing, error, event, ranges, reason, warn
from streams.runtime.marks import MarksReader
from streams.runtime.partition import Partition
from streams.runtime.placement import Placement
from streams.runtime.reach import Reach
from streams.runtime.reports import Reports
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.runtime.stragglers import Stragglers
from streams.runtime.unreadable import RETRY_S, UnreadableBatches
from streams.runtime.watch import Watch

log = logging.getLogger(__name__)

_LOOK_S = 1.0
# A topic partition's share of what may be held: some hundred records, some ten thousand.
_SHARE_MIN, _SHARE_MAX = 256 * 1024, 2 * 1024 * 1024


class Ends:
    """Where the topics ended, up to where they were read, and as of when: fixed before the asking.

    Who has read to these ends has read all records of earlier instants.
    """

    def __init__(self, as_of_ms: int, read_to: Mapping[TopicPartition, int]) -> None:
        self.as_of_ms = as_of_ms
        self.read_to = read_to
        """Of partitions that are ready."""
        self.offsets: Mapping[TopicPartition, int] = {}


class Session(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads the stage's topics, puts each partition's news on the channel, and owns the partitions.

    News are records and, separately, "read to its end as of an instant": the ends are asked for
    after the instant was noted, so an answer that comes late says something old, never wrong.
    """

    def __init__(
        self, settings: Settings, stage: Stage, channel: Any, marks: MarksReader, reach: Reach
    ) -> None:
        self._settings = settings
        self._stage = stage
        self._channel = channel
        self._marks = marks
        self._inputs = Inputs(settings, stage)
        self._partition_of = KeyPartitioner()
        self._partitions: dict[int, Partition] = {}
        self._counts: dict[str, int] = {}
        self._unassigned_s: float | None = time.monotonic()
        """Since when an assignment is waited for, by the monotonic clock."""
        self._unjoined = Standing()
        self._failing = Standing()
        self._ending = False
        self._fault: BaseException | None = None
        """Why the session must end."""
        self._faulty = asyncio.Event()
        self._ends: Ends | None = None
        self._committed: dict[TopicPartition, int] = {}
        """The group's offsets, of partitions that have not been ready yet."""
        self._counters = Counters(stage.name)
        self._stragglers = Stragglers(stage.name, settings.idle_slack_ms)
        self._placement = Placement(stage.name, settings.refuse_wrong_partition)
        self._unreadable = UnreadableBatches(stage.name)
        self._clock_trusted = True
        self._reports = Reports(log, stage.name)
        self._watch = Watch(settings, stage, self._partitions, self._counters, self._reports)
        self._awaited = AwaitedMarks(settings, stage.name, marks.marks)
        self._reach = reach
        self._answered_s = time.monotonic()
        self._unanswered = False
        """Whether the broker gave no answer when it was last asked for the ends."""
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Read until cancelled, or until the client gives up.

        Raises WorkerError if the worker cannot work at all, KafkaError without a broker.
        """
        helpers = [asyncio.create_task(self._look())]
        try:
            self._counts = await self._inputs.open()
            self._reach.found(self._stage.name)
            if FRONTIER_MARKS in self._counts:
                self._marks.begin()
            await self._inputs.join(self)
            self._answered_s = time.monotonic()
            helpers += [
                asyncio.create_task(self._keep_reading()),
                asyncio.create_task(self._ask_for_ends()),
                asyncio.create_task(self._watch_topics()),
                asyncio.create_task(self._read_again()),
            ]
            for helper in helpers:
                helper.add_done_callback(self._ended)
            await self._faulty.wait()
            if self._fault is not None:
                raise self._fault
        finally:
            # The group may still assign partitions to us, until we have left it.
            self._ending = True
            for helper in helpers:
                helper.cancel()
            closing = [part.close() for part in self._partitions.values()]
            self._partitions.clear()
            self._reports.flush()
            self._watch.measure()
            try:
                await asyncio.gather(*closing, *self._closing)
            finally:
                # Also when the order to stop comes now: the group must not wait for us.
                await self._inputs.close()

    def _fail(self, exc: BaseException) -> None:
        """End the session: another one begins."""
        self._fault = self._fault or exc
        self._faulty.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Let the end of what works for the session be its own: nothing may stand still unsaid."""
        if not self._ending:
            cancelled = task.cancelled()
            self._fail(
                KafkaError("the client gave up") if cancelled
                else task.exception() or RuntimeError(f"{task.get_name()} has ended")
            )  # fmt: skip

    # --- reading

    async def _keep_reading(self) -> None:
        while True:
            await self._read()

    async def _read(self) -> None:
        self._watch_clock()
        try:
            fetched = await self._inputs.fetch()
        except OffsetOutOfRangeError as exc:
            self._lose(exc.args[0])
            return
        await self._pump(fetched)

    def _watch_clock(self) -> None:
        """Read nothing by a clock that is not trusted; ask for the broker's meanwhile."""
        clock, before = self._settings.clock, self._clock_trusted
        clock.now_ms()
        self._clock_trusted = clock.trusted
        if self._clock_trusted and before:
            return
        ready = [part for part in self._partitions.values() if part.ready]
        for part in ready:
            part.regulate()
        if ready and clock.asks():
            ready[0].ask_time()

    async def _pump(self, fetched: Fetched) -> None:
        now_ms = self._settings.clock.now_ms()
        # Before anything is awaited: what follows was read in these lives.
        lives = {part: part.incarnation for part in self._partitions.values()}
        news: dict[Partition, list[tuple[str, Columns]]] = {}

        def deliver(part: Partition, tp: TopicPartition, records: Columns) -> None:
            self._stragglers.note(tp, records.timestamps, part.judged_to_ms)
            part.flow.delivered(tp.topic, records, min(max(records.timestamps), now_ms))
            news.setdefault(part, []).append((tp.topic, records))

        for tp, records in fetched.records.items():
            part = self._partitions.get(tp.partition)
            # What arrives before its owner has restored is read again from where that begins.
            if part is None or not part.ready:
                continue
            if records.offsets[0] < part.flow.read_to[tp.topic]:
                part.fail(
                    PositionLost(
                        f"records of {tp.topic} came again",
                        f"{_name(tp)} from offset {records.offsets[0]}",
                    )
                )
                continue
            deliver(part, tp, self._placement.check(tp, records, self._counts))
        for tp, batch in fetched.unread.items():
            part = self._partitions.get(tp.partition)
            if part is None or not part.ready:
                continue
            stand_in = self._unreadable.stand_in(tp, batch)
            if stand_in is None:
                part.flow.stuck.add(tp.topic)
                part.regulate()
            else:
                self._inputs.pass_over(tp, batch)
                deliver(part, tp, stand_in)
        completed, as_of_ms = await self._completed()
        for part in news.keys() | completed.keys():
            if lives.get(part) != part.incarnation:
                continue
            topics = completed.get(part, [])
            for topic in topics:
                part.flow.completed(topic, as_of_ms)
            await self._channel.put(part.batch(news.get(part, ()), now_ms, topics, as_of_ms))
        for part in news:
            part.regulate()

    def _lose(self, positions: Iterable[TopicPartition]) -> None:
        """Start partitions again whose next record is gone: they find out what was lost."""
        for tp in positions:
            part = self._partitions.get(tp.partition)
            if part is not None and part.ready:
                part.fail(PositionLost(f"{tp.topic} has not, or not any more, what comes next"))

    async def _completed(self) -> tuple[dict[Partition, list[str]], int]:
        """Return the topics read to their ends, as of when; nothing if no answer is new."""
        answer, self._ends = self._ends, None
        if answer is None or self._unassigned_s is not None:
            return {}, 0
        completed: dict[Partition, list[str]] = {}
        lags = dict.fromkeys(self._partitions.values(), 0)
        for tp, end in answer.offsets.items():
            part = self._partitions.get(tp.partition)
            if part is None:
                continue
            if not part.ready or tp not in answer.read_to:
                begun = part.processed.get(tp.topic, self._committed.get(tp, end))
                lags[part] += max(0, end - begun)
                continue
            if end < answer.read_to[tp]:
                part.shrunk(tp.topic, answer.read_to[tp], end)
                continue
            try:
                behind = end - await self._inputs.position(tp)
            except IllegalStateError:
                # A rebalance took the partition away while we looked.
                continue
            lags[part] += max(0, behind)
            if behind <= 0:
                completed.setdefault(part, []).append(tp.topic)
        for part, lag in lags.items():
            part.lag = lag
        self._watch.measure()
        return completed, answer.as_of_ms

    def _as_of_ms(self) -> int:
        """Say of which instant all records are there once the inputs are read to today's ends."""
        if self._stage.marked_by is not None:
            return self._marks.marks.frontier_ms(self._counts[self._stage.marked_by])
        return self._settings.clock.now_ms() - self._settings.idle_slack_ms

    async def _ask_for_ends(self) -> None:
        """Ask often while something waits for the answer, else now and then."""
        idle_s = self._settings.idle_probe_interval_ms / 1000
        asked_s = -idle_s
        while True:
            await asyncio.sleep(self._settings.probe_interval_ms / 1000)
            parts = list(self._partitions.values())
            for part in parts:
                part.mark_if_due()
            as_of_ms = self._as_of_ms()
            awaited = any(not part.ready or part.waits_for_ms < as_of_ms for part in parts)
            if parts and not awaited and time.monotonic() < asked_s + idle_s:
                continue
            owned = [(part, tp) for part in parts for tp in self._inputs.owned(part.number)]
            if not owned:
                self._answered_s = time.monotonic()
                continue
            asked_s = time.monotonic()
            read_to = {tp: part.flow.read_to[tp.topic] for part, tp in owned if part.ready}
            answer = Ends(as_of_ms, read_to)
            try:
                answer.offsets = await self._inputs.end_offsets([tp for _, tp in owned])
                await self._ask_for_committed([part for part, _ in owned])
            except KafkaError as exc:
                # Nothing is known to be read to its end, and time stands still.
                self._unanswered = True
                self._reach.lost(self._stage.name, reason(exc))
                if time.monotonic() > self._answered_s + self._settings.silence_limit_ms / 1000:
                    raise
            else:
                self._unanswered = False
                self._answered_s = time.monotonic()
                self._reach.found(self._stage.name)
                self._ends = answer

    async def _read_again(self) -> None:
        """Try again to read the batches that could not be read, or skip them if that was asked."""
        while True:
            await asyncio.sleep(RETRY_S)
            stuck = [part for part in self._partitions.values() if part.flow.stuck]
            if not stuck:
                continue
            places = [
                TopicPartition(topic, part.number) for part in stuck for topic in part.flow.stuck
            ]
            try:
                self._unreadable.skips = await self._inputs.skips(places)
            except KafkaError as exc:
                self._warn_failing("skips-unread", exc,
                                   "whether a batch may be skipped is not known")  # fmt: skip
            for part in stuck:
                part.flow.stuck.clear()
                part.regulate()

    async def _ask_for_committed(self, parts: Iterable[Partition]) -> None:
        """Learn how far partitions that have not been ready are behind."""
        unknown = [
            tp
            for part in dict.fromkeys(parts)
            if not part.ready and not part.processed
            for tp in self._inputs.owned(part.number)
            if tp not in self._committed
        ]
        if unknown:
            found = await self._inputs.committed(unknown)
            begins = await self._inputs.beginning_offsets(unknown)
            self._committed |= {tp: found.get(tp, begins[tp]) for tp in unknown}

    async def _look(self) -> None:
        """Report what stands still, and what was done."""
        summed_s = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            self._watch.look()
            if self._stage.marked_by in self._counts:
                self._awaited.look(self._partitions.values(), self._counts[self._stage.marked_by])
            now_s = time.monotonic()
            waits = self._unassigned_s is not None
            if self._unassigned_s is None:
                self._unjoined.over()
            elif (
                now_s > self._unassigned_s + self._settings.unready_limit_ms / 1000
                and self._unjoined.news("assignment")
            ):
                warn(log, "not-ready", stage=self._stage.name, for_s=now_s - self._unassigned_s,
                     waits_for="an assignment by the group")  # fmt: skip
            self._inputs.check_fetching(now_s, answered=not (self._unanswered or waits))
            self._watch.measure()
            if now_s >= summed_s + self._settings.summary_interval_ms / 1000:
                summed_s = now_s
                self._stragglers.tell()
                self._watch.summarise(waits=waits or self._unanswered or not self._clock_trusted)

    async def _watch_topics(self) -> None:
        """Notice added partitions, whose keys have moved away from their state, and other topics.

        A topic that was deleted and created again may be longer already than the old one was.
        """
        while True:
            await asyncio.sleep(self._settings.metadata_max_age_ms / 1000)
            try:
                await self._inputs.check_counts(self._counts)
                now = await self._inputs.topic_ids()
            except KafkaError as exc:
                if not self._unanswered:
                    self._warn_failing("topics-unwatched", exc,
                                       "a topic that is recreated would not be noticed"
                                       )  # fmt: skip
                continue
            for part in self._partitions.values():
                part.compare_topics(now)

    def _warn_failing(self, name: str, exc: KafkaError, detail: str) -> None:
        """Log once a minute that something beside the reading fails."""
        if self._failing.news(name):
            warn(log, name, stage=self._stage.name, reason=reason(exc), detail=detail,
                 retrying="until it works")  # fmt: skip

    # --- the group's rebalances: the client swallows what goes wrong in them

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish commits in flight and hold everything until the new assignment is known."""
        self._unassigned_s = time.monotonic()
        try:
            await asyncio.gather(*(self._hold(part) for part in self._partitions.values()))
            for tp in revoked:
                part = self._partitions.get(tp.partition)
                if part is not None and part.ready:
                    with contextlib.suppress(IllegalStateError):
                        part.flow.passed(tp.topic, await self._inputs.position(tp))
        except Exception as exc:  # noqa: BLE001
            self._fail(exc)

    async def _hold(self, part: Partition) -> None:
        """Give up a life that does not end its commit: its next owner fences it."""
        try:
            async with within(self._settings.rebalance_timeout_ms, "the end of a commit"):
                await part.hold()
        except KafkaError as exc:
            part.fail(exc)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Go on with the partitions we keep, take over new ones, drop the rest."""
        if self._ending:
            return
        if overruled := self._inputs.overruled:
            self._fail(overruled)
        try:
            self._take_over({tp.partition for tp in assigned})
        except Exception as exc:  # noqa: BLE001
            self._fail(exc)

    def _take_over(self, numbers: set[int]) -> None:
        inputs = self._inputs
        if new := numbers - set(range(self._counts[self._stage.inputs[0]])):
            # The group has noticed before we asked: nothing may be judged there.
            raise keys_moved(f"partition {ranges(new)} is new")
        for number in numbers:
            # Nothing is read before the owner has restored and says from where.
            inputs.seek(number, dict.fromkeys(self._stage.inputs, 0))
            inputs.rest(number, self._stage.inputs)
        kept = numbers & self._partitions.keys()
        lost = [self._partitions.pop(number) for number in self._partitions.keys() - numbers]
        restoring = asyncio.Semaphore(self._settings.restore_concurrency)
        for number in sorted(numbers - kept):
            self._partitions[number] = Partition(
                number, self._settings, self._stage, inputs, self._counts,
                self._partition_of, self._counters, restoring, self._reports, self._marks.marks,
                self._ended,
            )  # fmt: skip
        held_max = self._settings.buffered_bytes_max // max(1, len(numbers))
        instant_max = self._settings.instant_bytes_max // max(1, len(numbers))
        for part in self._partitions.values():
            share = held_max // len(self._stage.inputs)
            part.held_bytes_max = min(max(share, _SHARE_MIN), _SHARE_MAX)
            part.instant_bytes_max = instant_max
        for number in kept:
            self._partitions[number].release()
        self._ends = None
        self._committed.clear()
        self._unassigned_s = None
        event(log, "assigned", stage=self._stage.name, partitions=ranges(numbers),
              kept=len(kept), new=len(numbers - kept), lost=len(lost))  # fmt: skip
        self._tell_missing(numbers, kept)
        # In the background: the heartbeat starts again only when this returns.
        for part in lost:
            closing = asyncio.create_task(part.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _tell_missing(self, numbers: set[int], kept: set[int]) -> None:
        """Say which inputs were deleted or have fewer partitions; what needs them must end."""
        missing: dict[str, set[int]] = {}
        for number in numbers:
            for topic in self._inputs.missing(number):
                missing.setdefault(topic, set()).add(number)
        for topic, gone in missing.items():
            error(log, "input-missing", stage=self._stage.name, topic=topic,
                  partitions=ranges(gone),
                  hint="compare with: shipclock topics check")  # fmt: skip
            for number in gone & kept:
                self._partitions[number].fail(
                    PartitionRefused(
                        f"{topic} was deleted, or has fewer partitions",
                        'state is whole; see "A topic was recreated" in docs/operations.md',
                    )
                )


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}[{tp.partition}]"
