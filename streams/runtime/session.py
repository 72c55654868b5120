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

from streams.engine.records import Columns
from streams.runtime.batches import KeyPartitioner
from streams.runtime.clock import iso
from streams.runtime.counters import Counters
from streams.runtime.errors import PartitionRefused, PositionLost
from streams.runtime.inputs import Fetched, Inputs, keys_moved
from streams.runtime.logs import Standing, duration, error, event, ranges, reason, warn
from streams.runtime.partition import Partition
from streams.runtime.placement import Placement
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.runtime.stragglers import Stragglers
from streams.runtime.unreadable import RETRY_S, UnreadableBatches
from streams.telemetry import metrics

log = logging.getLogger(__name__)

# A stage that idles says so once a minute.
_QUIET_S, _QUIET_RECORDS = 60.0, 1_000
# The frontier lies the slack behind the clock; of two machines' clocks one is ahead a little.
_AHEAD_MS = 5_000
# A topic partition's share of what may be held: some hundred records, some ten thousand.
_SHARE_MIN, _SHARE_MAX = 256 * 1024, 2 * 1024 * 1024


class Ends:
    """Where the topics ended, who had read up to where, and when that was asked."""

    def __init__(self, asked_ms: int, read_to: Mapping[TopicPartition, int]) -> None:
        self.asked_ms = asked_ms
        self.read_to = read_to
        self.offsets: Mapping[TopicPartition, int] = {}


class Session(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads the stage's topics, puts each partition's news on the channel, and owns the partitions.

    News are records and, separately, "read to its end as of an instant": the ends are asked for
    after the instant was noted, so an answer that comes late says something old, never wrong.
    """

    def __init__(self, settings: Settings, stage: Stage, channel: Any) -> None:
        self._settings = settings
        self._stage = stage
        self._channel = channel
        self._inputs = Inputs(settings, stage)
        self._partition_of = KeyPartitioner()
        self._partitions: dict[int, Partition] = {}
        self._counts: dict[str, int] = {}
        self._rebalancing = False
        self._ending = False
        self._fault: BaseException | None = None
        self._ends: Ends | None = None
        self._lag = 0
        self._counters = Counters(stage.name)
        self._stragglers = Stragglers(stage.name, settings.idle_slack_ms)
        self._placement = Placement(stage.name, settings.refuse_wrong_partition)
        self._unreadable = UnreadableBatches(stage.name)
        self._away = Standing()
        self._silence = Standing()
        self._ahead = Standing()
        self._clock_trusted = True
        self._unanswered = False
        """Whether the broker gave no answer when it was last asked for the ends."""
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Read until cancelled, or until the client gives up.

        Raises WorkerError if the worker cannot work at all, KafkaError without a broker.
        """
        helpers: list[asyncio.Task[None]] = []
        try:
            self._counts = await self._inputs.open()
            await self._inputs.join(self)
            helpers = [
                asyncio.create_task(self._ask_for_ends()),
                asyncio.create_task(self._summarise()),
                asyncio.create_task(self._watch_topics()),
                asyncio.create_task(self._read_again()),
            ]
            for helper in helpers:
                helper.add_done_callback(self._ended)
            while True:
                await self._read()
        finally:
            # The group may still assign partitions to us, until we have left it.
            self._ending = True
            for helper in helpers:
                helper.cancel()
            closing = [part.close() for part in self._partitions.values()]
            self._partitions.clear()
            self._lag = 0
            self._measure()
            await asyncio.gather(*closing, *self._closing)
            await self._inputs.close()

    # --- reading

    async def _read(self) -> None:
        self._watch_clock()
        try:
            fetched = await self._inputs.fetch()
        except OffsetOutOfRangeError as exc:
            self._lose(exc.args[0])
            return
        if self._fault is not None:
            raise self._fault
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
                part.fail(PositionLost(f"{_name(tp)} came again from offset {records.offsets[0]}"))
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
                part.fail(PositionLost(f"{_name(tp)} has not, or not any more, what comes next"))

    async def _completed(self) -> tuple[dict[Partition, list[str]], int]:
        """Return the topics read to their ends, as of when; nothing if no answer is new."""
        answer, self._ends = self._ends, None
        if answer is None or self._rebalancing:
            return {}, 0
        completed: dict[Partition, list[str]] = {}
        lag = 0
        for tp, end in answer.offsets.items():
            part = self._partitions.get(tp.partition)
            if part is None or not part.ready:
                continue
            if end < answer.read_to[tp]:
                part.shrunk(tp.topic, answer.read_to[tp], end)
                continue
            try:
                behind = end - await self._inputs.position(tp)
            except IllegalStateError:
                # A rebalance took the partition away while we looked.
                continue
            lag += max(0, behind)
            if behind <= 0:
                completed.setdefault(part, []).append(tp.topic)
        self._lag = lag
        self._measure()
        return completed, answer.asked_ms - self._settings.idle_slack_ms

    def _ended(self, helper: asyncio.Task[None]) -> None:
        """Let a fault be the session's end: without ends, say, time would stand still unsaid."""
        if not helper.cancelled():
            self._fault = helper.exception() or self._fault

    async def _ask_for_ends(self) -> None:
        while True:
            await asyncio.sleep(self._settings.probe_interval_ms / 1000)
            read_to = {
                tp: part.flow.read_to[tp.topic]
                for part in self._partitions.values()
                if part.ready
                for tp in self._inputs.owned(part.number)
            }
            if not read_to:
                self._lag = 0
                self._measure()
                continue
            answer = Ends(self._settings.clock.now_ms(), read_to)
            try:
                answer.offsets = await self._inputs.end_offsets(read_to)
            except KafkaError as exc:
                # Nothing is known to be read to its end, and time stands still.
                self._unanswered = True
                if self._silence.news("ends"):
                    warn(log, "broker-unreachable", bootstrap=self._settings.connection.bootstrap,
                         stage=self._stage.name, detail=reason(exc),
                         hint="trying again; nothing is judged meanwhile")  # fmt: skip
            else:
                self._unanswered = False
                self._silence.over()
                self._ends = answer

    async def _read_again(self) -> None:
        """Try again to read the batches that could not be read, or skip them if that was asked."""
        while True:
            await asyncio.sleep(RETRY_S)
            stuck = [part for part in self._partitions.values() if part.flow.stuck]
            if not stuck:
                continue
            with contextlib.suppress(KafkaError):
                self._unreadable.skips = await self._inputs.skips(
                    TopicPartition(topic, part.number)
                    for part in stuck
                    for topic in part.flow.stuck
                )
            for part in stuck:
                part.flow.stuck.clear()
                part.regulate()

    async def _watch_topics(self) -> None:
        """Notice added partitions, whose keys have moved away from their state, and other topics.

        A topic that was deleted and created again may be longer already than the old one was.
        """
        while True:
            await asyncio.sleep(self._settings.metadata_max_age_ms / 1000)
            with contextlib.suppress(KafkaError):
                await self._inputs.check_counts(self._counts)
                now = await self._inputs.topic_ids()
                for part in self._partitions.values():
                    part.compare_topics(now)

    # --- the group's rebalances: the client swallows what goes wrong in them

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish commits in flight and hold everything until the new assignment is known."""
        self._rebalancing = True
        try:
            await asyncio.gather(*(part.hold() for part in self._partitions.values()))
            for tp in revoked:
                part = self._partitions.get(tp.partition)
                if part is not None and part.ready:
                    with contextlib.suppress(IllegalStateError):
                        part.flow.passed(tp.topic, await self._inputs.position(tp))
        except Exception as exc:  # noqa: BLE001
            self._fault = exc

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Go on with the partitions we keep, take over new ones, drop the rest."""
        if self._ending:
            return
        try:
            self._take_over({tp.partition for tp in assigned})
        except Exception as exc:  # noqa: BLE001
            self._fault = exc

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
                self._partition_of, self._counters, restoring, self._away, self._ended,
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
        self._rebalancing = False
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
                self._partitions[number].fail(PartitionRefused(f"{topic} was deleted"))

    # --- the summary and the metrics

    def _measure(self) -> None:
        ready = [part for part in self._partitions.values() if part.ready]
        stage = self._stage.name
        metrics.LAG.labels(stage).set(self._lag)
        metrics.PARTITIONS.labels(stage).set(len(ready))
        metrics.UNREADABLE.labels(stage).set(sum(len(part.flow.stuck) for part in ready))
        metrics.FRONTIER.labels(stage).set(min((part.frontier_ms for part in ready), default=0))
        metrics.FRONTIER_AHEAD.labels(stage).set(self._ahead_ms() / 1000)

    def _ahead_ms(self) -> int:
        """By how much the furthest partition has judged ahead of the clock: 0 when all is well."""
        now_ms = self._settings.clock.now_ms()
        if not self._settings.clock.trusted:
            return 0
        furthest_ms = max((part.frontier_ms for part in self._partitions.values()), default=0)
        return ahead_ms if (ahead_ms := furthest_ms - now_ms) > _AHEAD_MS else 0

    def _tell_ahead(self) -> bool:
        """Say once a minute that the frontier lies ahead of the clock, and until when it stands."""
        ahead_ms = self._ahead_ms()
        if not ahead_ms:
            self._ahead.over()
        elif self._ahead.news("frontier"):
            until_ms = self._settings.clock.now_ms() + ahead_ms
            error(log, "frontier-ahead", stage=self._stage.name, by=duration(ahead_ms),
                  until=iso(until_ms),
                  detail="the clock was ahead when this was judged; nothing is judged until then",
                  hint="see Clocks in docs/operations.md")  # fmt: skip
        return ahead_ms > 0

    async def _summarise(self) -> None:
        since_s = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.summary_interval_ms / 1000)
            self._stragglers.tell()
            ahead = self._tell_ahead()
            done, interval_s = self._counters, time.monotonic() - since_s
            if interval_s < _QUIET_S and done.records < _QUIET_RECORDS:
                continue
            since_s += interval_s
            stage, partitions = self._stage.name, len(self._partitions)
            if done.idle and (self._unanswered or ahead or not self._clock_trusted):
                continue
            if done.idle:
                event(log, "idle", stage=stage, partitions=partitions, marks=done.marks,
                      lag=self._lag, detail="no records came")  # fmt: skip
            else:
                event(log, "committed", stage=stage, partitions=partitions,
                      records=done.records, outputs=done.outputs, states=done.states,
                      transactions=done.transactions, lag=self._lag,
                      records_per_s=round(done.records / interval_s))  # fmt: skip
            done.clear()


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}[{tp.partition}]"
