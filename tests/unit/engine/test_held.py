"""Held records and where they are cut."""

from __future__ import annotations

import pytest

from streams.core.facts.instants import END_OF_TIME_MS
from streams.engine.held import Held
from streams.engine.records import Columns


def held(*lanes: list[int]) -> Held:
    """Hold records of these effective timestamps, a list a topic."""
    made = Held(len(lanes))
    for rank, effective in enumerate(lanes):
        count = len(effective)
        keys = [b"%d-%d" % (rank, number) for number in range(count)]
        made.add(rank, effective, Columns(range(7, 7 + count), effective, keys, [None] * count))
    return made


def test_a_cut_takes_what_lies_before_an_instant() -> None:
    """Columns stay together, and what is left is cut later."""
    records = held([1, 2, 2, 3], [5], [1, 9])
    window = records.cut(3)
    assert [(lane.rank, lane.effective, lane.offsets) for lane in window] == [
        (0, [1, 2, 2], [7, 8, 9]),
        (2, [1], [7]),
    ]
    assert list(window[1].records()) == [window[1].record(0)] == [(1, 2, 7, 1, b"2-0", None)]
    assert [records.count(rank) for rank in range(3)] == [1, 1, 1]
    assert [records.first_ms(rank) for rank in range(3)] == [3, 5, 9]
    assert [lane.keys for lane in records.cut(END_OF_TIME_MS)] == [[b"0-3"], [b"1-0"], [b"2-1"]]
    assert records.earliest_ms == records.first_ms(0) == END_OF_TIME_MS


def test_what_comes_after_a_cut_follows_it() -> None:
    """A lane that was handed out is not written to again."""
    records = held([1, 2])
    (lane,) = records.cut(10)
    records.add(0, [3], Columns([9], [3], [b"k"], [b"v"]))
    assert lane.effective == [1, 2]
    assert [lane.offsets for lane in records.cut(10)] == [[9]]


@pytest.mark.parametrize(
    ("limit", "most", "expected"),
    [(100, 8, 100), (100, 4, 4), (3, 8, 3), (100, 1, 2), (1, 1, 1)],
)
def test_few_records_lie_before_the_instant(limit: int, most: int, expected: int) -> None:
    """At most so many, and at least those of the first instant."""
    assert held([1, 2, 3, 4, 5, 6], [1, 7]).few_before(limit, most) == expected


def test_records_of_one_instant_are_not_parted() -> None:
    """More than may be are taken where they stand together."""
    records = held([5] * 10, [5, 6])
    assert records.few_before(100, 3) == 6
    assert sum(len(lane.keys) for lane in records.cut(6)) == 11
