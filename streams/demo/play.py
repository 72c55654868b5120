"""Play the sale: send what is due, read what comes out, show both, until all is judged."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from asyncio import Future
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from streams.codec.encode import encode_value
from streams.codec.states.checkpoint import decode_head
from streams.core.facts.inputs import (
    EXEMPTION_GRANTED,
    FIRST_SCAN,
    INPUT_TOPICS,
    ORDER_CLOSED,
    ORDER_PAID,
)
from streams.core.facts.outputs import Value
from streams.core.rules.book import Rulebook
from streams.demo.errors import DemoError
from streams.demo.narrate import Narrator
from streams.demo.screen import Screen
from streams.demo.surge import END_MS, Record, Surge
from streams.demo.tally import Inputs, Tally, of_simulation
from streams.demo.worker import Worker
from streams.engine.records import META_KEY, SHOPS_CHANGELOG
from streams.engine.simulate import simulate
from streams.kafka.connection import Connection
from streams.runtime.clock import TrustedClock
from streams.runtime.logs import reason
from streams.topics.schemas import TYPE_OF_TOPIC

OUTPUT_TOPICS = tuple(topic for topic in TYPE_OF_TOPIC if topic not in INPUT_TOPICS)

_ORDERS = INPUT_TOPICS[ORDER_PAID]
_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]
_SHIPPED = (INPUT_TOPICS[FIRST_SCAN], INPUT_TOPICS[ORDER_CLOSED])
_TICK_MS = 50
_ROUND_S = 0.4
_CLOSE_SECONDS_MAX = 2.0
# After the story's end the workers need a second or two; a slow machine needs more.
_PATIENCE_S = 60.0


class Played(NamedTuple):
    """What went in and what came out, and the input as lines for a simulation."""

    inputs: Inputs
    tally: Tally
    lines: list[bytes]


async def play(
    connection: Connection,
    app_id: str,
    surge: Surge,
    clock: TrustedClock,
    screen: Screen,
    narrator: Narrator,
    worker: Worker,
    broker_runs: Callable[[], bool],
) -> Played:
    """Play the surge to its end by the clock.

    Raises:
        DemoError: The worker or the broker ended, or they did not come to the end.
    """
    try:
        return await _play(connection, app_id, surge, clock, screen, narrator, worker, broker_runs)
    except KafkaError as error:
        raise DemoError(f"the broker at {connection.bootstrap} refused: {reason(error)}") from None


async def _play(
    connection: Connection,
    app_id: str,
    surge: Surge,
    clock: TrustedClock,
    screen: Screen,
    narrator: Narrator,
    worker: Worker,
    broker_runs: Callable[[], bool],
) -> Played:
    tally = Tally()
    records: list[Record] = []
    values: list[Value] = []
    next_round_s = give_up_s = 0.0
    finished = False
    async with (
        _sender(connection, app_id, surge) as sender,
        _reader(connection, app_id) as reader,
        _undisturbed_end(),
    ):
        while not finished:
            if not broker_runs():
                raise DemoError("the broker has ended")
            if not worker.alive:
                raise DemoError(f"the worker has ended: {worker.last_words()}")
            now_ms = min(clock.now_ms(), END_MS)
            for record in await sender.send_due(now_ms):
                records.append(record)
                if sender.first_delivery(record) and record.topic == _ORDERS:
                    tally.shops[surge.shop_of[record.order_id]].orders += 1
            for topic, event_id, value in await reader.fetch():
                tally.add(topic, event_id, value)
                values.append(value)
            if now_ms == END_MS:
                give_up_s = give_up_s or time.monotonic() + _PATIENCE_S
                if time.monotonic() > give_up_s:
                    raise DemoError(
                        f"the worker is not done {_PATIENCE_S:.0f} s after the end of the story: "
                        + worker.last_words()
                    )
                finished = await reader.finished()
            if finished or time.monotonic() >= next_round_s:
                next_round_s = time.monotonic() + _ROUND_S
                screen.show(narrator.tell(records, values), now_ms, tally, sender.counts)
                records, values = [], []
        taken = await reader.taken()
        return Played(await sender.inputs(taken), tally, list(sender.lines()))


@asynccontextmanager
async def _undisturbed_end() -> AsyncIterator[None]:
    """Once Ctrl-C has ended the play, let no further one disturb its closing."""
    try:
        yield
    except asyncio.CancelledError:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise


def judged_without_broker(played: Played, rulebook: Rulebook) -> Tally:
    """Judge the same records, as they lay in the topics, with no broker at all."""
    outputs = (
        msgspec.json.decode(line, type=_Line) for line in simulate(played.lines, rulebook, END_MS)
    )
    return of_simulation((line.topic, _DECODERS[line.topic](line.value)) for line in outputs)


class _Line(msgspec.Struct):
    """A line of a simulation's output."""

    topic: str
    value: msgspec.Raw


_DECODERS: dict[str, Callable[[Any], Any]] = {
    topic: msgspec.json.Decoder(TYPE_OF_TOPIC[topic]).decode for topic in OUTPUT_TOPICS
}


class Sender:
    """Sends records when they are due, and remembers where each has come to lie."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        granting: AIOKafkaProducer,
        surge: Surge,
        partitions: int,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Facts sent by topic, repeats left out."""
        self._producer = producer
        self._granting = granting
        self._surge = surge
        self._partitions = partitions
        self._waiting = deque(surge.records)
        self._sent: list[tuple[Record, Future[RecordMetadata]]] = []
        self._known: set[tuple[str, str]] = set()

    async def send_due(self, now_ms: int) -> list[Record]:
        """Send what is due, in order; return it."""
        due = []
        while self._waiting and self._waiting[0].at_ms <= now_ms:
            record = self._waiting.popleft()
            due.append(record)
            if record.topic == _EXEMPTIONS:
                await self._grant(record)
            else:
                await self._send(self._producer, record, None)
        return due

    async def _grant(self, record: Record) -> None:
        """Send a copy to every partition, all of them or none."""
        async with self._granting.transaction():
            for partition in range(self._partitions):
                await self._send(self._granting, record, partition)

    async def _send(
        self, producer: AIOKafkaProducer, record: Record, partition: int | None
    ) -> None:
        place = await producer.send(
            record.topic, record.value, record.key, partition, timestamp_ms=record.at_ms
        )
        self._sent.append((record, place))

    def first_delivery(self, record: Record) -> bool:
        """Tell whether this is a fact about an order and no repeat; count it."""
        name = (record.topic, record.order_id)
        if not record.order_id or name in self._known:
            return False
        self._known.add(name)
        self.counts[record.topic] += 1
        return True

    async def inputs(self, taken: dict[TopicPartition, int]) -> Inputs:
        """Sum up, given the first offset of each partition that the workers have not taken."""
        places = await asyncio.gather(*(place for _, place in self._sent))
        return Inputs(
            sent=len(places),
            taken=sum(place.offset < taken.get(place.topic_partition, 0) for place in places),
            orders=self.counts[_ORDERS],
            shipped={order_id for topic, order_id in self._known if topic in _SHIPPED},
            spoilt=self._surge.spoilt,
        )

    def lines(self) -> Iterator[bytes]:
        """Yield what was sent as lines for a simulation."""
        for record, place in self._sent:
            yield encode_value(
                {
                    "topic": record.topic,
                    "timestamp": record.at_ms,
                    "partition": place.result().partition,
                    "key": record.key.decode(),
                    "raw": record.value.decode(),
                }
            )


class Reader:
    """Reads the output topics as any consumer would, and watches how far the workers are."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        app_id: str,
        shop_partitions: int,
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._app_id = app_id
        self._reached_ms = [0] * shop_partitions
        """Up to where each shop partition has judged, and so both stages."""

    async def fetch(self) -> list[tuple[str, str, Value]]:
        """Return the next committed outputs: topic, event id, value."""
        found = []
        fetched = await self._consumer.getmany(timeout_ms=_TICK_MS)
        for tp, records in fetched.items():
            if tp.topic == SHOPS_CHANGELOG:
                for record in records:
                    if record.key == META_KEY:
                        self._reached_ms[tp.partition] = decode_head(record.value).reached_ms
                continue
            decode = _DECODERS[tp.topic]
            for record in records:
                event_id = dict(record.headers)["ce_id"].decode()
                found.append((tp.topic, event_id, decode(record.value)))
        return found

    async def finished(self) -> bool:
        """Tell whether both stages have judged all there is, and all of it has been fetched."""
        if min(self._reached_ms) < END_MS:
            return False
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        positions = [await self._consumer.position(tp) >= end for tp, end in ends.items()]
        return all(positions)

    async def taken(self) -> dict[TopicPartition, int]:
        """Return the first offset of each input partition that the orders stage has not taken."""
        found = await self._admin.list_consumer_group_offsets(f"{self._app_id}-orders")
        return {tp: committed.offset for tp, committed in found.items()}


@asynccontextmanager
async def _sender(connection: Connection, app_id: str, surge: Surge) -> AsyncIterator[Sender]:
    producer = connection.producer(enable_idempotence=True)
    granting = connection.producer(transactional_id=f"{app_id}-grants")
    try:
        await asyncio.gather(producer.start(), granting.start())
        partitions = len(await producer.partitions_for(_EXEMPTIONS))
        yield Sender(producer, granting, surge, partitions)
    finally:
        await _close(producer.stop(), granting.stop())


@asynccontextmanager
async def _reader(connection: Connection, app_id: str) -> AsyncIterator[Reader]:
    consumer = connection.consumer(
        group_id=None,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_TICK_MS,
    )
    admin = connection.admin()
    try:
        await asyncio.gather(consumer.start(), admin.start())
        described = await admin.describe_topics([*OUTPUT_TOPICS, SHOPS_CHANGELOG])
        counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
        tps = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
        consumer.assign(tps)
        yield Reader(consumer, admin, app_id, counts[SHOPS_CHANGELOG])
    finally:
        await _close(consumer.stop(), admin.close())


async def _close(*closing: Coroutine[Any, Any, None]) -> None:
    """Disconnect, without waiting long for a broker that is away."""
    tasks = [asyncio.create_task(_quietly(each)) for each in closing]
    await asyncio.wait(tasks, timeout=_CLOSE_SECONDS_MAX)


async def _quietly(closing: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(KafkaError):
        await closing
