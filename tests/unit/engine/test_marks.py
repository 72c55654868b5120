"""What the records of `frontier-marks` say together."""

from __future__ import annotations

from streams.core.facts.instants import END_OF_TIME_MS
from streams.engine.marks import Marks, mark_record, request_record
from streams.engine.records import OutRecord

APP_ID = "shipclock"


def marks(*records: OutRecord) -> Marks:
    """Return what some records say."""
    taken = Marks(APP_ID)
    assert all(taken.take(record.key, record.value) for record in records)
    return taken


def test_frontier_is_the_slowest_partitions_mark() -> None:
    """And there is none before each has marked."""
    taken = marks(mark_record(APP_ID, 0, 50), mark_record(APP_ID, 2, 30))
    assert (taken.frontier_ms(3), taken.behind(29, 3)) == (0, {1: 0})
    taken.take(*mark_record(APP_ID, 1, 30)[1:3])
    assert (taken.frontier_ms(3), taken.behind(29, 3)) == (30, {})
    assert taken.behind(30, 3) == {1: 30, 2: 30}


def test_mark_never_goes_back() -> None:
    """A reader that begins again may see an old one after a newer one."""
    assert marks(mark_record(APP_ID, 0, 50), mark_record(APP_ID, 0, 40)).frontier_ms(1) == 50


def test_mark_answers_a_request_only_from_beyond_it() -> None:
    """The first instant that was not passed yet is what a partition marks for next."""
    taken = marks(
        request_record(APP_ID, "shops:0", 100),
        request_record(APP_ID, "shops:1", 70),
        request_record(APP_ID, "shops:2", 200),
    )
    assert [taken.requested_ms(told) for told in (-1, 70, 71, 100, 101, 200, 201)] == [
        70, 70, 100, 100, 200, 200, END_OF_TIME_MS
    ]  # fmt: skip


def test_request_replaces_the_last_of_the_same_name() -> None:
    """As compaction does."""
    taken = marks(request_record(APP_ID, "shops:0", 100), request_record(APP_ID, "shops:0", 300))
    assert taken.requested_ms(0) == 300


def test_another_app_counts_for_nothing() -> None:
    """Its partitions have come as far as they like: ours have not."""
    taken = marks(mark_record("other", 0, 50), request_record("other", "shops:0", 70))
    assert (taken.frontier_ms(1), taken.requested_ms(0)) == (0, END_OF_TIME_MS)


def test_what_cannot_be_read_is_passed_over() -> None:
    """A mark that is not taken only delays."""
    taken = Marks(APP_ID)
    deep = b"[" * 100_000
    found = [taken.take(b"k", value) for value in (None, b"", b"{}", b'{"type":"newer"}', deep)]
    assert found == [False] * 5
    assert taken.frontier_ms(1) == 0
