"""Timers by due time, for millions of keys at once.

One timer a key: its owner says when it is due (`timed`), so a timer that moved or went away needs
no cancel; its old entry is found stale and passed over. Timers wait by the minute and only the
minute at hand is a heap: adding one costs an append.

The keys of a minute stand in one run of bytes. So waiting timers are few objects, none of which the
garbage collector looks into: a full collection does not take longer for five million of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from streams.core.clock import END_OF_TIME_MS, NEVER_MS

_BUCKET_MS = 60_000
# Stands behind each key of a bucket.
_END = b"\n"


class Timers:
    """A queue of (due, key), popped in that order; keys compare as UTF-8 bytes, so by code point.

    A key has no line feed; identifiers have no control characters.

    Args:
        timed: Gives, of some keys, those that have a timer now, each with its due time.
    """

    def __init__(self, timed: Callable[[Iterable[bytes]], Iterable[tuple[int, bytes]]]) -> None:
        self._timed = timed
        self._buckets: dict[int, bytearray] = {}
        self._waiting: list[int] = []
        self._open: list[tuple[int, bytes]] = []
        self._open_bucket = -1
        self._weeded = -1
        self.earliest_ms = END_OF_TIME_MS
        """No timer is due before this; may lie up to a minute too early."""

    def add(self, due_ms: int, key: bytes) -> None:
        """Set a key's timer; its owner must answer the same due time."""
        if due_ms >= NEVER_MS:
            return
        number = due_ms // _BUCKET_MS
        if number <= self._open_bucket:
            heapq.heappush(self._open, (due_ms, key))
            self.earliest_ms = min(self.earliest_ms, due_ms)
            return
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket += key + _END
            return
        self._buckets[number] = bytearray(key + _END)
        heapq.heappush(self._waiting, number)
        self.earliest_ms = min(self.earliest_ms, number * _BUCKET_MS)

    def add_all(self, timers: Iterable[tuple[int, bytes]]) -> None:
        """Set many timers, each a due time and its key: what `add` does, and quicker."""
        buckets = self._buckets
        for due_ms, key in timers:
            bucket = buckets.get(due_ms // _BUCKET_MS)
            if bucket is None:
                self.add(due_ms, key)
            else:
                bucket += key + _END

    def few_before(self, limit_ms: int, timers_max: int) -> int:
        """Return an instant, at most `limit_ms`, before which at most so many timers stand.

        Those of one minute go together; stale ones count until that makes a difference.
        """
        count = len(self._open)
        if count > timers_max:
            return min(limit_ms, self._open[0][0])
        for number in sorted(self._minutes(limit_ms // _BUCKET_MS)):
            waiting = self._buckets[number].count(_END)
            if count + waiting > timers_max and number > self._weeded:
                waiting = self._weed(number)
            count += waiting
            if count > timers_max:
                return min(limit_ms, number * _BUCKET_MS)
        return limit_ms

    def _weed(self, number: int) -> int:
        """Drop the stale timers of a minute, once; return how many others there are."""
        self._weeded = number
        keys = [key + _END for _, key in self._live(number, self._buckets[number])]
        self._buckets[number] = bytearray(b"".join(keys))
        return len(keys)

    def _live(self, number: int, keys: bytearray) -> list[tuple[int, bytes]]:
        """Return those timers of a minute that are not stale."""
        begin, end = number * _BUCKET_MS, (number + 1) * _BUCKET_MS
        return [timer for timer in self._timed(bytes(keys).split(_END)) if begin <= timer[0] < end]

    def _minutes(self, last: int) -> Iterator[int]:
        """Yield the waiting minutes up to one, in no order: a heap's children are never less."""
        waiting, places = self._waiting, [0]
        while places:
            place = places.pop()
            if place < len(waiting) and waiting[place] <= last:
                yield waiting[place]
                places += (2 * place + 1, 2 * place + 2)

    def pop(self, limit_ms: int) -> tuple[int, bytes] | None:
        """Take the first timer due at or before `limit_ms`, or `None`."""
        while True:
            while self._open and self._open[0][0] <= limit_ms:
                timer = heapq.heappop(self._open)
                if timer in self._timed((timer[1],)):
                    self._look_ahead()
                    return timer
            if self._open or not self._waiting or self._waiting[0] * _BUCKET_MS > limit_ms:
                self._look_ahead()
                return None
            self._open_next()

    def _open_next(self) -> None:
        number = heapq.heappop(self._waiting)
        self._open_bucket = number
        self._open += self._live(number, self._buckets.pop(number))
        heapq.heapify(self._open)

    def _look_ahead(self) -> None:
        if self._open:
            self.earliest_ms = self._open[0][0]
        elif self._waiting:
            self.earliest_ms = self._waiting[0] * _BUCKET_MS
        else:
            self.earliest_ms = END_OF_TIME_MS
