"""Records to record batches: partitioning by key, and batches filled in one tight loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest

from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.engine.records import OutRecord
from streams.runtime.lean import Entry, fill

KNOWN_KEYS_MAX = 100_000

TopicPartition = tuple[str, int]


class KeyPartitioner:
    """Kafka's default partitioner for keys, remembering the shops it has seen.

    The hash is pure Python (about 10 us), and shops come again and again.
    """

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}

    def __call__(self, key: bytes, partitions: int) -> int:
        known = self._hashes.get(key)
        if known is None:
            if len(self._hashes) >= KNOWN_KEYS_MAX:
                self._hashes.clear()
            known = self._hashes[key] = murmur2(key) & 0x7FFFFFFF
        return known % partitions


class BatchWriter:
    """Sort one transaction's records into batches, as large as the limit allows."""

    def __init__(
        self,
        new_batch: Callable[[], BatchBuilder],
        counts: Mapping[str, int],
        partition: int,
        partition_of: KeyPartitioner,
    ) -> None:
        self._new_batch = new_batch
        self._counts = counts
        self._partition = partition
        self._partition_of = partition_of
        self._outputs: dict[TopicPartition, list[BatchBuilder]] = {}
        self._states: dict[TopicPartition, Iterator[BatchBuilder]] = {}

    def outputs(self, records: Iterable[OutRecord], now_ms: int) -> None:
        """Add outputs; without a partition of their own they go by key, keyless ones to ours."""
        counts, partition_of, batches = self._counts, self._partition_of, self._outputs
        for topic, key, value, headers, given, _ in records:
            if given is not None:
                partition = given
            elif key is not None:
                partition = partition_of(key, counts[topic])
            else:
                partition = self._partition % counts[topic]
            filling = batches.get((topic, partition))
            if filling is None:
                filling = batches[topic, partition] = [self._new_batch()]
            fields = list(headers)
            if filling[-1].append(timestamp=now_ms, key=key, value=value, headers=fields) is None:
                filling.append(self._new_batch())
                filling[-1].append(timestamp=now_ms, key=key, value=value, headers=fields)

    def changelog(self, topic: str, entries: Iterable[Entry], now_ms: int) -> None:
        """Add states to our own partition of the changelog, each batch when it is asked for."""
        self._states[topic, self._partition] = self._filled(iter(entries), now_ms)

    def _filled(self, entries: Iterator[Entry], now_ms: int) -> Iterator[BatchBuilder]:
        left = next(entries, None)
        while left is not None:
            batch = self._new_batch()
            batch.append(timestamp=now_ms, key=left[0], value=left[1])
            left = fill(batch, entries, now_ms)
            yield batch

    def rounds(self) -> Iterable[tuple[str, int, BatchBuilder]]:
        """Yield the first batch of every partition, then the second ones, and so on.

        The client registers with the transaction what it finds waiting: this way all partitions
        go in one request.
        """
        targets = [*self._outputs, *self._states]
        for batches in zip_longest(*self._outputs.values(), *self._states.values()):
            for (topic, partition), batch in zip(targets, batches, strict=True):
                if batch is not None:
                    yield topic, partition, batch
