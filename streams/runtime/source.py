"""The source of a stage: a service of the Faust app that reads a consumer group."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from mode import Service

from streams.engine.records import InRecord
from streams.runtime.batches import KeyPartitioner
from streams.runtime.errors import WorkerError
from streams.runtime.inputs import Inputs, Records
from streams.runtime.logs import event, reason
from streams.runtime.partition import Counters, Partition
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage

log = logging.getLogger(__name__)

_RETRY_S = 3.0
# A stage that idles says so once a minute.
_QUIET_S, _QUIET_RECORDS = 60.0, 1_000
_HELD_MIN, _HELD_MAX = 1_000, 10_000


class Source(Service, ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads the stage's topics, puts each partition's news on the channel, and owns the partitions.

    News are records and, separately, "read to its end as of an instant": the ends are asked for
    after the instant was noted, so an answer that comes late says something old, never wrong.
    """

    logger = logging.getLogger("mode")

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        channel: Any,
        on_fatal: Callable[[WorkerError], None],
        on_unreachable: Callable[[str], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._settings = settings
        self._stage = stage
        self._channel = channel
        self._on_fatal = on_fatal
        self._on_unreachable = on_unreachable
        self._partition_of = KeyPartitioner()
        self._partitions: dict[int, Partition] = {}
        self._counts: dict[str, int] = {}
        self._rebalancing = False
        self._ends: tuple[int, dict[TopicPartition, int]] | None = None
        self._lag = 0
        self._counters = Counters()
        self._joined: Inputs
        self._closing: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None

    async def on_started(self) -> None:
        """Begin to read."""
        self._reading = asyncio.create_task(self._run(), name=f"source-{self._stage.name}")

    async def on_stop(self) -> None:
        """Stop reading, finish commits, leave the group."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _run(self) -> None:
        while True:
            try:
                await self._session()
            except WorkerError as exc:
                self._on_fatal(exc)
                return
            except (KafkaError, OSError) as exc:
                self._on_unreachable(reason(exc))
            except Exception as exc:
                log.exception("broken stage=%s", self._stage.name)
                self._on_fatal(WorkerError(f"the {self._stage.name} source broke: {reason(exc)}"))
                return
            await asyncio.sleep(_RETRY_S)

    async def _session(self) -> None:
        """Read until cancelled, or until the client gives up."""
        inputs = self._joined = Inputs(self._settings, self._stage)
        helpers: list[asyncio.Task[None]] = []
        try:
            self._counts = await inputs.open()
            await inputs.join(self)
            helpers = [
                asyncio.create_task(self._ask_for_ends(inputs)),
                asyncio.create_task(self._summarise()),
            ]
            while True:
                await self._pump(inputs, await inputs.fetch())
        finally:
            for helper in helpers:
                helper.cancel()
            closing = [part.close() for part in self._partitions.values()]
            self._partitions.clear()
            await asyncio.gather(*closing, *self._closing)
            await inputs.close()

    async def _pump(self, inputs: Inputs, fetched: Records) -> None:
        now_ms = self._settings.clock.now_ms()
        news: dict[Partition, list[tuple[str, Sequence[InRecord]]]] = {}
        for tp, records in fetched.items():
            part = self._partitions.get(tp.partition)
            # What arrives around a rebalance is read again from where the partition goes on.
            if part is None or not part.ready or self._rebalancing:
                continue
            newest_ms = max([record[1] for record in records])
            part.flow.delivered(tp.topic, records[-1][0] + 1, min(newest_ms, now_ms))
            news.setdefault(part, []).append((tp.topic, records))
        completed, as_of_ms = await self._completed(inputs)
        for part in news.keys() | completed.keys():
            topics = completed.get(part, [])
            for topic in topics:
                part.flow.completed(topic, as_of_ms)
            await self._channel.put(part.batch(news.get(part, ()), now_ms, topics, as_of_ms))
        for part in news:
            part.regulate()

    async def _completed(self, inputs: Inputs) -> tuple[dict[Partition, list[str]], int]:
        """Return the topics read to their ends, as of when; nothing if no answer is new."""
        answer, self._ends = self._ends, None
        if answer is None or self._rebalancing:
            return {}, 0
        asked_ms, ends = answer
        completed: dict[Partition, list[str]] = {}
        lag = 0
        try:
            for tp, end in ends.items():
                part = self._partitions.get(tp.partition)
                if part is None or not part.ready:
                    continue
                behind = end - await inputs.position(tp)
                lag += max(0, behind)
                if behind <= 0:
                    completed.setdefault(part, []).append(tp.topic)
        except IllegalStateError:
            # A rebalance took the partition away while we looked.
            return {}, 0
        self._lag = lag
        return completed, asked_ms - self._settings.idle_slack_ms

    async def _ask_for_ends(self, inputs: Inputs) -> None:
        while True:
            await asyncio.sleep(self._settings.probe_interval_ms / 1000)
            tps = [
                TopicPartition(topic, part.number)
                for part in self._partitions.values()
                if part.ready
                for topic in self._stage.inputs
            ]
            if not tps:
                continue
            asked_ms = self._settings.clock.now_ms()
            # Without an answer nothing is known to be read to its end, and time stands still.
            with contextlib.suppress(KafkaError):
                self._ends = asked_ms, await inputs.end_offsets(tps)

    # --- the group's rebalances

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish commits in flight and hold everything until the new assignment is known."""
        self._rebalancing = True
        inputs = self._joined
        await asyncio.gather(*(part.hold() for part in self._partitions.values()))
        for tp in revoked:
            part = self._partitions.get(tp.partition)
            if part is not None and part.ready:
                part.offsets[tp.topic] = await inputs.position(tp)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Go on with the partitions we keep, take over new ones, drop the rest."""
        inputs = self._joined
        numbers = {tp.partition for tp in assigned}
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
                self._partition_of, self._counters, restoring,
            )  # fmt: skip
        share = self._settings.buffered_records_max // (
            len(self._stage.inputs) * max(1, len(numbers))
        )
        for part in self._partitions.values():
            part.held_max = min(max(share, _HELD_MIN), _HELD_MAX)
        for number in kept:
            self._partitions[number].release()
        self._ends = None
        self._rebalancing = False
        event(log, "assigned", stage=self._stage.name, partitions=_ranges(numbers),
              kept=len(kept), new=len(numbers - kept), lost=len(lost))  # fmt: skip
        # In the background: the heartbeat starts again only when this returns.
        for part in lost:
            closing = asyncio.create_task(part.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _summarise(self) -> None:
        since_s = time.monotonic()
        while True:
            await asyncio.sleep(self._settings.summary_interval_ms / 1000)
            done, interval_s = self._counters, time.monotonic() - since_s
            if interval_s < _QUIET_S and done.records < _QUIET_RECORDS:
                continue
            since_s += interval_s
            event(log, "committed", stage=self._stage.name, partitions=len(self._partitions),
                  records=done.records, outputs=done.outputs, states=done.states,
                  transactions=done.transactions, lag=self._lag,
                  records_per_s=round(done.records / interval_s))  # fmt: skip
            done.clear()


def _ranges(numbers: set[int]) -> str:
    """Write {0, 1, 2, 5} as 0-2,5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"
