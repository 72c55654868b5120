"""Loading the past beside live workers, so that no order is judged before its evidence is in.

What was judged is not judged again, so records behind the frontier count as the frontier itself:
an order paid last week is judged when it is read, by what is known then. The paced load therefore
sends exemptions and all other evidence first, where it waits for its order; sees in the checkpoints
that the workers have taken it; and sends the payments only then. Records are stamped with the time
of sending, so that a replay of the topics sees the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiokafka import TopicPartition

from streams.codec.states.checkpoint import OrdersMeta
from streams.core.facts.events import OrderPaid
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS, ORDER_PAID
from streams.core.rules.book import Rulebook
from streams.core.rules.judging import clock_of
from streams.engine.event_file import lenient, own_time
from streams.engine.orders_changelog import peek_meta
from streams.engine.records import META_KEY, ORDERS_CHANGELOG
from streams.kafka.connection import Connection
from streams.kafka.errors import ClientError
from streams.kafka.waiting import close_quietly
from streams.runtime.client import CONNECT_TIMEOUT_S, workers_of
from streams.runtime.clock import wall_ms
from streams.runtime.publish import InputEvent, Publisher

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

PAYMENTS = INPUT_TOPICS[ORDER_PAID]
# Beyond this a record was not on its way: as the worker's `behind-frontier`.
FAR_MS = 60_000
_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]
# A load may take so long: what is not too old at its beginning must not be so at its end.
_LOAD_MS = 3_600_000
# A worker that gives no sign of having taken what was sent for so long is taken to be stuck.
_PATIENCE_S = 60.0
_POLL_MS = 200
# A checkpoint's own record is the last of its transaction: one of this many is surely among them.
_TAIL = 64

decode_payment = msgspec.json.Decoder(OrderPaid).decode

WaitListener = Callable[[int], None]
"""Called with the number of partitions whose workers are waited for."""


class Reached(NamedTuple):
    """How far the orders of a cluster have been judged."""

    frontier_ms: int
    """What lies before it is judged when it is read: now, with live workers."""
    live: bool


class Frontiers:
    """Follows the checkpoints of the orders stage."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: int) -> None:
        self._consumer = consumer
        self._places = [TopicPartition(ORDERS_CHANGELOG, number) for number in range(partitions)]
        self.metas: dict[int, OrdersMeta] = {}

    async def start(self) -> None:
        """Read the last checkpoint of each partition."""
        await self._consumer.start()
        self._consumer.assign(self._places)
        begins = await self._consumer.beginning_offsets(self._places)
        ends = await self._consumer.end_offsets(self._places)
        back = _TAIL
        missing = [tp for tp in self._places if begins[tp] < ends[tp]]
        while missing:
            for tp in missing:
                self._consumer.seek(tp, max(begins[tp], ends[tp] - back))
            await self._read_to(missing, ends)
            missing = [
                tp for tp in missing
                if tp.partition not in self.metas and ends[tp] - back > begins[tp]
            ]  # fmt: skip
            back *= 64

    async def _read_to(
        self, places: list[TopicPartition], ends: Mapping[TopicPartition, int]
    ) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S) as patience:
            while any([await self._consumer.position(tp) < ends[tp] for tp in places]):
                if await self.poll():
                    patience.reschedule(asyncio.get_running_loop().time() + CONNECT_TIMEOUT_S)

    async def poll(self) -> bool:
        """Take the checkpoints that were committed since; tell whether anything came."""
        fetched = await self._consumer.getmany(timeout_ms=_POLL_MS)
        for tp, records in fetched.items():
            for record in records:
                if record.key == META_KEY and record.value is not None:
                    self.metas[tp.partition] = peek_meta(tp.partition, record.value)
        return bool(fetched)

    async def passed(self, offsets: Mapping[TopicPartition, int], listen: WaitListener) -> None:
        """Wait until everything before these offsets of the inputs has been processed.

        Raises:
            ClientError: For a minute nothing of it was.
        """
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + _PATIENCE_S
        before = -1
        while waiting := {tp for tp, offset in offsets.items() if self._processed(tp) < offset}:
            done = sum(map(self._processed, waiting))
            if done != before:
                before, give_up_s = done, loop.time() + _PATIENCE_S
            if loop.time() > give_up_s:
                numbers = sorted({tp.partition for tp in waiting})
                raise ClientError(
                    f"no worker has taken the evidence in partitions {numbers} for "
                    f"{_PATIENCE_S:.0f} s, so no payment was sent",
                    "see that workers run and judge, and send the same again: what is known "
                    "already changes nothing",
                )
            listen(len({tp.partition for tp in waiting}))
            await self.poll()
        listen(0)

    def _processed(self, tp: TopicPartition) -> int:
        meta = self.metas.get(tp.partition)
        return 0 if meta is None else meta.progress(tp.topic).offset


@contextlib.asynccontextmanager
async def frontiers(connection: Connection, partitions: int) -> AsyncIterator[Frontiers]:
    """Connect to the checkpoints; within `connected`, which turns failures into ClientError."""
    consumer = connection.reader()
    try:
        made = Frontiers(consumer, partitions)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await made.start()
        yield made
    finally:
        await close_quietly(consumer.stop, consumer)


async def reached(connection: Connection, metas: Iterable[OrdersMeta]) -> Reached | None:
    """Tell how far the partitions have been judged; None if no worker ever ran."""
    known = list(metas)
    if not known:
        return None
    groups = sorted({f"{meta.app_id}-orders" for meta in known})
    live = await workers_of(connection, groups) == "live"
    frontier_ms = max(meta.reached_ms for meta in known)
    return Reached(max(frontier_ms, wall_ms()) if live else frontier_ms, live)


class Survey:
    """What of a load a worker would judge wrongly, or refuse, seen from where it has got to.

    Attributes:
        behind: Events whose record timestamp lies more than a minute behind the frontier.
        overdue: Payments whose own deadline has passed: each is judged as soon as it is read.
        oldest_ms: The oldest timestamp or deadline of these.
    """

    def __init__(self, rulebook: Rulebook, frontier_ms: int) -> None:
        self._rulebook = rulebook
        self._far_ms = frontier_ms - FAR_MS
        processing = rulebook.processing
        self._too_old_ms = (
            frontier_ms - min(processing.facts_wait, processing.late_payment) + _LOAD_MS
        )
        self.behind = self.overdue = 0
        self.oldest_ms = frontier_ms
        self._paid: set[bytes] = set()
        self._old_payments: dict[bytes, int] = {}
        self._old_facts: dict[bytes, int] = {}

    def add(self, events: Iterable[InputEvent]) -> None:
        """Look at some more events."""
        for event in events:
            if event.timestamp_ms < self._far_ms:
                self.behind += 1
                self.oldest_ms = min(self.oldest_ms, event.timestamp_ms)
            if event.topic == _EXEMPTIONS:
                continue
            at = own_time(event.topic, lenient(event.value))
            old = self._old_facts
            if event.topic == PAYMENTS:
                old = self._old_payments
                self._paid.add(event.key)
                self._look_at(decode_payment(event.value))
            if at is not None and at < self._too_old_ms:
                old[event.key] = min(at, old.get(event.key, at))

    def _look_at(self, order: OrderPaid) -> None:
        terms = self._rulebook.terms_of(order)
        for _, _, deadline in () if terms is None else terms.kinds:
            running = terms and deadline and clock_of(terms, deadline, order, None)
            if running and running[1] < self._far_ms:
                self.overdue += 1
                self.oldest_ms = min(self.oldest_ms, running[1])
                return

    @property
    def too_old(self) -> list[int]:
        """Own times of what a worker would refuse as too-late, whatever the order, an order each.

        Facts of an order whose payment is not in the load are left out: it may be known.
        """
        facts = (at for key, at in self._old_facts.items() if key in self._paid)
        return [*self._old_payments.values(), *facts]


class PacedLoad:
    """Sends a past in two rounds: its evidence, which waits, then its payments.

    Call `evidence` for every event, in any portions; then `ready` once; then `payments` for every
    event again. Each call sends what belongs to its round and leaves the rest.
    """

    def __init__(self, publisher: Publisher, followed: Frontiers) -> None:
        self._publisher = publisher
        self._followed = followed
        self._ends: dict[TopicPartition, int] = {}

    async def evidence(self, events: Iterable[InputEvent]) -> int:
        """Send what is not a payment; return how many events that were."""
        return await self._send([event for event in events if event.topic != PAYMENTS])

    async def ready(self, listen: WaitListener) -> None:
        """Wait until workers have taken the evidence.

        Raises:
            ClientError: They have not, for a minute.
        """
        await self._followed.passed(self._ends, listen)

    async def payments(self, events: Iterable[InputEvent]) -> int:
        """Send the payments; return how many."""
        return await self._send([event for event in events if event.topic == PAYMENTS])

    async def _send(self, events: list[InputEvent]) -> int:
        if events:
            now_ms = wall_ms()
            ends = await self._publisher.publish([e._replace(timestamp_ms=now_ms) for e in events])
            # Marks of letters that are sent again go beside their events.
            self._ends |= {tp: end for tp, end in ends.items() if tp.topic in INPUT_TOPICS}
        return len(events)
