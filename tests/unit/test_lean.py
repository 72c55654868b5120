"""Fetched records as tuples: both paths give the same, and an unknown client is said aloud."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.runtime import lean

PLACE = TopicPartition("first-scan", 3)
WRITTEN = [(0, 1_700_000_000_000, b"O1", b"{}"), (1, 1_700_000_000_005, None, b"x")]


def fetched(deserializer: object) -> list[object]:
    """Return what a consumer with this value deserializer gets of two records."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000)
    for offset, timestamp, key, value in WRITTEN:
        builder.append(offset, timestamp, key, value, [])
    records = MemoryRecords(bytes(builder.build()))
    return list(
        fetcher.PartitionRecords(PLACE, records, [], 0, None, deserializer, True, 0)  # type: ignore[arg-type]
    )


def test_rows_are_what_the_plain_path_gives() -> None:
    """A marked consumer gets rows, any other one objects, and `rows` makes them equal."""
    assert lean.lean_rows()
    marked, plain = fetched(lean.as_it_is), fetched(None)
    assert marked == WRITTEN
    assert isinstance(plain[0], fetcher.ConsumerRecord)
    assert list(lean.rows(plain)) == list(lean.rows(marked)) == WRITTEN


def test_entries_are_what_the_plain_path_gives() -> None:
    """A consumer marked for a changelog gets keys and values alone."""
    assert lean.lean_rows()
    marked, plain = fetched(lean.as_entry), fetched(None)
    assert marked == [(b"O1", b"{}"), (None, b"x")]
    assert list(lean.entries(plain)) == list(lean.entries(marked)) == marked


def test_unknown_client_is_read_the_plain_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With another version nothing is overridden, and a warning says so."""
    monkeypatch.setattr(fetcher, "PartitionRecords", lean._Rows.__base__)
    monkeypatch.setattr(lean.aiokafka, "__version__", "0.15.0")
    assert not lean.lean_rows()
    assert fetcher.PartitionRecords is lean._Rows.__base__
    assert "plain-fetch" in caplog.text
