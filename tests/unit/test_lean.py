"""Fetched records by column: both paths give the same, and an unknown client is said aloud."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import consumer, fetcher
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


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read batches by compiled code, if there is any, and without it."""
    if request.param == "plain":
        monkeypatch.setattr(lean, "NOT_COMPILED_WHY", "it is left out")
    elif lean.NOT_COMPILED_WHY:
        pytest.skip("nothing is compiled here")
    return str(request.param)


def fetched(
    deserializer: object,
    response: bytes | None = None,
    aborted: Sequence[tuple[int, int]] = (),
    first: int = 0,
) -> list[Any]:
    """Return what a committed reader with this value deserializer gets; two records of its own."""
    records = fetcher.MemoryRecords(batch(WRITTEN) if response is None else response)
    return list(
        fetcher.PartitionRecords(PLACE, records, aborted, first, None, deserializer, True, 1)
    )


@pytest.mark.usefixtures("way")
def test_columns_are_what_the_plain_path_gives() -> None:
    """A marked consumer gets columns, any other one objects, and `columns` makes them equal."""
    assert lean.lean()
    marked, plain = fetched(lean.AsColumns()), fetched(None)
    assert marked == [tuple(map(list, zip(*WRITTEN, strict=True)))]
    assert isinstance(plain[0], fetcher.ConsumerRecord)
    assert lean.columns(plain) == lean.columns(marked) == marked[0]
    assert lean.columns([]) == ([], [], [], [])


@pytest.mark.usefixtures("way")
def test_entries_are_what_the_plain_path_gives() -> None:
    """A consumer marked for a changelog gets the keys and values of a batch at once."""
    assert lean.lean()
    marked, plain = fetched(lean.AsEntries()), fetched(None)
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
    entries = lean.entries(fetched(lean.AsEntries(), response, aborted, first))
    assert [each for part in entries for each in part] == lean.entries(plain)[0]
    columns = lean.columns(fetched(lean.AsColumns(), response, aborted, first))
    assert columns == lean.columns(plain)


VALUES = st.none() | st.binary(max_size=3) | st.just(b"v" * 200)
RECORDS = st.lists(
    st.tuples(st.integers(-(2**40), 2**40), VALUES, VALUES, st.booleans()), min_size=1, max_size=6
)


def odd_batch(records: list[Any], compression: int, base: int) -> bytes:
    """Return a batch of records of any timestamp and size, some with a header."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, 0, 0, 10_000)
    for place, (timestamp, key, value, headed) in enumerate(records):
        headers = [("h", b"1"), ("n", None)] if headed else []
        builder.append(place, timestamp, key, value, headers)
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")
    return bytes(built)


@pytest.mark.skipif(bool(lean.NOT_COMPILED_WHY), reason="nothing is compiled here")
@given(
    records=RECORDS,
    compression=st.sampled_from([0, 0, 0, 1]),
    base=st.integers(0, 2**40),
    skip=st.integers(0, 6),
    padding=st.binary(max_size=20),
)
def test_compiled_reading_gives_what_the_client_gives(
    records: list[Any], compression: int, base: int, skip: int, padding: bytes
) -> None:
    """Any timestamps, keys and headers; what is compressed is not for it."""
    batch = odd_batch(records, compression, base)
    raw = padding + batch + padding
    found = lean.native.columns(raw, len(padding), len(padding) + len(batch), base + skip)
    if compression:
        assert found is None
        return
    expected = [
        (record.offset, record.timestamp, record.key, record.value)
        for record in MemoryRecords(batch).next_batch()
        if record.offset >= base + skip
    ]
    assert found is not None
    assert [*zip(*found, strict=True)] == expected


@pytest.mark.skipif(bool(lean.NOT_COMPILED_WHY), reason="nothing is compiled here")
@given(data=st.data())
def test_what_is_damaged_is_not_read_beyond_its_end(data: st.DataObject) -> None:
    """It is left to the client to refuse, or read as far as the lengths in it go."""
    batch = odd_batch([(5, b"key", b"value", True)] * 3, 0, 7)
    raw = bytearray(batch)
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(16, len(raw) - 1), st.integers(0, 255)), max_size=4)
    ):
        raw[place] = byte
    end = data.draw(st.integers(0, len(raw)))
    found = lean.native.columns(bytes(raw), 0, end, 0)
    for key in () if found is None else (*found[2], *found[3]):
        assert key is None or key in bytes(raw[:end])


@pytest.mark.skipif(bool(lean.NOT_COMPILED_WHY), reason="nothing is compiled here")
@pytest.mark.parametrize(("begin", "end"), [(-1, 60), (0, 60), (9, 8), (0, 10_000)])
def test_places_outside_of_the_response_are_refused(begin: int, end: int) -> None:
    """A mistake elsewhere must not become a read beyond it."""
    assert lean.native.columns(batch(WRITTEN), begin, end, 0) is None
    # What stands behind these bytes is a zero, as would end the last record.
    whole = batch(WRITTEN)
    assert lean.native.columns(whole[:-1], 0, len(whole), 0) is None


# In a batch of one record, behind its length: attributes, timestamp, offset; then key and value.
ONE = odd_batch([(0, b"k", b"vv", False)], 0, 0)
KEY_SIZE_AT = 61 + 1 + 3


@pytest.mark.skipif(bool(lean.NOT_COMPILED_WHY), reason="nothing is compiled here")
@pytest.mark.parametrize(
    ("place", "byte", "why"),
    [
        (16, 1, "another version"),
        (22, 1, "compressed"),
        (60, 1, "more records than are counted"),
        (60, 3, "fewer records than are counted"),
        (KEY_SIZE_AT, 2 * 9, "a key beyond its record"),
        (KEY_SIZE_AT, 3, "a key of less than nothing"),
        (KEY_SIZE_AT + 2, 2 * 4, "a value beyond its record"),
        (61, 0x80, "a length that does not end where it should"),
        (61, 0, "an empty record"),
    ],
)
def test_batch_that_is_not_plain_is_left_to_the_client(place: int, byte: int, why: str) -> None:
    """Whatever it makes of it."""
    assert lean.native.columns(ONE, 0, len(ONE), 0) == ([0], [0], [b"k"], [b"vv"])
    # The record behind it makes room for what reads too far.
    raw = bytearray(ONE + ONE[61:])
    raw[60] = 2
    raw[8:12] = (len(raw) - 12).to_bytes(4, "big")
    assert lean.native.columns(bytes(raw), 0, len(raw), 0) is not None
    raw[place] = byte
    assert lean.native.columns(bytes(raw), 0, len(raw), 0) is None, why


@pytest.mark.skipif(bool(lean.NOT_COMPILED_WHY), reason="nothing is compiled here")
@pytest.mark.parametrize(
    ("record", "plain"),
    [
        (b"\x00\x00\x00\x02k\x02v\x00", True),
        (b"\x00\x00\x00\x01\x01\x00", True),
        (b"\x00\x00\x00\x01\x01\x02\x02h\x01", True),
        (b"\x00\x00\x00\x01\x01\x04\x02h\x021\x00\x00", True),
        (b"\x80\x00\x00\x02k\x02v\x00", False),  # attributes of more than one byte
        (b"\x00\x00\x00\x02k\x02v\x01", False),  # less than no headers
        (b"\x00\x00\x00\x02k\x02v\x02", False),  # a header that is not there
        (b"\x00\x00\x00\x02k\x02v\x00\x00", False),  # something behind the headers
        (b"\x00\x00\x00\x01\x01\x02\x01\x01", False),  # a header without a name
        (b"\x00\x00\x00\x01\x01\x02\x04\xc3\xa9\x01", True),  # a name that is not ASCII
        (b"\x00\x00\x00\x01\x01\x02\x02h\x02", False),  # a value beyond the record
        (b"", False),
    ],
)
def test_record_is_read_to_its_end(record: bytes, plain: bool) -> None:
    """Headers are passed over; what the client may refuse is left to it."""
    raw = ONE[:61] + bytes([2 * len(record)]) + record
    raw = raw[:8] + (len(raw) - 12).to_bytes(4, "big") + raw[12:]
    found = lean.native.columns(raw, 0, len(raw), 0)
    assert (found is not None) == plain
    if found is not None:
        (read,) = MemoryRecords(raw).next_batch()
        assert [*zip(*found, strict=True)] == [(read.offset, read.timestamp, read.key, read.value)]


def test_append_time_is_the_brokers() -> None:
    """Then all records of a batch have the same time, which its head tells."""
    assert lean.lean()
    built = bytearray(batch(WRITTEN))
    built[22] |= 0x08
    built[17:21] = calc_crc32c(bytes(built[21:])).to_bytes(4, "big")
    columns = lean.columns(fetched(lean.AsColumns(), bytes(built)))
    assert columns == lean.columns(fetched(None, bytes(built)))
    assert columns.timestamps == [WRITTEN[1][1]] * 2


@pytest.mark.usefixtures("way")
def test_positions_are_those_of_the_plain_path() -> None:
    """The next fetch begins behind the batch, its markers and its gaps."""
    assert lean.lean()
    response = batch(WRITTEN, 1) + marker(2, 1, commit=True)
    for deserializer in (None, lean.AsColumns(), lean.AsEntries()):
        records = fetcher.PartitionRecords(
            PLACE, fetcher.MemoryRecords(response), [], 0, None, deserializer, True, 1
        )
        assert len(list(records)) == (1 if deserializer else 2)
        assert records.next_fetch_offset == 3


@pytest.mark.usefixtures("way")
def test_damaged_batch_is_refused_either_way() -> None:
    """The checksum is looked at before the records are."""
    assert lean.lean()
    damaged = bytearray(batch(WRITTEN))
    damaged[-1] ^= 1
    for deserializer in (None, lean.AsColumns(), lean.AsEntries()):
        if deserializer is None:
            with pytest.raises(CorruptRecordException):
                fetched(None, bytes(damaged))
        else:
            (found,) = fetched(deserializer, bytes(damaged))
            assert (found.first, found.last, found.raw) == (0, 1, bytes(damaged))
            assert "CRC" in found.detail


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
    monkeypatch.setattr(consumer, "Fetcher", fetcher.Fetcher)
    monkeypatch.setattr(lean.aiokafka, "__version__", "0.15.0")
    assert not lean.lean()
    assert fetcher.PartitionRecords is lean._Rows.__base__
    assert consumer.Fetcher is fetcher.Fetcher
    assert "plain-client" in caplog.text
