"""Fetched records by column: both paths give the same, and an unknown client is said aloud."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime import lean

PLACE = TopicPartition("first-scan", 3)
WRITTEN = [(0, 1_700_000_000_000, b"O1", b"{}"), (1, 1_700_000_000_005, None, b"x")]


def batch(
    records: Sequence[tuple[int, int, bytes | None, bytes | None]], producer: int = -1
) -> bytes:
    """Return a record batch, transactional if it has a producer."""
    first = records[0][0]
    builder = DefaultRecordBatchBuilder(2, 0, int(producer >= 0), producer, 0, 0, 10_000)
    for offset, timestamp, key, value in records:
        builder.append(offset - first, timestamp, key, value, [])
    built = bytearray(builder.build())
    built[:8] = first.to_bytes(8, "big")
    return bytes(built)


def marker(offset: int, producer: int, *, commit: bool) -> bytes:
    """Return a control batch that ends a producer's transaction."""
    key = struct.pack(">hh", 0, int(commit))
    built = bytearray(batch([(offset, 1, key, b"")], producer))
    attributes = int.from_bytes(built[21:23], "big") | 0x20
    built[21:23] = attributes.to_bytes(2, "big")
    built[17:21] = calc_crc32c(bytes(built[21:])).to_bytes(4, "big")
    return bytes(built)


def fetched(
    deserializer: object,
    response: bytes | None = None,
    aborted: Sequence[tuple[int, int]] = (),
    first: int = 0,
) -> list[Any]:
    """Return what a committed reader with this value deserializer gets; two records of its own."""
    records = MemoryRecords(batch(WRITTEN) if response is None else response)
    return list(
        fetcher.PartitionRecords(PLACE, records, aborted, first, None, deserializer, True, 1)
    )


def test_columns_are_what_the_plain_path_gives() -> None:
    """A marked consumer gets columns, any other one objects, and `columns` makes them equal."""
    assert lean.lean()
    marked, plain = fetched(lean.as_it_is), fetched(None)
    assert marked == [tuple(map(list, zip(*WRITTEN, strict=True)))]
    assert isinstance(plain[0], fetcher.ConsumerRecord)
    assert lean.columns(plain) == lean.columns(marked) == marked[0]
    assert lean.columns([]) == ([], [], [], [])


def test_entries_are_what_the_plain_path_gives() -> None:
    """A consumer marked for a changelog gets the keys and values of a batch at once."""
    assert lean.lean()
    marked, plain = fetched(lean.as_entries), fetched(None)
    assert marked == [[(b"O1", b"{}"), (None, b"x")]]
    assert list(lean.entries(plain)) == list(lean.entries(marked)) == marked
    assert list(lean.entries([])) == [[]]


PRODUCERS = 3
BATCHES = st.lists(
    st.tuples(
        st.sampled_from(["write", "commit", "abort"]),
        st.integers(0, PRODUCERS - 1),
        st.lists(st.sampled_from([None, b"", b"v"]), min_size=1, max_size=4),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=12,
)


@given(batches=BATCHES, data=st.data())
def test_batches_give_what_single_records_give(batches: list[Any], data: st.DataObject) -> None:
    """Aborted transactions, markers, gaps of the cleaner, a start amid a batch: all are equal."""
    assert lean.lean()
    response, offset = b"", 0
    began: dict[int, int] = {}
    aborted: list[tuple[int, int]] = []
    for verb, producer, values, gap in batches:
        offset += gap
        if verb == "write":
            began.setdefault(producer, offset)
            records = [(offset + n, 1, b"k%d" % n, value) for n, value in enumerate(values)]
            response += batch(records, producer)
            offset += len(values)
        else:
            response += marker(offset, producer, commit=verb == "commit")
            offset += 1
            if producer in began and verb == "abort":
                aborted.append((producer, began[producer]))
            began.pop(producer, None)
    first = data.draw(st.integers(0, offset))
    plain = fetched(None, response, aborted, first)
    entries = lean.entries(fetched(lean.as_entries, response, aborted, first))
    assert [each for part in entries for each in part] == lean.entries(plain)[0]
    columns = lean.columns(fetched(lean.as_it_is, response, aborted, first))
    assert columns == lean.columns(plain)


def test_positions_are_those_of_the_plain_path() -> None:
    """The next fetch begins behind the batch, its markers and its gaps."""
    assert lean.lean()
    response = batch(WRITTEN, 1) + marker(2, 1, commit=True)
    for deserializer in (None, lean.as_it_is, lean.as_entries):
        records = fetcher.PartitionRecords(
            PLACE, MemoryRecords(response), [], 0, None, deserializer, True, 1
        )
        assert len(list(records)) == (1 if deserializer else 2)
        assert records.next_fetch_offset == 3


def test_damaged_batch_is_refused_either_way() -> None:
    """The checksum is looked at before the records are."""
    assert lean.lean()
    damaged = bytearray(batch(WRITTEN))
    damaged[-1] ^= 1
    for deserializer in (None, lean.as_it_is, lean.as_entries):
        with pytest.raises(CorruptRecordException):
            fetched(deserializer, bytes(damaged))


def filled(size: int) -> tuple[list[bytes], list[lean.Entry | None]]:
    """Return the batches that some entries fill, and what did not fit at the end of each."""
    rest = iter([(b"k%d" % number, None if number % 5 else b"v" * number) for number in range(40)])
    built, left = [], []
    while True:
        batch = BatchBuilder(size, 0)
        left.append(lean.fill(batch, rest, 7))
        built.append(bytes(batch._build()))
        if left[-1] is None:
            return built, left


def test_batches_are_filled_as_the_plain_path_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, closed at the same entry."""
    assert lean.lean()
    short = filled(200)
    monkeypatch.setattr(fetcher, "PartitionRecords", lean._Rows.__base__)
    assert filled(200) == short
    assert len(short[0]) > 2


def test_unknown_client_is_read_the_plain_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With another version nothing is overridden, and a warning says so."""
    monkeypatch.setattr(fetcher, "PartitionRecords", lean._Rows.__base__)
    monkeypatch.setattr(lean.aiokafka, "__version__", "0.15.0")
    assert not lean.lean()
    assert fetcher.PartitionRecords is lean._Rows.__base__
    assert "plain-client" in caplog.text
