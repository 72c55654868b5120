"""Records that wait for the frontier, by column, and the windows cut off them.

What lives here: where records are kept and where they are cut. What must not: what they mean.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.stages.orders import Record
from streams.engine.records import Columns


class Lane(NamedTuple):
    """Records of one topic, in offset order and by column."""

    rank: int
    effective: list[int]
    offsets: list[int]
    timestamps: list[int]
    keys: list[Any]
    """Bytes, `None` where a record has none."""
    values: list[bytes | None]

    def records(self) -> Iterator[Record]:
        """Give the records one by one."""
        return zip(
            self.effective, repeat(self.rank), self.offsets, self.timestamps, self.keys,
            self.values, strict=False,
        )  # fmt: skip

    def record(self, place: int) -> Record:
        """Give one record."""
        return (
            self.effective[place], self.rank, self.offsets[place], self.timestamps[place],
            self.keys[place], self.values[place],
        )  # fmt: skip

    def pick(self, places: Sequence[int]) -> Lane:
        """Give some of the records, in order."""
        columns: tuple[list[Any], ...] = self[1:]
        return Lane(self.rank, *([column[place] for place in places] for column in columns))


class Held:
    """Records of all topics of a partition; within one their effective timestamps never go back."""

    def __init__(self, topics: int) -> None:
        self._lanes = [_empty(rank) for rank in range(topics)]

    def add(self, rank: int, effective: list[int], records: Columns) -> None:
        """Keep the next records of a topic."""
        columns: tuple[list[Any], ...] = self._lanes[rank][1:]
        for column, more in zip(columns, (effective, *records), strict=True):
            column.extend(more)

    def count(self, rank: int) -> int:
        """Count the records of a topic."""
        return len(self._lanes[rank].keys)

    def first_ms(self, rank: int) -> int:
        """Return the first effective timestamp of a topic, `END_OF_TIME_MS` without records."""
        effective = self._lanes[rank].effective
        return effective[0] if effective else END_OF_TIME_MS

    @property
    def earliest_ms(self) -> int:
        """The first effective timestamp of all, `END_OF_TIME_MS` without records."""
        return min(map(self.first_ms, range(len(self._lanes))))

    def few_before(self, limit_ms: int, records_max: int) -> int:
        """Return an instant, at most `limit_ms`, before which at most so many records lie.

        Those of one instant cannot be parted: where already the first has more, it ends after it.
        """
        while True:
            counts = self._counts_before(limit_ms)
            if sum(counts) <= records_max:
                return limit_ms
            most = max(counts)
            middle = self._lanes[counts.index(most)].effective[most // 2]
            earlier = max(middle, self.earliest_ms + 1)
            if earlier >= limit_ms:
                return limit_ms
            limit_ms = earlier

    def count_before(self, limit_ms: int) -> int:
        """Count the records before an instant."""
        return sum(self._counts_before(limit_ms))

    def _counts_before(self, limit_ms: int) -> list[int]:
        return [bisect_left(lane.effective, limit_ms) for lane in self._lanes]

    def cut(self, below_ms: int) -> list[Lane]:
        """Take all records before an instant, by topic; topics without any are left out."""
        window = []
        for rank, end in enumerate(self._counts_before(below_ms)):
            lane = self._lanes[rank]
            if not end:
                continue
            if end == len(lane.effective):
                self._lanes[rank] = _empty(rank)
                window.append(lane)
            else:
                columns: tuple[list[Any], ...] = lane[1:]
                window.append(Lane(rank, *(column[:end] for column in columns)))
                for column in columns:
                    del column[:end]
        return window


def _empty(rank: int) -> Lane:
    return Lane(rank, [], [], [], [], [])
