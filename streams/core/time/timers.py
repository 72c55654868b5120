"""Timers by due time, for millions of keys at once.

One timer a key: its owner says when it is due (`timed`), so a timer that moved or went away needs
no cancel; its old entry is found stale and passed over. Timers wait by the minute and only the
minute at hand is a heap: adding one costs an append.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from streams.core.facts.instants import END_OF_TIME_MS, NEVER_MS
from streams.core.time.key_buckets import END, MINUTE_MS, Minutes, runs_of

# Of a run of keys, those that have a timer between two instants, the second left out, each with its
# due time.
Timed = Callable[[bytes, int, int], list[tuple[int, bytes]]]


class Timers:
    """A queue of (due, key), popped in that order; keys compare as UTF-8 bytes, so by code point.

    Args:
        timed: Looks keys up where their states are.
    """

    def __init__(self, timed: Timed) -> None:
        self._timed = timed
        self._minutes = Minutes()
        self._open: list[tuple[int, bytes]] = []
        self._open_minute = -1
        self._weeded = -1
        self.earliest_ms = END_OF_TIME_MS
        """No timer is due before this; may lie up to a minute too early."""

    def add(self, due_ms: int, key: bytes) -> None:
        """Set a key's timer; its owner must answer the same due time."""
        if due_ms >= NEVER_MS:
            return
        minute = due_ms // MINUTE_MS
        if minute > self._open_minute:
            self._wait(minute, key + END)
        else:
            heapq.heappush(self._open, (due_ms, key))
            self.earliest_ms = min(self.earliest_ms, due_ms)

    def add_all(self, timers: Iterable[tuple[int, bytes]]) -> None:
        """Set many timers, each a due time and its key; their owner must know them already."""
        for minute, run in runs_of(timers).items():
            self.add_run(minute, run)

    def add_run(self, minute: int, run: bytearray) -> None:
        """Set timers that are due within a minute; their owner must know them already."""
        if minute * MINUTE_MS >= NEVER_MS:
            return
        if minute > self._open_minute:
            self._wait(minute, run)
            return
        for timer in self._live(minute, run):
            heapq.heappush(self._open, timer)
        self._look_ahead()

    def _wait(self, minute: int, run: bytes | bytearray) -> None:
        self._minutes.add(minute, run)
        self.earliest_ms = min(self.earliest_ms, minute * MINUTE_MS)

    def few_before(self, limit_ms: int, timers_max: int) -> int:
        """Return an instant, at most `limit_ms`, before which at most so many timers stand.

        Those of one minute go together; stale ones count until that makes a difference.
        """
        count = len(self._open)
        if count > timers_max:
            return min(limit_ms, self._open[0][0])
        for minute in self._minutes.up_to(limit_ms // MINUTE_MS):
            waiting = self._minutes.runs[minute].count(END)
            if count + waiting > timers_max and minute > self._weeded:
                waiting = self._weed(minute)
            count += waiting
            if count > timers_max:
                return min(limit_ms, minute * MINUTE_MS)
        return limit_ms

    def _weed(self, minute: int) -> int:
        """Drop the stale timers of a minute, once; return how many others there are."""
        self._weeded = minute
        keys = [key + END for _, key in self._live(minute, self._minutes.runs[minute])]
        self._minutes.runs[minute] = bytearray(b"".join(keys))
        return len(keys)

    def _live(self, minute: int, run: bytearray) -> list[tuple[int, bytes]]:
        """Return those timers of a minute that are not stale."""
        return self._timed(bytes(run), minute * MINUTE_MS, (minute + 1) * MINUTE_MS)

    def pop(self, limit_ms: int) -> tuple[int, bytes] | None:
        """Take the first timer due at or before `limit_ms`, or `None`."""
        while True:
            while self._open and self._open[0][0] <= limit_ms:
                timer = heapq.heappop(self._open)
                due_ms, key = timer
                if self._timed(key + END, due_ms, due_ms + 1):
                    self._look_ahead()
                    return timer
            first = self._minutes.first
            if self._open or first is None or first * MINUTE_MS > limit_ms:
                self._look_ahead()
                return None
            self._open_minute = first
            self._open += self._live(first, self._minutes.pop())
            heapq.heapify(self._open)

    def _look_ahead(self) -> None:
        first = self._minutes.first
        if self._open:
            self.earliest_ms = self._open[0][0]
        elif first is not None:
            self.earliest_ms = first * MINUTE_MS
        else:
            self.earliest_ms = END_OF_TIME_MS
