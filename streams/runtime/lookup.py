"""Read what the logs hold of one order: a few partitions, each to the end it had at the start."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.codec.state import unpack_order
from streams.engine.coverage import Coverage
from streams.engine.evidence import DEAD_LETTERS, SHOP_OUTPUTS, Entries, Evidence
from streams.engine.records import ORDERS_CHANGELOG, SHOPS_CHANGELOG
from streams.engine.resent import RESENT_LETTERS, RESENT_PARTITION
from streams.kafka.connection import Connection
from streams.kafka.waiting import close_quietly
from streams.runtime.batches import KeyPartitioner
from streams.runtime.client import CONNECT_TIMEOUT_S, connected, count_of
from streams.runtime.lean import AsColumns, columns, lean, readable
from streams.runtime.rights import READ, reading_rights

_FETCH_WAIT_MS = 500
_FETCH_PARTITION_BYTES = 4 * 1024 * 1024

ProgressListener = Callable[[int, int], None]
"""Called with the offsets read and those to read."""
NoteListener = Callable[[str], None]
"""Called with what a person should know about what was read."""
_Take = Callable[[TopicPartition, Entries], None]


async def look_up(
    connection: Connection, order_id: str, progress: ProgressListener, note: NoteListener
) -> Evidence:
    """Gather an order's evidence from changelogs and output topics.

    A shop's journal is not sorted by order, so its whole partition is read. An order that is not
    where its key belongs is looked for in all partitions. All is read up to the ends of one moment:
    read one after the other to its end, the outputs of a worker at work would know more than the
    state does.

    Raises:
        ClientError: The broker cannot be reached, or topics are missing.
    """
    partition_of = KeyPartitioner()
    topics = [*READ, RESENT_LETTERS]
    async with _reader(connection, topics, progress, note) as (reader, counts):

        def place(topic: str, key: str) -> TopicPartition:
            return TopicPartition(topic, partition_of(key.encode(), count_of(topic, counts)))

        for topic in READ:
            count_of(topic, counts)
        await reader.keep_ends(
            TopicPartition(topic, number)
            for topic in topics
            for number in range(counts.get(topic, 0))
        )
        evidence = await reader.order(order_id, place(ORDERS_CHANGELOG, order_id))
        if evidence.shop_id is None:
            homes = await reader.homes([order_id], range(counts[ORDERS_CHANGELOG]))
            if order_id in homes:
                note(astray(order_id, homes[order_id]))
                home = TopicPartition(ORDERS_CHANGELOG, homes[order_id])
                evidence = await reader.order(order_id, home)
        places = [place(DEAD_LETTERS, order_id)]
        if RESENT_LETTERS in counts:
            # A cluster of an older version does not have it.
            places.append(TopicPartition(RESENT_LETTERS, RESENT_PARTITION))
        shop_id = evidence.shop_id
        if shop_id is not None:
            places += [place(topic, shop_id) for topic in (SHOPS_CHANGELOG, *SHOP_OUTPUTS)]

        def take(tp: TopicPartition, records: Entries) -> None:
            if tp.topic == SHOPS_CHANGELOG:
                evidence.shops_changelog(records)
            elif tp.topic == RESENT_LETTERS:
                for key, value in records:
                    evidence.resent.take(key, value)
            else:
                evidence.outputs(tp.topic, records)

        await reader.read(places, take)
    return evidence


async def homes_of(
    connection: Connection,
    order_ids: Collection[str],
    progress: ProgressListener,
    note: NoteListener,
) -> dict[str, int]:
    """Find the partitions in which orders are known; those that are known nowhere are left out.

    Raises:
        ClientError: The broker cannot be reached, or the changelog does not exist.
    """
    partition_of = KeyPartitioner()
    async with _reader(connection, [ORDERS_CHANGELOG], progress, note) as (reader, counts):
        count = count_of(ORDERS_CHANGELOG, counts)
        near = {partition_of(order_id.encode(), count) for order_id in order_ids}
        homes = await reader.homes(order_ids, sorted(near))
        if len(homes) < len(set(order_ids)):
            homes |= await reader.homes(
                [order_id for order_id in order_ids if order_id not in homes],
                [number for number in range(count) if number not in near],
            )
        for order_id, home in homes.items():
            if home != partition_of(order_id.encode(), count):
                note(astray(order_id, home))
        return homes


async def fill_coverage(
    connection: Connection, coverage: Coverage, progress: ProgressListener, note: NoteListener
) -> None:
    """Read both changelogs to their ends, to find what an exemption covers.

    Raises:
        ClientError: The broker cannot be reached, or a changelog does not exist.
    """
    takes: dict[str, Callable[[Entries], None]] = {
        ORDERS_CHANGELOG: coverage.orders_changelog,
        SHOPS_CHANGELOG: coverage.shops_changelog,
    }
    async with _reader(connection, [*takes], progress, note) as (reader, counts):
        for topic in takes:
            places = [TopicPartition(topic, number) for number in range(count_of(topic, counts))]
            await reader.read(places, lambda tp, records: takes[tp.topic](records))


def astray(order_id: str, partition: int) -> str:
    """Say that an order is not where its key belongs."""
    return (
        f"order {order_id} is known in partition {partition}, where its key does not belong: its "
        "producer does not hash keys with murmur2, and facts of other producers do not reach it"
    )


class _Reader:
    """Reads partitions from their beginnings to the ends that were kept, or that they have now."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        mark: AsColumns | None,
        progress: ProgressListener,
        note: NoteListener,
    ) -> None:
        self._consumer = consumer
        self._mark = mark
        self._progress = progress
        self._note = note
        self._ends: dict[TopicPartition, int] = {}

    async def keep_ends(self, places: Iterable[TopicPartition]) -> None:
        """Let what is read of some partitions later end where they end now."""
        self._ends = await self._consumer.end_offsets([*places])

    async def order(self, order_id: str, place: TopicPartition) -> Evidence:
        """Gather what a partition of the orders' changelog holds of an order."""
        evidence = Evidence(order_id)
        await self.read([place], lambda _, records: evidence.orders_changelog(records))
        return evidence

    async def homes(self, order_ids: Iterable[str], partitions: Iterable[int]) -> dict[str, int]:
        """Find which of some partitions know orders; facts that wait for an order are not enough.

        Raises:
            StateVersionError: A newer program wrote a state.
        """
        wanted = {order_id.encode(): order_id for order_id in order_ids}
        states: dict[tuple[int, bytes], bytes | None] = {}

        def take(tp: TopicPartition, records: Entries) -> None:
            states.update(((tp.partition, key), value) for key, value in records if key in wanted)

        await self.read([TopicPartition(ORDERS_CHANGELOG, each) for each in partitions], take)
        return {
            wanted[key]: partition
            for (partition, key), value in sorted(states.items())
            if value is not None and unpack_order(value).order is not None
        }

    async def read(self, places: Iterable[TopicPartition], take: _Take) -> None:
        """Hand over all records of some partitions; a batch that cannot be read is left out."""
        consumer, wanted = self._consumer, list(places)
        begins = await consumer.beginning_offsets(wanted)
        ends = self._ends or await consumer.end_offsets(wanted)
        open_places = [tp for tp in wanted if begins[tp] < ends[tp]]
        total = sum(ends[tp] - begins[tp] for tp in open_places)
        done = dict.fromkeys(open_places, 0)
        consumer.assign(open_places)
        for tp in open_places:
            consumer.seek(tp, begins[tp])
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S) as patience:
            while open_places:
                if self._mark is not None:
                    self._mark.begin()
                fetched = await consumer.getmany(timeout_ms=_FETCH_WAIT_MS)
                read, unread = readable(fetched)
                for tp, batches in read.items():
                    offsets, _, keys, values = columns(batches)
                    count = bisect_left(offsets, ends[tp])
                    take(tp, zip(keys[:count], values[:count], strict=True))
                for tp, left_out in unread.items():
                    self._note(
                        f"left out offsets {left_out.first}-{left_out.last} of "
                        f"{tp.topic}[{tp.partition}], which cannot be read: {left_out.detail}"
                    )
                    consumer.seek(tp, left_out.last + 1)
                if fetched:
                    # The client itself waits for ever for a broker that is away.
                    patience.reschedule(loop.time() + CONNECT_TIMEOUT_S)
                for tp in list(open_places):
                    position = await consumer.position(tp)
                    done[tp] = min(position, ends[tp]) - begins[tp]
                    if position >= ends[tp]:
                        consumer.pause(tp)
                        open_places.remove(tp)
                self._progress(sum(done.values()), total)


@asynccontextmanager
async def _reader(
    connection: Connection, topics: Sequence[str], progress: ProgressListener, note: NoteListener
) -> AsyncIterator[tuple[_Reader, dict[str, int]]]:
    """Connect; yield what reads, and the partition count of every topic."""
    async with connected(connection, reading_rights(connection, topics)) as counts:
        mark = AsColumns(connection.inflated_bytes_max) if lean() else None
        consumer = connection.reader(
            max_partition_fetch_bytes=_FETCH_PARTITION_BYTES, value_deserializer=mark
        )
        try:
            await consumer.start()
            yield _Reader(consumer, mark, progress, note), counts
        finally:
            await close_quietly(consumer.stop, consumer)
