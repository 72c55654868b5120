"""Keys by the minute, for millions of them: what timers and notes of retention wait in.

The keys of a minute stand in one run of bytes. So what waits is few objects, none of which the
garbage collector looks into: a full collection does not take longer for five million keys.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

MINUTE_MS = 60_000
# Stands behind each key of a run; identifiers have no control characters.
END = b"\n"

# Minute, counted from the epoch, to its keys.
Runs = dict[int, bytearray]


def runs_of(keys: Iterable[tuple[int, bytes]]) -> Runs:
    """Part keys by the minutes of their instants."""
    runs: Runs = {}
    for at_ms, key in keys:
        run = runs.get(at_ms // MINUTE_MS)
        if run is None:
            runs[at_ms // MINUTE_MS] = bytearray(key + END)
        else:
            run += key + END
    return runs


def split(run: bytes | bytearray) -> list[bytes]:
    """Give the keys of a run one by one."""
    return bytes(run).split(END)[:-1]


class Minutes:
    """Runs of keys, the earliest minute first."""

    def __init__(self) -> None:
        self.runs: Runs = {}
        self._waiting: list[int] = []

    def add(self, minute: int, keys: bytes | bytearray) -> None:
        """Add a run to what waits in its minute."""
        run = self.runs.get(minute)
        if run is None:
            self.runs[minute] = bytearray(keys)
            heapq.heappush(self._waiting, minute)
        else:
            run += keys

    @property
    def first(self) -> int | None:
        """The earliest minute that has keys."""
        return self._waiting[0] if self._waiting else None

    def pop(self) -> bytearray:
        """Take the run of the earliest minute."""
        return self.runs.pop(heapq.heappop(self._waiting))

    def up_to(self, last: int) -> list[int]:
        """List the minutes up to one, in order."""
        return sorted(self._up_to(last))

    def _up_to(self, last: int) -> Iterator[int]:
        # A heap's children are never less.
        waiting, places = self._waiting, [0]
        while places:
            place = places.pop()
            if place < len(waiting) and waiting[place] <= last:
                yield waiting[place]
                places += (2 * place + 1, 2 * place + 2)
