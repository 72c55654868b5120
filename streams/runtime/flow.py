"""Back-pressure of one partition: which of its topics must rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from streams.engine.records import Columns

# A held record besides its value: two numbers, a key, and a place in each column.
_RECORD_BYTES = 200


def weigh(records: Columns) -> int:
    """Estimate the bytes that held records take in memory."""
    return _RECORD_BYTES * len(records.offsets) + sum(map(len, filter(None, records.values)))


class _Held:
    """What was handed over of one topic and is not yet processed."""

    def __init__(self) -> None:
        self.bytes = 0
        self._chunks: deque[tuple[int, int, int]] = deque()

    def add(self, begin: int, end: int, size: int) -> None:
        self._chunks.append((begin, end, size))
        self.bytes += size

    def drop_below(self, offset: int) -> None:
        """Let go of what lies before an offset; within a chunk in proportion."""
        chunks = self._chunks
        while chunks and chunks[0][0] < offset:
            begin, end, size = chunks.popleft()
            self.bytes -= size
            if end > offset:
                left = size * (end - offset) // (end - begin)
                chunks.appendleft((offset, end, left))
                self.bytes += left


class Flow:
    """Weigh what was handed over and is not yet processed.

    A task holds the records above its frontier, the lowest of its topics' last timestamps. So a
    topic that is ahead of another may rest when too much of it is held, but the slowest one may
    not: only it moves the frontier. When the task has not caught up with what it was given, every
    full topic rests until it has.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self.read_to = dict.fromkeys(topics, 0)
        """Per topic the offset to read next: all before it was handed over."""
        self._held = {topic: _Held() for topic in self.read_to}
        self._newest_ms = dict.fromkeys(self.read_to, -1)
        self._resting: set[str] = set()
        self.stuck: set[str] = set()
        """Topics that rest before a batch that cannot be read."""
        self._sent = self._taken = self._seen = self._worked_off = 0

    def start(self, offsets: Mapping[str, int], last_ms: Mapping[str, int]) -> None:
        """Begin at these offsets with nothing held, the task's time at `last_ms`."""
        for topic in self.read_to:
            self.read_to[topic] = offsets.get(topic, 0)
            self._held[topic] = _Held()
            self._newest_ms[topic] = last_ms.get(topic, -1)
        self._resting.clear()
        self.stuck.clear()
        self._sent = self._taken = self._seen = self._worked_off = 0

    # --- between the source and the task

    def delivered(self, topic: str, records: Columns, newest_ms: int) -> None:
        """Note records handed over, the newest of them as the task will see it."""
        begin, end = records.offsets[0], records.offsets[-1] + 1
        self.read_to[topic] = end
        self._held[topic].add(begin, end, weigh(records))
        self._newest_ms[topic] = max(self._newest_ms[topic], newest_ms)

    def passed(self, topic: str, offset: int) -> None:
        """Note that nothing comes any more before an offset: markers have none to give."""
        self.read_to[topic] = max(self.read_to[topic], offset)

    def completed(self, topic: str, as_of_ms: int) -> None:
        """Note that the topic was read to its end as of an instant."""
        self._newest_ms[topic] = max(self._newest_ms[topic], as_of_ms)

    def sent(self) -> None:
        """Note that one more batch is under way to the task."""
        self._sent += 1

    def taken(self) -> None:
        """Note that the task has got one more batch."""
        self._taken += 1

    def stepping(self) -> None:
        """Note that the task begins to work on all it has."""
        self._seen = self._taken

    def worked_off(self) -> None:
        """Note that the step that began last left nothing to be done."""
        self._worked_off = self._seen

    def processed(self, offsets: Iterable[tuple[str, int]]) -> None:
        """Note that everything before these offsets is done."""
        for topic, offset in offsets:
            self._held[topic].drop_below(offset)

    # --- what follows from it

    @property
    def pending(self) -> bool:
        """Whether the task may still work something off without further input."""
        return self._worked_off < self._sent

    def resting(self, bytes_max: int) -> set[str]:
        """Return the topics that must rest; a resting one wakes when half of its share is free."""
        slowest_ms = min(self._newest_ms.values())
        resting = set()
        for topic, held in self._held.items():
            share = bytes_max // 2 if topic in self._resting else bytes_max
            if held.bytes > share and (self.pending or self._newest_ms[topic] > slowest_ms):
                resting.add(topic)
        self._resting = resting
        return resting | self.stuck

    def crowded(self, share: int, bytes_max: int) -> list[tuple[str, int]]:
        """Return the slowest topics if too much is held at one instant of them, and that instant.

        The frontier cannot pass the records of an instant before the topic shows a later one, so
        neither resting nor waiting frees what they take: the caller must let it step over them.
        """
        if self.pending or sum(held.bytes for held in self._held.values()) <= bytes_max:
            return []
        slowest_ms = min(self._newest_ms.values())
        return [
            (topic, slowest_ms)
            for topic, held in self._held.items()
            if held.bytes > share and self._newest_ms[topic] == slowest_ms
        ]
