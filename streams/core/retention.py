"""States that only wait to be forgotten, by the minute in which their retention ends.

Nothing comes of forgetting but a tombstone. So, unlike timers, these keys need no order among them
and no moment of their own: whoever looks a state up asks whether it is over, and what is over goes
by the minute.
"""

from __future__ import annotations

import heapq

_MINUTE_MS = 60_000


class Retention:
    """Keys by the minute in which their retention ends; the state itself says when exactly."""

    def __init__(self) -> None:
        self._minutes: dict[int, list[bytes]] = {}
        self._waiting: list[int] = []

    def add(self, due_ms: int, key: bytes) -> None:
        """Note when a key's retention ends. An earlier note of the key stays, and is stale."""
        minute = due_ms // _MINUTE_MS
        keys = self._minutes.get(minute)
        if keys is None:
            self._minutes[minute] = [key]
            heapq.heappush(self._waiting, minute)
        else:
            keys.append(key)

    def pop(self, limit_ms: int, keys_max: int) -> list[bytes]:
        """Take keys of the first minute if all of it lies at or before an instant; else none."""
        waiting = self._waiting
        if not waiting or (waiting[0] + 1) * _MINUTE_MS > limit_ms + 1:
            return []
        keys = self._minutes[waiting[0]]
        if len(keys) > keys_max:
            some = keys[-keys_max:]
            del keys[-keys_max:]
            return some
        del self._minutes[heapq.heappop(waiting)]
        return keys

    def keys(self, limit_ms: int) -> list[bytes]:
        """Return all keys of the minutes that begin at or before an instant."""
        minutes = sorted(minute for minute in self._waiting if minute * _MINUTE_MS <= limit_ms)
        return [key for minute in minutes for key in self._minutes[minute]]
