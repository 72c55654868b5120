"""What cannot be read of a fetch: one record, or one batch, and never what stands before it."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streams.core.facts.outputs import RefusedValue
from streams.engine.records import Columns
from streams.runtime import lean
from streams.runtime.salvage import NotTold, salvage
from tests.raw_batches import batch, record, varint
from tests.unit.test_lean import way

__all__ = ["way"]

PLACE = TopicPartition("order-paid", 3)
LATIN_1 = [(b"gr\xf6\xdfe", b"x"), (b"", None)]
GOOD = [record(place, b"k%d" % place, b"v") for place in range(3)]
AT_MS = 1_700_000_000_000


def frame(body: bytes) -> bytes:
    """Write a record whose parts are given."""
    return varint(len(body)) + body


def fetch(response: bytes, mark: lean.Mark, first: int = 0) -> tuple[list[Any], int]:
    """Give what a marked consumer gets of a response, and where it reads on."""
    assert lean.lean()
    rows = fetcher.PartitionRecords(
        PLACE, fetcher.MemoryRecords(response), [], first, None, mark, True, 1
    )
    mark.begin()
    return list(rows), rows.next_fetch_offset


def damaged(data: bytes) -> bytes:
    """Change the last byte, so that the checksum is wrong."""
    return data[:-1] + bytes([data[-1] ^ 1])


WHOLE = batch(b"".join(GOOD), 3, AT_MS, base=0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("codec", [0, 1])
def test_header_name_may_be_any_bytes(codec: int) -> None:
    """Compressed or not; keys and values are as they were."""
    body = record(0, b"k", b"v", LATIN_1) + record(1, None, None, LATIN_1)
    data = batch(gzip.compress(body) if codec else body, 2, AT_MS, codec, base=5)
    expected = Columns([5, 6], [AT_MS, AT_MS], [b"k", None], [b"v", None])
    assert fetch(data, lean.AsColumns()) == ([expected], 7)
    assert fetch(data, lean.AsEntries()) == ([[(b"k", b"v"), (None, None)]], 7)
    assert fetch(data, lean.AsColumns(), 6) == ([Columns(*(part[1:] for part in expected))], 7)


BROKEN = {
    "no parts": b"",
    "a key behind its end": b"\0\0\2" + varint(9) + b"k",
    "less than no headers": b"\0\0\2\x02k\x02v\x01",
    "more behind the headers": b"\0\0\2\x02k\x02v\x00\x00",
    "a header without a name": b"\0\0\2\x02k\x02v\x02\x01\x01",
    "a number without an end": b"\0" + b"\xff" * 11,
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("why", BROKEN)
def test_broken_record_is_set_aside_alone(why: str) -> None:
    """With its raw bytes; those around it are taken. Of a changelog's batch all is, or nothing."""
    body = GOOD[0] + frame(BROKEN[why]) + GOOD[2]
    data = batch(body, 3, AT_MS, base=4)
    (columns,), at = fetch(data, lean.AsColumns())
    assert (columns.offsets, columns.timestamps, at) == ([4, 5, 6], [AT_MS] * 3, 7)
    assert columns.keys == [b"k0", None, b"k2"]
    value = columns.values[1]
    assert type(value) is RefusedValue
    assert (value.raw, value.reason) == (BROKEN[why], "unreadable")
    assert columns.values[::2] == [b"v", b"v"]
    (unread,), at = fetch(data, lean.AsEntries())
    assert (type(unread), at) == (lean.Unread, 0)


def test_offset_that_goes_back_makes_no_sense() -> None:
    """The record is set aside where it stands."""
    offsets, _, _, values = salvage(batch(GOOD[1] + GOOD[0] + GOOD[2], 3, AT_MS, base=4), 0)
    assert offsets == [5, 6, 7]
    assert [type(value) for value in values] == [bytes, RefusedValue, RefusedValue]


UNTOLD = {
    "fewer records than counted": batch(GOOD[0], 2, AT_MS, base=3),
    "more records than counted": batch(b"".join(GOOD), 2, AT_MS, base=3),
    "a length behind the batch": batch(GOOD[0] + varint(99), 2, AT_MS, base=3),
    "no length at all": batch(GOOD[0] + varint(-1), 2, AT_MS, base=3),
    "not decompressed": batch(b"garbage", 2, AT_MS, 1, base=3),
    "an unknown codec": batch(b"garbage", 2, AT_MS, 5, base=3),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("why", UNTOLD)
@pytest.mark.parametrize("mark", [lean.AsColumns, lean.AsEntries])
def test_batch_of_which_nothing_can_be_told_ends_the_fetch(why: str, mark: type[lean.Mark]) -> None:
    """What stands before it is taken, and the position stays before it."""
    before, behind = WHOLE, batch(GOOD[0], 1, AT_MS, base=5)
    found, at = fetch(before + UNTOLD[why] + behind, mark())
    assert (len(found), at) == (2, 3)
    assert found[0] == fetch(before, mark())[0][0]
    assert found[1]._replace(detail="") == lean.Unread(3, 4, AT_MS, UNTOLD[why], "")
    assert found[1].detail
    read, unread = lean.readable({PLACE: found, "other": found[:1]})
    assert (read, unread) == ({PLACE: found[:1], "other": found[:1]}, {PLACE: found[1]})
    assert lean.readable({PLACE: found[1:]}) == ({}, {PLACE: found[1]})


@pytest.mark.usefixtures("way")
def test_checksum_that_is_wrong_leaves_the_heads_word_in_doubt() -> None:
    """A last offset that does not fit the count is not believed: facts might be skipped with it."""
    assert fetch(damaged(WHOLE), lean.AsColumns())[0][0].last == 2
    lying = bytearray(WHOLE)
    lying[23:27] = struct.pack(">i", 500)
    (unread,), at = fetch(bytes(lying), lean.AsColumns())
    assert (unread.first, unread.last, unread.raw, at) == (0, 0, bytes(lying), 0)
    # Of whole batches the cleaner may have taken records out.
    gaps = batch(GOOD[0] + varint(99), 2, AT_MS, base=0)
    assert fetch(gaps, lean.AsColumns())[0][0].last == 1


@pytest.mark.usefixtures("way")
def test_head_that_is_cut_short_is_unread() -> None:
    """It has no more than an offset."""
    stub = struct.pack(">qi", 9, 3) + b"abc"
    (found,), at = fetch(stub, lean.AsColumns(), 9)
    assert (found.first, found.last, found.raw, at) == (9, 9, stub, 9)


@pytest.mark.usefixtures("way")
def test_inflating_stops_when_enough_was_inflated() -> None:
    """The rest is fetched again from there; one batch comes in any case."""
    body = record(0, b"k", bytes(60_000))
    packed = gzip.compress(body)
    batches = [batch(packed, 1, AT_MS, 1, base=base) for base in range(5)]
    data = b"".join(batches)
    mark = lean.AsColumns(len(body) + 10)
    found, at = fetch(data, mark)
    assert (len(found), at) == (2, 2)
    rest, at = fetch(b"".join(batches[at:]), mark, at)
    assert ([one.offsets for one in rest], at) == ([[2], [3]], 4)
    (small,), at = fetch(data, lean.AsColumns(len(body) - 1))
    assert (small.first, at) == (0, 0)
    assert "inflates to more than" in small.detail


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1, 2])
def test_old_messages_are_inflated_up_to_the_limit(magic: int, codec: int) -> None:
    """They come from brokers of old; the client reads them."""
    builder = LegacyRecordBatchBuilder(magic, codec, 100_000)
    for place in range(3):
        builder.append(place, AT_MS, b"k%d" % place, bytes(5_000))
    built = builder.build()
    if codec:
        # The broker gives what holds them the last one's offset.
        built[:8] = struct.pack(">q", 2)
    data = bytes(built)
    found, at = fetch(data, lean.AsColumns())
    assert lean.columns(found).keys == [b"k0", b"k1", b"k2"]
    assert at == 3
    if codec:
        (unread,), at = fetch(data, lean.AsColumns(10_000))
        assert (type(unread), at) == (lean.Unread, 0)


@given(
    body=st.binary(max_size=60), count=st.integers(-1, 4), changes=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_whatever_stands_in_a_batch_is_told_or_not(body: bytes, count: int, changes: int) -> None:
    """No other error leaves it, and no record is made up: all bytes come from the batch."""
    whole = b"".join(GOOD)
    at = changes % len(whole)
    for data in (body, whole[:at] + body[:1] + whole[at + 1 :]):
        raw = batch(data, count, AT_MS)
        try:
            offsets, _, keys, values = salvage(raw, 0)
        except NotTold:
            continue
        assert offsets == sorted(set(offsets))
        for part in (*keys, *values):
            assert part is None or (part.raw if type(part) is RefusedValue else part) in raw
