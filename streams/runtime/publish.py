"""Publish input events: checked first, properly keyed, each batch in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError

from streams.codec.decode import Decoder
from streams.core.facts.events import ExemptionGranted
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_OF_TOPIC, INPUT_TOPICS, INPUTS
from streams.engine.resent import RESENT_LETTERS, RESENT_PARTITION, Origin, mark
from streams.kafka.connection import Connection
from streams.kafka.errors import ClientError
from streams.kafka.waiting import close_quietly
from streams.runtime.batches import KeyPartitioner
from streams.runtime.client import connected, count_of
from streams.runtime.rights import PUBLISHER_ID, resending_rights

# The broker aborts a transaction this old; a batch takes a tenth of a second.
_TRANSACTION_TIMEOUT_S = 20.0
# For a broker that is away.
_ABORT_TIMEOUT_S = 2.0
# As large as the largest topic allows (an exemption may list a hundred thousand orders).
_REQUEST_BYTES_MAX = 16 * 1024 * 1024
_BATCH_BYTES = 512 * 1024

# The header that says which refused record a record replaces, as topic:partition:offset.
_RESENT_FROM = "shipclock-resent-from"
_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]
_Keys = msgspec.defstruct(
    "_Keys", [(key, str | None, None) for key in dict.fromkeys(each.key for each in INPUTS)]
)
"""The fields that hold a record's key."""


class InputEvent(NamedTuple):
    """A valid event, ready to be sent.

    `order_ids` are those an exemption's scope names; `homes` are the partitions in which some
    orders are known, for those that are not where their keys belong; `replaces` is the refused
    record that it is a repair of.
    """

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int
    order_ids: tuple[str, ...] | None = None
    homes: Mapping[str, int] = {}
    replaces: Origin | None = None


class Placed(NamedTuple):
    """A record and the partition it goes to."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


def prepare(decoder: Decoder, topic: str, value: bytes, timestamp_ms: int) -> InputEvent:
    """Check an event as a worker will, and find its key.

    Raises:
        Refused: A worker would make it a dead letter.
    """
    key = _key(topic, value)
    event = decoder.decode(INPUT_TOPICS.index(topic), key, value, timestamp_ms)
    order_ids = event.scope.order_ids if isinstance(event, ExemptionGranted) else None
    named = None if order_ids is None else tuple(order_ids)
    return InputEvent(topic, key, value, timestamp_ms, named)


def _key(topic: str, value: bytes) -> bytes:
    """Read an event's key; an empty one, which nothing accepts, where it cannot be read."""
    try:
        keys = msgspec.json.decode(value, type=_Keys)
    except (ValueError, RecursionError):
        return b""
    return (getattr(keys, INPUT_OF_TOPIC[topic].key) or "").encode()


def targets(event: InputEvent, partitions: int, partition_of: KeyPartitioner) -> list[int]:
    """Partitions an event goes to: its key's; for an exemption its orders', or all of them."""
    if event.topic != _EXEMPTIONS or event.order_ids == ():
        return [event.homes.get(event.key.decode(), partition_of(event.key, partitions))]
    if event.order_ids is None:
        return list(range(partitions))
    return sorted({
        event.homes.get(order_id, partition_of(order_id.encode(), partitions))
        for order_id in event.order_ids
    })  # fmt: skip


class Publisher:
    """Sends batches of events, each as a whole or not at all."""

    def __init__(self, producer: AIOKafkaProducer, counts: dict[str, int]) -> None:
        self._producer = producer
        self._counts = counts
        self._partition_of = KeyPartitioner()

    def partitions(self, topic: str) -> int:
        """Partition count of a topic, which must exist."""
        return count_of(topic, self._counts)

    def knows(self, topic: str) -> bool:
        """Whether a topic exists."""
        return topic in self._counts

    def targets(self, event: InputEvent) -> list[int]:
        """Partitions an event goes to."""
        return targets(event, self.partitions(event.topic), self._partition_of)

    async def publish(self, events: Sequence[InputEvent]) -> dict[TopicPartition, int]:
        """Send a batch in one transaction, each topic partition's records in the order given.

        The same transaction marks the dead letters that they replace as sent again.

        Returns:
            For each topic partition the offset after the last of its records.

        Raises:
            ClientError: A topic does not exist; nothing was sent.
        """
        records = [
            Placed(event.topic, partition, event.key, event.value, event.timestamp_ms,
                   _headers(event))
            for event in events
            for partition in self.targets(event)
        ]  # fmt: skip
        for event in events:
            if event.replaces is not None:
                self.partitions(RESENT_LETTERS)
                key, value = mark(event.replaces, event.timestamp_ms)
                records.append(
                    Placed(RESENT_LETTERS, RESENT_PARTITION, key, value, event.timestamp_ms)
                )
        return await self.write(records)

    async def write(self, records: Sequence[Placed]) -> dict[TopicPartition, int]:
        """Send records in one transaction, as `publish` does."""
        try:
            async with asyncio.timeout(_TRANSACTION_TIMEOUT_S):
                return await self._send(records)
        except BaseException:
            # Readers wait for an open transaction. A broken producer cannot abort; the broker does.
            with contextlib.suppress(KafkaError, IllegalOperation, AssertionError, TimeoutError):
                async with asyncio.timeout(_ABORT_TIMEOUT_S):
                    await self._producer.abort_transaction()
            raise

    async def _send(self, records: Sequence[Placed]) -> dict[TopicPartition, int]:
        producer = self._producer
        await producer.begin_transaction()
        sent = [
            await producer.send(
                each.topic,
                each.value,
                each.key,
                each.partition,
                each.timestamp_ms,
                list(each.headers),
            )
            for each in records
        ]
        # The client would commit without a batch that the broker refused.
        answers = await asyncio.gather(*sent)
        await producer.commit_transaction()
        return {answer.topic_partition: answer.offset + 1 for answer in answers}


@contextlib.asynccontextmanager
async def publisher(connection: Connection) -> AsyncIterator[Publisher]:
    """Connect a publisher.

    Raises:
        ClientError: The broker cannot be reached or refuses, or the input topics are not
            co-partitioned.
    """
    async with connected(connection, resending_rights(connection)) as counts:
        _refuse_uneven(counts)
        producer = connection.producer(
            # Of its own: two commands at a time must not fence each other.
            transactional_id=f"{PUBLISHER_ID}{uuid.uuid4()}",
            transaction_timeout_ms=int(_TRANSACTION_TIMEOUT_S * 1000),
            max_request_size=_REQUEST_BYTES_MAX,
            max_batch_size=_BATCH_BYTES,
        )
        try:
            async with asyncio.timeout(_TRANSACTION_TIMEOUT_S):
                await producer.start()
            yield Publisher(producer, counts)
        finally:
            await close_quietly(producer.stop, producer)


def _headers(event: InputEvent) -> tuple[tuple[str, bytes], ...]:
    origin = event.replaces
    return () if origin is None else ((_RESENT_FROM, origin.place.encode()),)


def _refuse_uneven(counts: dict[str, int]) -> None:
    present = {topic: counts[topic] for topic in INPUT_TOPICS if topic in counts}
    if len(set(present.values())) > 1:
        listed = ", ".join(f"{topic} {count}" for topic, count in present.items())
        raise ClientError(
            f"the input topics have different partition counts: {listed}",
            "records with equal keys would not meet; compare with `shipclock topics check`",
        )
