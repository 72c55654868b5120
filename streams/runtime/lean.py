"""Records read and written by whole batches, past what aiokafka does for each.

Reading, it builds an object of eleven fields for every record, of which a worker needs four and a
restore two, and takes a turn of a generator for each; writing, it makes a call around the one that
appends. Leaving that out means reaching into private classes, so this module holds all of it, and
`lean` says whether the installed version is the one it was written for. The plain path stays:
`columns`, `entries` and `fill` do the same either way. A batch that is plain is read by compiled
code, where that is installed.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import aiokafka
from aiokafka.consumer import fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.engine.records import Columns
from streams.runtime.logs import warn

try:
    from streams.runtime import native
except ImportError as why:
    NOT_COMPILED_WHY = str(why)
else:
    NOT_COMPILED_WHY = ""

log = logging.getLogger(__name__)

Entry = tuple[bytes, bytes | None]

_KNOWN_VERSION = "0.14."
_NO_HEADERS: list[tuple[str, bytes]] = []
_PARAMETERS = [
    "self", "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer",
    "value_deserializer", "check_crcs", "isolation_level",
]  # fmt: skip


def as_it_is(value: bytes | None) -> bytes | None:
    """Mark a consumer whose records come in columns, by batches: pass as value deserializer."""
    return value


def as_entries(value: bytes | None) -> bytes | None:
    """Mark a consumer whose records come as entries of a changelog, (key, value), by batches."""
    return value


class _Response(MemoryRecords):  # type: ignore[misc]
    """The record batches of one response, and the bytes they are read from."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.raw = raw


class _Batch:
    """A record batch that passes for its last record, which stands for all of them.

    Args:
        raw: The response it came in, where it begins there, and where it ends.
    """

    def __init__(self, batch: Any, raw: tuple[bytes, int, int]) -> None:
        self._batch = batch
        self._raw = raw
        self.offset = batch.next_offset - 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[_Batch]:
        yield self

    def _read(self, first: int) -> Any:
        """Read with compiled code, `None` where that cannot be."""
        return None if NOT_COMPILED_WHY else native.columns(*self._raw, first)

    def columns(self, first: int) -> Columns:
        """Give the records from offset `first` on, by column."""
        found = self._read(first)
        if found is not None:
            return Columns(*found)
        batch = self._batch
        records, base, end = list(batch), batch.base_offset, batch.next_offset
        if base >= first and len(records) == end - base:
            offsets = list(range(base, end))
        else:
            records = [record for record in records if record.offset >= first]
            offsets = [record.offset for record in records]
        return _columns(offsets, records)

    def entries(self, first: int) -> list[Entry]:
        """Give keys and values of the records from offset `first` on."""
        found = self._read(first)
        if found is not None:
            _, _, keys, values = found
            return list(zip(keys, values, strict=True))
        batch = self._batch
        if batch.base_offset >= first:
            return [(record.key, record.value) for record in batch]
        return [(record.key, record.value) for record in batch if record.offset >= first]


class _Batches:
    """The record batches of one response; those with a transaction's markers are left alone."""

    def __init__(self, records: _Response) -> None:
        self._records = records
        self._at = 0
        self.has_next = records.has_next

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        # Each begins with its first offset, eight bytes, and the length of what follows, four.
        raw, begin = self._records.raw, self._at
        self._at += 12 + int.from_bytes(raw[begin + 8 : begin + 12], "big")
        return batch if batch.is_control_batch else _Batch(batch, (raw, begin, self._at))


class _Rows(fetcher.PartitionRecords):  # type: ignore[misc]
    """Partition records that give whole batches to marked consumers, and objects to all others.

    Which batches count (aborted transactions, checksums, offsets) stays aiokafka's to say.
    """

    _records: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self._value_deserializer in (as_it_is, as_entries):
            self._records = _Batches(self._records)

    def __iter__(self) -> Iterator[Any]:
        return self if self._records_iterator is None else self._records_iterator

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        mark = self._value_deserializer
        if mark is as_it_is:
            return record.columns(self.next_fetch_offset)
        if mark is as_entries:
            return record.entries(self.next_fetch_offset)
        return super()._consumer_record(tp, record)


def lean() -> bool:
    """Read and write by whole batches if this is the aiokafka that is known; say so if not."""
    if fetcher.PartitionRecords is _Rows:
        return True
    found = list(inspect.signature(fetcher.PartitionRecords.__init__).parameters)
    known = found == _PARAMETERS and fetcher.MemoryRecords is MemoryRecords
    if not (known and aiokafka.__version__.startswith(_KNOWN_VERSION)):
        warn(log, "plain-client", aiokafka=aiokafka.__version__,
             detail="records are read and written the slower way: this version is not known"
             )  # fmt: skip
        return False
    fetcher.MemoryRecords = _Response
    fetcher.PartitionRecords = _Rows
    return True


def fill(batch: BatchBuilder, entries: Iterator[Entry], timestamp: int) -> Entry | None:
    """Append entries until there are none, or one does not fit any more; return that one."""
    if fetcher.PartitionRecords is not _Rows:
        for key, value in entries:
            if batch.append(timestamp=timestamp, key=key, value=value) is None:
                return key, value
        return None
    append, offset = batch._builder.append, batch._relative_offset
    for key, value in entries:
        if append(offset, timestamp, key, value, _NO_HEADERS) is None:
            batch.close()
            batch._relative_offset = offset
            return key, value
        offset += 1
    batch._relative_offset = offset
    return None


def columns(records: Sequence[Any]) -> Columns:
    """Give fetched records by column, whichever way they came."""
    if not (records and type(records[0]) is Columns):
        return _columns([record.offset for record in records], records)
    if len(records) == 1:
        return records[0]
    return Columns(*(list(chain.from_iterable(parts)) for parts in zip(*records, strict=True)))


def _columns(offsets: list[int], records: Sequence[Any]) -> Columns:
    return Columns(
        offsets,
        [record.timestamp for record in records],
        [record.key for record in records],
        [record.value for record in records],
    )


def entries(records: Sequence[Any]) -> Sequence[Sequence[Entry]]:
    """Give fetched records as batches of entries (key, value), whichever way they came."""
    if records and type(records[0]) is list:
        return records
    return [[(record.key, record.value) for record in records]]
