"""A Kafka log in memory: partitions, transactions, group offsets. Synchronous, and no more.

It does what the protocol promises and nothing cleverer. A transaction ends in two steps, as on a
broker: `end` decides, then one marker after another (`write_marker`) makes it visible, one
partition before the other. Until its markers are written a transactional id is busy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
)

Headers = tuple[tuple[str, bytes], ...]


class Row(NamedTuple):
    """A record to be written."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Entry(NamedTuple):
    """A record or, without a row, a transaction's marker in a log."""

    offset: int
    transaction: int | None
    row: Row | None


class PartitionLog:
    """One topic partition."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.written: list[Entry] = []
        """All there ever was, also what compaction has taken out of `entries`."""
        self.end = 0
        self._open: dict[int, int] = {}
        self._aborted: set[int] = set()

    @property
    def stable_end(self) -> int:
        """The last stable offset: everything before it is decided."""
        return min(self._open.values(), default=self.end)

    def append(self, rows: Iterable[Row], transaction: int | None = None) -> None:
        for row in rows:
            if transaction is not None:
                self._open.setdefault(transaction, self.end)
            self._write(Entry(self.end, transaction, row))

    def finish(self, transaction: int, commit: bool) -> None:
        """Write the marker that ends a transaction here."""
        if not commit:
            self._aborted.add(transaction)
        self._open.pop(transaction, None)
        self._write(Entry(self.end, transaction, None))

    def _write(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.written.append(entry)
        self.end += 1

    def visible(self, entry: Entry) -> bool:
        """Tell whether a stable entry is a record that a read_committed consumer gets."""
        return entry.row is not None and entry.transaction not in self._aborted

    def read(
        self, position: int, committed: bool, bytes_max: int
    ) -> tuple[list[tuple[int, Row]], int]:
        """Return (offset, row) from a position on, at least one, and the position after them."""
        end = self.stable_end if committed else self.end
        found: list[tuple[int, Row]] = []
        size = 0
        start = bisect_left(self.entries, position, key=lambda entry: entry.offset)
        for index in range(start, len(self.entries)):
            entry = self.entries[index]
            if entry.offset >= end:
                break
            if entry.row is not None and not (committed and entry.transaction in self._aborted):
                if found and size >= bytes_max:
                    return found, entry.offset
                size += 70 + len(entry.row.key or b"") + len(entry.row.value or b"")
                found.append((entry.offset, entry.row))
        return found, max(position, end)

    def committed_rows(self) -> list[tuple[int, Row]]:
        """Return what a read_committed consumer sees, with offsets."""
        stable_end = self.stable_end
        return [
            (entry.offset, entry.row)
            for entry in self.entries
            if entry.offset < stable_end and entry.row is not None and self.visible(entry)
        ]

    def compact(self, rng: Random, tombstones_before_ms: int) -> None:
        """Do what the cleaner may do: of a stable head keep each key's last record.

        Tombstones go once they are old: a reader that has seen the key must see its end.
        """
        stable = bisect_left(self.entries, self.stable_end, key=lambda entry: entry.offset)
        cut = rng.randrange(stable + 1)
        head = [entry for entry in self.entries[:cut] if self.visible(entry)]
        last = {entry.row.key: entry.offset for entry in head if entry.row is not None}
        kept = [
            entry
            for entry in head
            if entry.row is not None
            and last[entry.row.key] == entry.offset
            and not (entry.row.value is None and entry.row.timestamp < tombstones_before_ms)
        ]
        self.entries[:cut] = kept


@dataclass
class TransactionalId:
    """What the coordinator knows of one transactional id."""

    producer: int
    epoch: int = -1
    transaction: int | None = None
    """Number of the transaction that is open or being ended."""
    ending: bool | None = None
    """True or False: a commit or an abort was decided, markers are being written."""
    ended: bool | None = None
    """What became of the last one."""
    started_s: float = 0.0
    logs: dict[TopicPartition, None] = field(default_factory=dict)
    offsets: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)
    sequences: dict[TopicPartition, int] = field(default_factory=dict)


class MemoryKafka:
    """Topics, transactional producers and committed group offsets."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, PartitionLog] = {}
        self.counts: dict[str, int] = {}
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self.offset_history: dict[tuple[str, TopicPartition], list[int]] = {}
        self.commits: list[tuple[str, int]] = []
        """(transactional id, epoch) of every committed transaction, in order."""
        self.transactions = 0
        self.on_decided: Callable[[str], None] = self.write_markers
        """Called with the transactional id whose markers are now to be written."""
        self._ids: dict[str, TransactionalId] = {}

    def create_topic(self, topic: str, partitions: int) -> None:
        self.counts[topic] = partitions
        for partition in range(partitions):
            self.logs[TopicPartition(topic, partition)] = PartitionLog()

    # --- transactional producers

    def init_producer(self, name: str) -> int:
        """Take a transactional id over: fence and abort the last owner; return the new epoch.

        Raises ConcurrentTransactions until the last transaction's markers are written.
        """
        state = self._ids.setdefault(name, TransactionalId(len(self._ids)))
        if state.transaction is not None:
            if state.ending is None:
                state.epoch += 1
                self._decide(name, state, commit=False)
            if state.transaction is not None:
                raise ConcurrentTransactions
        state.epoch += 1
        state.sequences.clear()
        state.ended = None
        return state.epoch

    def add_partition(self, name: str, epoch: int, tp: TopicPartition, now_s: float) -> None:
        """Let batches of a partition belong to the producer's transaction, which this may begin."""
        self._opened(name, epoch, now_s).logs[tp] = None

    def produce(
        self, name: str, epoch: int, tp: TopicPartition, sequence: int, rows: Sequence[Row]
    ) -> None:
        """Append a batch to the producer's transaction; the same batch again does nothing.

        Raises InvalidTxnState if the partition is not in a transaction that is open.
        """
        state = self._current(name, epoch)
        if state.ending is not None:
            raise ConcurrentTransactions
        expected = state.sequences.get(tp, 0)
        if sequence < expected:
            return
        if sequence > expected:
            raise OutOfOrderSequenceNumber
        if tp not in state.logs:
            raise InvalidTxnState
        state.sequences[tp] = expected + 1
        self.logs[tp].append(rows, state.transaction)

    def add_offsets(
        self, name: str, epoch: int, group: str, offsets: Mapping[TopicPartition, int], now_s: float
    ) -> None:
        """Let a group's offsets be committed with the transaction."""
        state = self._opened(name, epoch, now_s)
        state.offsets |= {(group, tp): offset for tp, offset in offsets.items()}

    def end(self, name: str, epoch: int, commit: bool) -> None:
        """Decide a transaction. The same decision again is confirmed: the answer may be lost."""
        state = self._current(name, epoch)
        if state.transaction is None or state.ending is not None:
            if (state.ended if state.ending is None else state.ending) is not commit:
                raise InvalidTxnState
            return
        self._decide(name, state, commit)

    def expire(self, now_s: float, timeout_s: float) -> None:
        """Abort what has been open for too long; its producer is fenced."""
        for name, state in self._ids.items():
            if (
                state.transaction is not None
                and state.ending is None
                and now_s - state.started_s > timeout_s
            ):
                state.epoch += 1
                self._decide(name, state, commit=False)

    def write_marker(self, name: str) -> bool:
        """Write the next marker of a decided transaction; tell whether it was the last."""
        state = self._ids[name]
        if state.transaction is None or state.ending is None:
            return True
        if state.logs:
            tp = next(iter(state.logs))
            del state.logs[tp]
            self.logs[tp].finish(state.transaction, state.ending)
        elif state.offsets:
            if state.ending:
                for (group, tp), offset in state.offsets.items():
                    self.commit_offset(group, tp, offset)
            state.offsets.clear()
        if state.logs or state.offsets:
            return False
        state.transaction, state.ended, state.ending = None, state.ending, None
        return True

    def write_markers(self, name: str) -> None:
        """Write all markers of a decided transaction."""
        while not self.write_marker(name):
            pass

    def commit_offset(self, group: str, tp: TopicPartition, offset: int) -> None:
        self.committed[group, tp] = offset
        self.offset_history.setdefault((group, tp), []).append(offset)

    @property
    def undecided(self) -> int:
        """Transactions that are open or whose markers are not all written."""
        return sum(state.transaction is not None for state in self._ids.values())

    def _current(self, name: str, epoch: int) -> TransactionalId:
        state = self._ids[name]
        if epoch != state.epoch:
            raise InvalidProducerEpoch
        return state

    def _opened(self, name: str, epoch: int, now_s: float) -> TransactionalId:
        state = self._current(name, epoch)
        if state.ending is not None:
            raise ConcurrentTransactions
        if state.transaction is None:
            self.transactions += 1
            state.transaction = self.transactions
            state.started_s = now_s
        return state

    def _decide(self, name: str, state: TransactionalId, commit: bool) -> None:
        state.ending = commit
        if commit:
            self.commits.append((name, state.epoch))
        self.on_decided(name)
