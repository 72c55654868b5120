"""Records read and written by whole batches, past what aiokafka does for each.

Reading, it builds an object of eleven fields for every record, of which a worker needs four and a
restore two, and takes a turn of a generator for each; writing, it makes a call around the one that
appends. Leaving that out means reaching into private classes, so this module holds all of it, and
`lean` says whether the installed version is the one it was written for. The plain path stays:
`columns`, `entries` and `fill` do the same either way. Compiled code reads the records, where that
is installed. How long the broker holds a fetch stands here for the same reason.

What of a batch cannot be read ends no reading: `Unread` comes in its place, behind the records
before it, and the position stays before it.
"""

from __future__ import annotations

import inspect
import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import aiokafka
from aiokafka.consumer import consumer, fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from streams.core.facts.outputs import RefusedValue
from streams.engine.records import Columns
from streams.kafka.connection import INFLATED_BYTES_MAX
from streams.runtime.inflate import NotInflated, inflate
from streams.runtime.logs import reason, warn
from streams.runtime.salvage import NotTold, Parts, salvage

try:
    from streams.runtime import native
except ImportError as why:
    NOT_COMPILED_WHY = str(why)
else:
    NOT_COMPILED_WHY = ""

log = logging.getLogger(__name__)

Entry = tuple[bytes, bytes | None]
Place = TypeVar("Place")

# Where the parts of a batch stand.
_MAGIC_AT, _ATTRIBUTES_AT, _OLD_ATTRIBUTES_AT, _HEAD_BYTES = 16, 21, 17, 61
_LAST, _COUNT = struct.Struct(">i8xq"), struct.Struct(">i")
_CODEC = 0x07
# The version whose batches hold records; before it they were messages.
_MAGIC_OF_RECORDS = 2
_KNOWN_VERSION = "0.14."
_NO_HEADERS: list[tuple[str, bytes]] = []
_PARAMETERS = [
    "self", "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer",
    "value_deserializer", "check_crcs", "isolation_level",
]  # fmt: skip


class Mark:
    """Marks a consumer whose records come by whole batches: pass as value deserializer.

    Args:
        limit: The most bytes a batch may inflate to. About as much is inflated between two calls of
            `begin`: what was fetched beyond it is fetched again.
    """

    def __init__(self, limit: int = INFLATED_BYTES_MAX) -> None:
        self.limit = self.left = limit

    def __call__(self, value: bytes | None) -> bytes | None:
        """Leave a value as it is: the plain path calls this for each."""
        return value

    def begin(self) -> None:
        """Begin to fetch."""
        self.left = self.limit


class AsColumns(Mark):
    """Records come in columns.

    Args:
        limit: As for `Mark`.
        idle_wait_ms: How long the broker may hold a fetch that leaves none of the partitions out;
            None: as long as any other.
    """

    def __init__(self, limit: int = INFLATED_BYTES_MAX, idle_wait_ms: int | None = None) -> None:
        super().__init__(limit)
        self.idle_wait_ms = idle_wait_ms


class AsEntries(Mark):
    """Records come as entries of a changelog, (key, value)."""


class Unread(NamedTuple):
    """A batch that cannot be read, as it stands in the log.

    `raw` is empty where the client has not said which bytes it stumbled over.
    """

    first: int
    last: int
    timestamp: int
    """The latest of its records, as its head says."""
    raw: bytes
    detail: str


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

    def read(self, first: int, mark: Mark) -> Parts:
        """Give the records from offset `first` on.

        Raises:
            NotInflated, NotTold: They cannot be read.
        """
        response, begin, end = self._raw
        batch = self._batch
        if response[begin + _MAGIC_AT] < _MAGIC_OF_RECORDS:
            _check_old(response[begin:end], mark)
        elif codec := response[begin + _ATTRIBUTES_AT + 1] & _CODEC:
            body = inflate(codec, memoryview(response)[begin + _HEAD_BYTES : end], mark.limit)
            mark.left -= len(body)
            response = _inflated(response[begin : begin + _HEAD_BYTES], body)
            begin, end, batch = 0, len(response), None
        if not NOT_COMPILED_WHY:
            found = native.columns(response, begin, end, first)
            if found is not None:
                return found
        raw = response[begin:end]
        try:
            records = list(batch or DefaultRecordBatch(raw))
        except Exception as error:  # noqa: BLE001 - the client may stumble over anything in it
            if raw[_MAGIC_AT] < _MAGIC_OF_RECORDS:
                raise NotTold(reason(error)) from None
            found = salvage(raw, first)
            if type(mark) is AsEntries and RefusedValue in map(type, found[3]):
                raise NotTold(f"a record in it is not valid: {reason(error)}") from None
            return found
        return _parts([record for record in records if record.offset >= first])


class _Batches:
    """The record batches of one response; those with a transaction's markers are left alone."""

    def __init__(self, records: _Response) -> None:
        self._records = records
        self._begin = self._end = 0
        self.has_next = records.has_next

    def next_batch(self) -> Any:
        # Each begins with its first offset, eight bytes, and the length of what follows, four.
        raw, begin = self._records.raw, self._end
        self._begin = begin
        self._end += 12 + int.from_bytes(raw[begin + 8 : begin + 12], "big")
        batch = self._records.next_batch()
        return batch if batch.is_control_batch else _Batch(batch, (raw, begin, self._end))

    def unread(self, detail: str, *, whole: bool) -> Unread:
        """Give the last batch as one that cannot be read; one not `whole` may lie about itself."""
        raw = self._records.raw[self._begin : self._end]
        first = int.from_bytes(raw[:8], "big")
        if len(raw) < _HEAD_BYTES or raw[_MAGIC_AT] < _MAGIC_OF_RECORDS:
            return Unread(first, first, 0, raw, detail)
        (delta, latest), (count,) = _LAST.unpack_from(raw, 23), _COUNT.unpack_from(raw, 57)
        last = first + delta if whole or delta == count - 1 >= 0 else first
        return Unread(first, last, latest, raw, detail)


class _Rows(fetcher.PartitionRecords):  # type: ignore[misc]
    """Partition records that give whole batches to marked consumers, and objects to all others.

    Which batches count (aborted transactions, checksums, offsets) stays aiokafka's to say.
    """

    _records: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if isinstance(self._value_deserializer, Mark):
            self._records = _Batches(self._records)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self._value_deserializer, Mark):
            return self._whole(self._value_deserializer)
        return self if self._records_iterator is None else self._records_iterator

    def _whole(self, mark: Mark) -> Iterator[Any]:
        """Give batches until there are none, too much was inflated, or one cannot be read."""
        while mark.left > 0:
            try:
                found = next(self._records_iterator)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this batch alone
                found = self._records.unread(reason(error), whole=False)
            yield found
            if type(found) is Unread:
                return

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        mark, first = self._value_deserializer, self.next_fetch_offset
        if not isinstance(mark, Mark):
            return super()._consumer_record(tp, record)
        try:
            parts = record.read(first, mark)
            if type(mark) is AsColumns:
                return Columns(*parts)
            _, _, keys, values = parts
            return list(zip(keys, values, strict=True))
        except (NotInflated, NotTold) as error:
            # The client reads on behind this.
            record.offset = first - 1
            return self._records.unread(str(error), whole=True)


class _Fetcher(fetcher.Fetcher):  # type: ignore[misc]
    """Lets the broker hold a fetch for long, where that delays nothing.

    The first record ends the wait, but only of a partition that the fetch asks for. One that rests,
    or whose records have not been taken yet, is left out and waits until the fetch has returned.
    """

    @property
    def _fetch_max_wait_ms(self) -> int:
        mark = self._value_deserializer
        long = mark.idle_wait_ms if isinstance(mark, AsColumns) else None
        if long is None or self._records or self._subscriptions.paused_partitions():
            return self._short_wait_ms
        return long

    @_fetch_max_wait_ms.setter
    def _fetch_max_wait_ms(self, wait_ms: int) -> None:
        self._short_wait_ms = wait_ms


def _inflated(head: bytes, body: bytes) -> bytes:
    """Put together a batch that is not compressed."""
    batch = bytearray(head)
    batch[8:12] = (len(head) + len(body) - 12).to_bytes(4, "big")
    batch[_ATTRIBUTES_AT + 1] &= ~_CODEC
    return bytes(batch) + body


def _check_old(batch: bytes, mark: Mark) -> None:
    """Bound what a message of the two old versions inflates to; the client reads it.

    Raises:
        NotInflated: It is too much, or cannot be decompressed.
    """
    codec = batch[_OLD_ATTRIBUTES_AT] & _CODEC
    if not codec:
        return
    # Behind the attributes and, since version 1, a timestamp: key and value, each with its length.
    at = _OLD_ATTRIBUTES_AT + 1 + 8 * batch[_MAGIC_AT]
    at += 4 + max(0, int.from_bytes(batch[at : at + 4], "big", signed=True)) + 4
    mark.left -= len(inflate(codec, memoryview(batch)[at:], mark.limit))


def lean() -> bool:
    """Read and write by whole batches if this is the aiokafka that is known; say so if not."""
    if fetcher.PartitionRecords is _Rows:
        return True
    found = list(inspect.signature(fetcher.PartitionRecords.__init__).parameters)
    known = (
        found == _PARAMETERS
        and fetcher.MemoryRecords is MemoryRecords
        and consumer.Fetcher is fetcher.Fetcher
    )
    if not (known and aiokafka.__version__.startswith(_KNOWN_VERSION)):
        warn(log, "plain-client", aiokafka=aiokafka.__version__,
             detail="records are read and written the slower way: this version is not known"
             )  # fmt: skip
        return False
    fetcher.MemoryRecords = _Response
    fetcher.PartitionRecords = _Rows
    consumer.Fetcher = _Fetcher
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
        return Columns(*_parts(records))
    if len(records) == 1:
        return records[0]
    return Columns(*(list(chain.from_iterable(parts)) for parts in zip(*records, strict=True)))


def _parts(records: Sequence[Any]) -> Parts:
    return (
        [record.offset for record in records],
        [record.timestamp for record in records],
        [record.key for record in records],
        [record.value for record in records],
    )


def entries(records: Sequence[Any]) -> Sequence[Sequence[Entry]]:
    """Give fetched records as batches of entries (key, value), whichever way they came."""
    if records and type(records[0]) is list:
        return records
    return [[(record.key, record.value) for record in records]]


def readable(
    fetched: Mapping[Place, list[Any]],
) -> tuple[dict[Place, list[Any]], dict[Place, Unread]]:
    """Part what was fetched from the batches that cannot be read, at most one a partition."""
    unread = {tp: records[-1] for tp, records in fetched.items() if type(records[-1]) is Unread}
    read = {tp: records[:-1] if tp in unread else records for tp, records in fetched.items()}
    return {tp: records for tp, records in read.items() if records}, unread
