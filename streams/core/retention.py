"""States that only wait to be forgotten, by the minute in which their retention ends.

At most a tombstone comes of forgetting. So, unlike timers, these keys need no order among them and
no moment of their own: whoever looks a state up asks whether it is over, and what is over goes by
the minute. As in `timers`, the keys of a minute stand in one run of bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

_MINUTE_MS = 60_000
# Stands behind each key; identifiers have no control characters.
_END = b"\n"


class Retention:
    """Keys by the minute in which their retention ends; the state itself says when exactly."""

    def __init__(self) -> None:
        self._minutes: dict[int, bytearray] = {}
        self._waiting: list[int] = []

    def add(self, due_ms: int, key: bytes) -> None:
        """Note when a key's retention ends. An earlier note of the key stays, and is stale."""
        minute = due_ms // _MINUTE_MS
        keys = self._minutes.get(minute)
        if keys is None:
            self._minutes[minute] = bytearray(key + _END)
            heapq.heappush(self._waiting, minute)
        else:
            keys += key + _END

    def add_all(self, notes: Iterable[tuple[int, bytes]]) -> None:
        """Note many keys, each with its due time: what `add` does, and quicker."""
        minutes = self._minutes
        for due_ms, key in notes:
            keys = minutes.get(due_ms // _MINUTE_MS)
            if keys is None:
                self.add(due_ms, key)
            else:
                keys += key + _END

    def pop(self, limit_ms: int, keys_max: int) -> list[bytes]:
        """Take about so many keys of the minutes that lie before or end at an instant."""
        waiting, minutes = self._waiting, self._minutes
        keys: list[bytes] = []
        while waiting and (waiting[0] + 1) * _MINUTE_MS <= limit_ms + 1 and len(keys) < keys_max:
            minute = _split(minutes.pop(waiting[0]))
            if len(minute) > keys_max:
                # Sorted, so that it does not matter in which order they were noted.
                minute.sort()
                minutes[waiting[0]] = bytearray(_END.join(minute[keys_max:]) + _END)
                return keys + minute[:keys_max]
            heapq.heappop(waiting)
            keys += minute
        return keys

    def keys(self, limit_ms: int) -> list[bytes]:
        """Return all keys of the minutes that begin at or before an instant."""
        minutes = sorted(minute for minute in self._waiting if minute * _MINUTE_MS <= limit_ms)
        return [key for minute in minutes for key in _split(self._minutes[minute])]


def _split(keys: bytearray) -> list[bytes]:
    return bytes(keys).split(_END)[:-1]
