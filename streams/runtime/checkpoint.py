"""The numbered commit: one Kafka transaction for everything a step did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    ProducerFenced,
)
from aiokafka.structs import RecordMetadata

from streams.engine.records import Checkpoint
from streams.kafka.waiting import close_quietly, within
from streams.runtime.batches import BatchWriter, KeyPartitioner
from streams.runtime.clock import wall_ms
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage

_FENCED = (
    IllegalOperation, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState,
    ProducerFenced,
)  # fmt: skip

_BY_BROKER = 1


class Transactions:
    """One partition's transactional producer.

    Starting it fences whoever owned the partition before: the transactional id names the partition,
    not the worker. Any error leaves it unusable; close it and start another.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        partition: int,
        counts: Mapping[str, int],
        partition_of: KeyPartitioner,
    ) -> None:
        self._settings = settings
        self._stage = stage
        self._partition = partition
        self._counts = counts
        self._partition_of = partition_of
        self._group_id = f"{settings.app_id}-{stage.name}"
        self._transactional_id = f"{self._group_id}-{partition}"
        self._open = False
        self._producer = settings.connection.producer(
            client_id=self._transactional_id,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=settings.transaction_timeout_ms,
            # So that one life never sends a request again for want of an answer: the first one, a
            # commit carried out late, would end the next transaction during its batches.
            request_timeout_ms=settings.transaction_timeout_ms,
            retry_backoff_ms=settings.retry_backoff_ms,
            max_batch_size=settings.batch_bytes,
        )

    async def start(self) -> None:
        """Take the partition over: abort what the last owner left open, and fence it."""
        async with self._guarded():
            await self._producer.start()

    async def commit(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, all of it or nothing.

        Raises KafkaError if it was nothing, or if nobody can know: then only the log tells, so drop
        the memory and restore. ProducerFenced means that another worker owns the partition.
        """
        producer = self._producer
        clock = self._settings.clock
        asked_ms, now_ms = clock.steady_ms(), wall_ms()
        writer = BatchWriter(
            producer.create_batch, self._counts, self._partition, self._partition_of
        )
        sent: list[asyncio.Future[object]] = []
        async with self._guarded(sent):
            # (1) begin
            await producer.begin_transaction()
            self._open = True
            # (2) outputs, (4) items and marks for the shops: both stand among the outputs
            writer.outputs(checkpoint.outputs, now_ms)
            # (3) states, the last one of each key
            writer.changelog(self._stage.changelog, checkpoint.changelog.items(), now_ms)
            for topic, partition, batch in writer.rounds():
                # Not a comprehension: where one cannot be sent, those before it tell why.
                sent.append(await producer.send_batch(batch, topic, partition=partition))
            # (5) offsets of the first records not yet processed
            if checkpoint.offsets:
                offsets = {
                    TopicPartition(topic, self._partition): offset
                    for topic, offset in checkpoint.offsets
                }
                await producer.send_offsets_to_transaction(offsets, self._group_id)
            # The client would commit without a batch that the broker refused.
            answers = await asyncio.gather(*sent)
            # (6) commit; (7) the caller goes on only when this has returned
            await producer.commit_transaction()
            self._open = False
        for answer in answers:
            # Those of changelogs carry the broker's time.
            if isinstance(answer, RecordMetadata) and answer.timestamp_type == _BY_BROKER:
                clock.heard(answer.timestamp, asked_ms)

    async def prove_ownership(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the group's own offsets once more: ProducerFenced if somebody took over."""
        if not offsets:
            return
        async with self._guarded():
            await self._producer.begin_transaction()
            self._open = True
            await self._producer.send_offsets_to_transaction(offsets, self._group_id)
            await self._producer.commit_transaction()
            self._open = False

    async def close(self) -> None:
        """Abort what is open and disconnect, without waiting long for a broker that is away."""
        await close_quietly(self._close, self._producer, self._settings.stop_timeout_ms)

    async def _close(self) -> None:
        if self._open:
            # A fenced or broken producer cannot abort; the next owner's start does it.
            with contextlib.suppress(KafkaError, IllegalOperation, AssertionError):
                await self._producer.abort_transaction()
        await self._producer.stop()

    @contextlib.asynccontextmanager
    async def _guarded(self, sent: Sequence[asyncio.Future[object]] = ()) -> AsyncIterator[None]:
        """Give up once the broker would have aborted, and tell a lost producer by one name.

        The client itself retries for ever. A fenced epoch is rejected with one of several codes,
        and the client then refuses whatever call comes next; for some of them it names the code
        only as the cause of what it raises, or of what it tells the batches `sent`.
        """
        try:
            async with within(self._settings.transaction_timeout_ms, "a transaction"):
                yield
        except (KafkaError, IllegalOperation) as exc:
            answered = [
                future.exception() for future in sent if future.done() and not future.cancelled()
            ]
            for error in (exc, *filter(None, answered)):
                if isinstance(error, _FENCED) or isinstance(error.__cause__, _FENCED):
                    raise ProducerFenced(str(error.__cause__ or error)) from exc
            raise
