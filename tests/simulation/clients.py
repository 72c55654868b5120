"""aiokafka's clients over the log in memory, and the network between, which has accidents.

Only what the runtime calls is here. Errors and their names are those that aiokafka 0.14 gives: a
fenced or failed producer refuses whatever call comes next, lost requests of a transaction are sent
again for ever, a listener's exceptions are swallowed (here also noted).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    IllegalOperation,
    IllegalStateError,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownError,
    UnknownMemberIdError,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata

from streams.kafka.topic_ids import TopicIdsRequest
from tests.simulation.groups import Group, Joined
from tests.simulation.hangs import Hangs
from tests.simulation.loop import PROCESS, Process, VirtualLoop
from tests.simulation.memory_kafka import MemoryKafka, Row

T = TypeVar("T")

# What the broker does belongs to no process.
_OUTSIDE = Context()
_RETRIABLE = (KafkaConnectionError, RequestTimedOutError)
_RETRY_S = 0.05
# A group's member fetches without end, a restore a few times.
_MEMBER_WEIGHT, _RESTORE_WEIGHT = 0.1, 5.0


@dataclass
class Faults:
    """How likely an accident is for one request; seconds are virtual. All zero means none."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    refused: float = 0.0
    silence: float = 0.0
    """The request is carried out or not, and no answer comes until the client gives it up."""
    straggler: float = 0.0
    """The request arrives so late that its sender has long gone on."""
    late_commit: float = 0.0
    """A commit waits in the broker while its sender might grow impatient."""
    kill: float = 0.0
    """At a request of a commit, before it is sent, while it is under way or once it is answered."""
    freeze: float = 0.0
    straggle_s: float = 6.0
    late_s: float = 1.0
    freeze_s: float = 4.0
    delay_s: float = 0.01
    slow_topic: float = 0.0
    """How often a fetch of a slow topic brings nothing."""


class Events(Protocol):
    """What the network tells the run."""

    def note(self, text: str, *details: object) -> None: ...

    def fail(self, text: str) -> None: ...

    def killed(self, process: Process) -> None: ...


class Network:
    """Carries requests to the broker and answers back, as far as the faults allow."""

    def __init__(
        self, loop: VirtualLoop, kafka: MemoryKafka, rng: Random, events: Events, hangs: Hangs
    ) -> None:
        self.loop = loop
        self.kafka = kafka
        self.hangs = hangs
        self.events = events
        self.faults = Faults()
        self.groups: dict[str, Group] = {}
        self.slow_topics: set[str] = set()
        self.down_until_s = 0.0
        self.closed = False
        self.rng = rng
        self.takeovers = 0
        self._members = 0
        kafka.on_decided = self._write_markers

    def new_member(self) -> str:
        self._members += 1
        return f"member-{self._members:04}"

    async def call(
        self, name: str, carry_out: Callable[[], T], timeout_s: float, *, of_commit: bool = False
    ) -> T:
        """Send one request; returns its answer, or raises what the client would tell.

        The broker's part runs outside the sender's process: it happens also if the sender is killed
        meanwhile, or has given up waiting. A process may be killed or frozen at any step of a
        commit.
        """
        rng, faults, loop = self.rng, self.faults, self.loop
        process = PROCESS.get()
        there_s = rng.random() * faults.delay_s
        back_s = rng.random() * faults.delay_s
        happens, told, error = True, True, None
        draw = rng.random()
        if self.closed or loop.time() < self.down_until_s:
            happens, error = False, KafkaConnectionError()
        elif (draw := draw - faults.lost_request) < 0:
            happens, error = False, rng.choice(_RETRIABLE)()
        elif (draw := draw - faults.lost_reply) < 0:
            error = rng.choice(_RETRIABLE)()
        elif (draw := draw - faults.refused) < 0:
            happens, error = False, UnknownError()
        elif (draw := draw - faults.silence) < 0:
            happens, told = rng.random() < 0.5, False
        elif (draw := draw - faults.straggler) < 0:
            there_s += rng.random() * faults.straggle_s
        elif name.startswith("commit") and (draw := draw - faults.late_commit) < 0:
            there_s += rng.random() * faults.late_s
        elif process is None or not of_commit:
            pass
        elif (draw := draw - faults.kill) < 0:
            self.events.note("kill at request", process.name, name)
            if rng.random() < 0.3:
                happens, error = False, KafkaConnectionError()
            loop.call_later(rng.choice((0.0, there_s, there_s + back_s)), self._kill, process)
        elif (draw := draw - faults.freeze) < 0:
            self.events.note("freeze at request", process.name, name)
            loop.call_later(rng.choice((0.0, there_s)), self.freeze, process)
        answer: asyncio.Future[T] = loop.create_future()

        def deliver(result: Any, failure: BaseException | None) -> None:
            if answer.done():
                return
            if failure is None:
                answer.set_result(result)
            else:
                answer.set_exception(failure)

        def arrive() -> None:
            result, failure = None, error
            if happens and not self.closed:
                try:
                    result = carry_out()
                except KafkaError as exc:
                    failure = failure or exc
                self.events.note(
                    name, process.name if process else "-", "->",
                    "ok" if failure is None else repr(failure),
                )  # fmt: skip
            else:
                self.events.note("lost", name, process.name if process else "-", repr(error))
            if told:
                loop.call_later(back_s, deliver, result, failure, context=_OUTSIDE)

        loop.call_later(there_s, arrive, context=_OUTSIDE)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise RequestTimedOutError from None

    async def insist(
        self,
        name: str,
        carry_out: Callable[[], T],
        timeout_s: float,
        going_on: Callable[[], bool],
    ) -> T:
        """Send a request again and again until there is an answer, as a transaction does."""
        while True:
            try:
                return await self.call(name, carry_out, timeout_s, of_commit=True)
            except (*_RETRIABLE, ConcurrentTransactions):
                if not going_on():
                    raise
                await asyncio.sleep(_RETRY_S)

    def freeze(self, process: Process) -> None:
        """Let a process sleep for a while."""
        if not process.frozen and not self.closed:
            self.loop.freeze(process)
            asleep_s = self.rng.random() * self.faults.freeze_s
            self.events.note("asleep", process.name, f"{asleep_s:.2f} s")
            self.loop.call_later(asleep_s, self._wake, process, context=_OUTSIDE)

    def _wake(self, process: Process) -> None:
        if process.frozen and not process.killed:
            self.events.note("awake", process.name)
            self.loop.thaw(process)

    def _kill(self, process: Process) -> None:
        if not process.killed and not self.closed:
            self.loop.kill(process)
            self.events.killed(process)

    def _write_markers(self, name: str) -> None:
        """Write a decided transaction's markers one after the other, some time after."""
        wait_s = self.rng.random() * self.faults.delay_s

        def write() -> None:
            if not self.kafka.write_marker(name):
                self._write_markers(name)

        self.loop.call_later(wait_s, write, context=_OUTSIDE)


class MemoryProducer:
    """The transactional half of AIOKafkaProducer."""

    def __init__(
        self,
        network: Network,
        *,
        transactional_id: str,
        max_batch_size: int,
        request_timeout_ms: int,
        **_: object,
    ) -> None:
        self._network = network
        self._kafka = network.kafka
        self._name = transactional_id
        self._batch_bytes = max_batch_size
        self._timeout_s = request_timeout_ms / 1000
        self._epoch = -1
        self._open = False
        self._closed = False
        self._broken: Exception | None = None
        self._sequences: dict[TopicPartition, int] = {}
        self._deliveries: dict[TopicPartition, asyncio.Task[None]] = {}

    async def start(self) -> None:
        def init() -> int:
            epoch = self._kafka.init_producer(self._name)
            self._network.takeovers += 1
            return epoch

        self._epoch = await self._insist("init-producer", init)

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self._batch_bytes, 0, is_transactional=1)

    async def begin_transaction(self) -> None:
        self._check(opened=False)
        await asyncio.sleep(0)
        self._open = True

    async def send_batch(
        self, batch: BatchBuilder, topic: str, *, partition: int
    ) -> asyncio.Future[None]:
        """Hand over a batch; the future is done when it is written, or says why it is not."""
        self._check(opened=True)
        await asyncio.sleep(0)
        # For what is known of the topic.
        await self._network.hangs.wait("producer.send_batch")
        tp = TopicPartition(topic, partition)
        sequence = self._sequences.get(tp, 0)
        self._sequences[tp] = sequence + 1
        before = self._deliveries.get(tp)
        delivery = asyncio.create_task(self._deliver(tp, sequence, rows_of(batch), before))
        self._deliveries[tp] = delivery
        return delivery

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, int], group_id: str
    ) -> None:
        self._check(opened=True)

        def add() -> None:
            now_s = self._network.loop.time()
            self._kafka.add_offsets(self._name, self._epoch, group_id, offsets, now_s)

        await self._insist("add-offsets", add)

    async def commit_transaction(self) -> None:
        await self._end(commit=True)

    async def abort_transaction(self) -> None:
        await self._end(commit=False)

    async def stop(self) -> None:
        self._closed = True
        await asyncio.sleep(0)
        await self._network.hangs.stop("producer.stop")

    async def _end(self, commit: bool) -> None:
        self._check(opened=True)
        if self._deliveries:
            # Whether they succeeded is not asked here: the real client does not either.
            await asyncio.wait(self._deliveries.values())
            for delivery in self._deliveries.values():
                delivery.exception()
            self._deliveries.clear()
            self._check(opened=True)
        self._open = False

        def end() -> None:
            self._kafka.end(self._name, self._epoch, commit)

        await self._insist("commit" if commit else "abort", end)

    async def _deliver(
        self,
        tp: TopicPartition,
        sequence: int,
        rows: list[Row],
        before: asyncio.Task[None] | None,
    ) -> None:
        def add() -> None:
            self._kafka.add_partition(self._name, self._epoch, tp, self._network.loop.time())

        def produce() -> None:
            self._kafka.produce(self._name, self._epoch, tp, sequence, rows)

        where = f"{tp.topic}[{tp.partition}]"
        if before is None:
            await self._insist(f"add-partition {where}", add)
        else:
            await asyncio.wait([before])
            if (failure := before.exception()) is not None:
                raise failure
        await self._insist(f"produce {where} x{len(rows)}", produce)

    async def _insist(self, name: str, carry_out: Callable[[], T]) -> T:
        await self._network.hangs.wait(f"producer: {name}")
        try:
            return await self._network.insist(
                f"{name} {self._name}", carry_out, self._timeout_s, lambda: not self._closed
            )
        except (InvalidProducerEpoch, InvalidTxnState) as exc:
            codes = (ProducerFenced, ProducerFenced, InvalidProducerIdMapping, InvalidTxnState)
            fenced: Exception = self._network.rng.choice(codes)()
            self._broken = fenced
            raise fenced from exc
        except UnknownError as exc:
            # A batch fails alone; whatever else is refused ends the producer.
            if not name.startswith("produce"):
                self._broken = exc
            raise

    def _check(self, *, opened: bool) -> None:
        if self._broken is not None or self._open is not opened or self._closed:
            raise IllegalOperation("the producer is not in the state for this")


def rows_of(batch: BatchBuilder) -> list[Row]:
    """Read a record batch's bytes."""
    memory = MemoryRecords(bytes(batch._build()))
    rows = []
    while (found := memory.next_batch()) is not None:
        rows += [Row(r.timestamp, r.key, r.value, tuple(r.headers)) for r in found]
    return rows


class Fetched(NamedTuple):
    """What the runtime uses of a ConsumerRecord."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class MemoryConsumer:
    """AIOKafkaConsumer: a group's member, or one that is assigned by hand."""

    def __init__(
        self,
        network: Network,
        *,
        group_id: str | None = None,
        isolation_level: str = "read_uncommitted",
        max_partition_fetch_bytes: int = 1_000_000,
        heartbeat_interval_ms: int = 1_000,
        request_timeout_ms: int,
        partition_assignment_strategy: tuple[Any, ...] = (None,),
        **_: object,
    ) -> None:
        self._network = network
        self._timeout_s = request_timeout_ms / 1000
        self._call = partial(network.call, timeout_s=self._timeout_s)
        self._kafka = network.kafka
        self._group_id = group_id
        self._assignor = partition_assignment_strategy[0]
        self._committed = isolation_level == "read_committed"
        self._fetch_bytes = max_partition_fetch_bytes
        self._heartbeat_s = heartbeat_interval_ms / 1000
        self._positions: dict[TopicPartition, int] | None = None
        self._paused: dict[TopicPartition, None] = {}
        self._polled: dict[TopicPartition, int] = {}
        """When a fetch of each partition was answered last."""
        self._topics: list[str] = []
        self._listener: Any = None
        self._assigned = asyncio.Event()
        self._closed = asyncio.Event()
        self._member = ""
        self._coordination: asyncio.Task[None] | None = None
        self._deaf_until_s = 0.0
        """Until then its fetches bring nothing."""

    async def start(self) -> None:
        await self._connect("consumer.start")
        if self._topics:
            await self._network.hangs.wait("consumer.start")
            self._coordination = asyncio.create_task(self._coordinate())
            await self._assigned.wait()

    async def stop(self) -> None:
        self._closed.set()
        if self._coordination is not None:
            await asyncio.wait([self._coordination])
            await self._call("leave", lambda: self._group.leave(self._member, self._now_s))
        await self._network.hangs.stop("consumer.stop")

    async def _connect(self, what: str) -> None:
        await self._network.hangs.wait_and_raise(what, self._timeout_s)
        await self._call("connect", lambda: None)

    # --- assignment

    def subscribe(self, topics: Iterable[str], listener: object) -> None:
        self._topics = list(topics)
        self._listener = listener

    def assign(self, tps: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(tps, -1)
        self._assigned.set()

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions or ())

    def pause(self, *tps: TopicPartition) -> None:
        self._paused |= dict.fromkeys(tps)

    def resume(self, *tps: TopicPartition) -> None:
        for tp in tps:
            self._paused.pop(tp, None)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return self._polled.get(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._own(tp)[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        position = self._own(tp)[tp]
        if position < 0:
            raise IllegalStateError(f"no position for {tp}")
        return position

    def _own(self, tp: TopicPartition) -> dict[TopicPartition, int]:
        if self._positions is None or tp not in self._positions:
            raise IllegalStateError(f"Partition {tp} is not assigned")
        return self._positions

    # --- reading

    async def getmany(
        self, *tps: TopicPartition, timeout_ms: int = 0
    ) -> dict[TopicPartition, list[Any]]:
        await self._assigned.wait()
        if self._deaf():
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        positions = self._positions or {}
        faults, rng = self._network.faults, self._network.rng
        wanted = {
            tp: position
            for tp, position in positions.items()
            if tp not in self._paused
            and position >= 0
            and (not tps or tp in tps)
            and not (tp.topic in self._network.slow_topics and rng.random() < faults.slow_topic)
        }

        def fetch() -> dict[TopicPartition, tuple[list[tuple[int, Row]], int]]:
            found = {}
            for tp, position in wanted.items():
                log = self._kafka.logs[tp]
                if position < log.end:
                    found[tp] = log.read(position, self._committed, self._fetch_bytes)
            return found

        try:
            answer = await self._call("fetch", fetch)
        except KafkaError:
            # The client's own fetcher tries again.
            answer = {}
        else:
            # Of a slow topic, too: that nothing has come is an answer.
            reading = [tp for tp in positions if tp not in self._paused]
            self._polled |= dict.fromkeys(reading, int(self._now_s * 1000))
        # What was sought, paused or taken away meanwhile is thrown away.
        await self._assigned.wait()
        records: dict[TopicPartition, list[Any]] = {}
        if self._positions is positions:
            for tp, (rows, after) in answer.items():
                if positions[tp] != wanted[tp] or tp in self._paused:
                    continue
                positions[tp] = after
                if rows:
                    records[tp] = [self._record(offset, row) for offset, row in rows]
        if not records and timeout_ms:
            await asyncio.sleep(timeout_ms / 1000)
        return records

    def _deaf(self) -> bool:
        weight = _RESTORE_WEIGHT if self._group_id is None else _MEMBER_WEIGHT
        lasts_s = self._network.hangs.strikes("consumer.getmany", weight)
        if lasts_s is not None:
            self._deaf_until_s = max(self._deaf_until_s, self._now_s + lasts_s)
        return self._now_s < self._deaf_until_s

    def _record(self, offset: int, row: Row) -> Any:
        return Fetched(offset, row.timestamp, row.key, row.value)

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        tps = list(tps)
        await self._network.hangs.wait_and_raise("consumer.end_offsets", self._timeout_s)

        def ends() -> dict[TopicPartition, int]:
            logs = {tp: self._kafka.logs[tp] for tp in tps}
            return {tp: log.stable_end if self._committed else log.end for tp, log in logs.items()}

        return await self._call("end-offsets", ends)

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        tps = list(tps)
        await self._network.hangs.wait_and_raise("consumer.beginning_offsets", self._timeout_s)
        return await self._call("beginning-offsets", lambda: dict.fromkeys(tps, 0))

    # --- the group

    @property
    def _group(self) -> Group:
        return self._network.groups[str(self._group_id)]

    @property
    def _now_s(self) -> float:
        return self._network.loop.time()

    async def _coordinate(self) -> None:
        self._member = self._network.new_member()
        generation = -1
        while not self._closed.is_set():
            self._assigned.clear()
            beating = asyncio.create_task(self._beat(generation))
            await self._tell("on_partitions_revoked", self.assignment())
            beating.cancel()
            joined = await self._join()
            if joined is None:
                return
            self._positions = {
                TopicPartition(topic, partition): -1
                for topic in self._topics
                for partition in joined.partitions
            }
            self._paused.clear()
            self._assignor.on_assignment(joined.assignment)
            self._polled.clear()
            self._assigned.set()
            await self._tell("on_partitions_assigned", self.assignment())
            generation = joined.generation
            await self._stay(generation)

    async def _join(self) -> Joined | None:
        while not self._closed.is_set():
            try:
                joining = await self._call(
                    "join", lambda: self._group.join(self._member, self._now_s, self._assignor)
                )
            except KafkaError:
                await asyncio.sleep(_RETRY_S)
                continue
            closed = asyncio.create_task(self._closed.wait())
            either: list[asyncio.Future[Any]] = [joining, closed]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            closed.cancel()
            if joining.done():
                return joining.result()
        return None

    async def _stay(self, generation: int) -> None:
        """Send heartbeats until the coordinator wants us to join again."""
        while not self._closed.is_set():
            try:
                await self._call(
                    "heartbeat",
                    lambda: self._group.heartbeat(self._member, generation, self._now_s),
                )
            except UnknownMemberIdError:
                self._member = self._network.new_member()
                return
            except RebalanceInProgressError:
                return
            except KafkaError:
                pass
            await asyncio.sleep(self._heartbeat_s)

    async def _beat(self, generation: int) -> None:
        """Stay a member while the listener finishes its commits."""
        while True:
            with contextlib.suppress(KafkaError):
                await self._call(
                    "heartbeat",
                    lambda: self._group.heartbeat(self._member, generation, self._now_s),
                )
            await asyncio.sleep(self._heartbeat_s)

    async def _tell(self, method: str, tps: set[TopicPartition]) -> None:
        try:
            await getattr(self._listener, method)(tps)
        except Exception as exc:  # noqa: BLE001 - as the client does
            self._network.events.fail(f"{method} raised {exc!r}")


class MemoryAdmin:
    """What of AIOKafkaAdminClient the runtime asks."""

    def __init__(self, network: Network, *, request_timeout_ms: int, **_: object) -> None:
        self._hangs = network.hangs
        self._timeout_s = request_timeout_ms / 1000
        self._call = partial(network.call, timeout_s=self._timeout_s)
        self._kafka = network.kafka
        self._groups = network.groups

    async def start(self) -> None:
        await self._hangs.wait_and_raise("admin.start", self._timeout_s)
        await self._call("connect", lambda: None)

    async def close(self) -> None:
        await asyncio.sleep(0)
        await self._hangs.stop("admin.close")

    async def describe_topics(self) -> list[dict[str, Any]]:
        await self._hangs.wait_and_raise("admin.describe_topics", self._timeout_s)

        def describe() -> list[dict[str, Any]]:
            counts = self._kafka.counts
            return [{"topic": topic, "partitions": list(range(n))} for topic, n in counts.items()]

        return await self._call("describe-topics", describe)

    async def _send_request(self, request: TopicIdsRequest) -> Any:
        def ids() -> Any:
            return SimpleNamespace(
                topics=[(0, topic, md5(topic.encode()).digest()) for topic in request.topics]
            )

        return await self._call("topic-ids", ids)

    async def describe_consumer_groups(self, group_ids: list[str]) -> list[Any]:
        def describe() -> list[Any]:
            found = [
                (
                    0,
                    group,
                    "",
                    "",
                    "",
                    [("", "", "", said) for said in self._groups[group].subscriptions()],
                )
                for group in group_ids
            ]
            return [SimpleNamespace(groups=found)]

        return await self._call("describe-groups", describe)

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        await self._hangs.wait_and_raise("admin.group_offsets", self._timeout_s)

        def offsets() -> dict[TopicPartition, OffsetAndMetadata]:
            committed = self._kafka.committed
            return {
                tp: OffsetAndMetadata(committed.get((group_id, tp), -1), "") for tp in partitions
            }

        return await self._call("group-offsets", offsets)
