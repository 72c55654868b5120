"""States that only wait to be forgotten, by the minute in which their retention ends.

At most a tombstone comes of forgetting. So, unlike timers, these keys need no order among them and
no moment of their own: whoever looks a state up asks whether it is over, and what is over goes by
the minute.
"""

from __future__ import annotations

from streams.core.time.key_buckets import END, MINUTE_MS, Minutes, split


class Retention:
    """Keys by the minute in which their retention ends; the state itself says when exactly."""

    def __init__(self) -> None:
        self._minutes = Minutes()

    def add(self, due_ms: int, key: bytes) -> None:
        """Note when a key's retention ends. An earlier note of the key stays, and is stale."""
        self._minutes.add(due_ms // MINUTE_MS, key + END)

    def add_run(self, minute: int, run: bytearray) -> None:
        """Note keys whose retention ends within a minute."""
        self._minutes.add(minute, run)

    def pop(self, limit_ms: int, keys_max: int) -> list[bytes]:
        """Take about so many keys of the minutes that lie before or end at an instant."""
        keys: list[bytes] = []
        while len(keys) < keys_max:
            minute = self._minutes.first
            if minute is None or (minute + 1) * MINUTE_MS > limit_ms + 1:
                break
            found = split(self._minutes.pop())
            if len(found) > keys_max:
                # Sorted, so that it does not matter in which order they were noted.
                found.sort()
                self._minutes.add(minute, END.join(found[keys_max:]) + END)
                return keys + found[:keys_max]
            keys += found
        return keys

    def keys(self, limit_ms: int) -> list[bytes]:
        """Return all keys of the minutes that begin at or before an instant."""
        minutes = self._minutes
        return [
            key for minute in minutes.up_to(limit_ms // MINUTE_MS)
            for key in split(minutes.runs[minute])
        ]  # fmt: skip
