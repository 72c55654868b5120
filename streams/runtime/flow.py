"""Back-pressure of one partition: which of its topics must rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Flow:
    """Count what was handed over and is not yet processed.

    A task holds the records above its frontier, the lowest of its topics' last timestamps. So a
    topic that is ahead of another may rest when too much of it is held, but the slowest one may
    not: only it moves the frontier. When the task has not caught up with what it was given, every
    full topic rests until it has.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self._read_to = dict.fromkeys(topics, 0)
        self._done_to = dict(self._read_to)
        self._newest_ms = dict.fromkeys(self._read_to, -1)
        self._resting: set[str] = set()
        self.pending = False
        """Handed over since the task last said that nothing more is to be done."""

    def start(self, offsets: Mapping[str, int]) -> None:
        """Begin at these offsets with nothing held."""
        for topic in self._read_to:
            self._read_to[topic] = self._done_to[topic] = offsets.get(topic, 0)
            self._newest_ms[topic] = -1
        self._resting.clear()
        self.pending = False

    def delivered(self, topic: str, next_offset: int, newest_ms: int) -> None:
        """Note records handed over up to before `next_offset`."""
        self._read_to[topic] = next_offset
        self._newest_ms[topic] = max(self._newest_ms[topic], newest_ms)
        self.pending = True

    def completed(self, topic: str, as_of_ms: int) -> None:
        """Note that the topic was read to its end as of an instant."""
        self._newest_ms[topic] = max(self._newest_ms[topic], as_of_ms)

    def processed(self, offsets: Iterable[tuple[str, int]]) -> None:
        """Note a commit: everything before these offsets is done."""
        self._done_to.update(offsets)

    def resting(self, held_max: int) -> set[str]:
        """Return the topics that must rest; a resting one wakes when half of its share is free."""
        slowest_ms = min(self._newest_ms.values())
        resting = set()
        for topic, read_to in self._read_to.items():
            share = held_max // 2 if topic in self._resting else held_max
            full = read_to - self._done_to[topic] > share
            if full and (self.pending or self._newest_ms[topic] > slowest_ms):
                resting.add(topic)
        self._resting = resting
        return resting
