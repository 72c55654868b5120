"""Log time of one partition: effective timestamps and the frontier.

What lives here: how record timestamps become one monotone sequence a topic, and up to where a
partition may be processed. What must not: wall-clock reads; live callers pass `now_ms` in.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate


class Frontier:
    """Effective timestamps of the co-partitioned input topics of one partition.

    The effective timestamp of a record is the running maximum of timestamps within its topic.
    The frontier is the minimum, over the topics, of the last effective timestamp read; a topic
    read to its end counts as complete up to an instant the caller vouches for.

    Attributes:
        reached_ms: Every record below it has been processed and every timer before it has fired.
    """

    __slots__ = ("_complete_ms", "last_ms", "reached_ms")

    def __init__(self, topics: int) -> None:
        self.last_ms = [0] * topics
        self._complete_ms = [0] * topics
        self.reached_ms = 0

    def effective(self, topic: int, timestamps: Sequence[int]) -> list[int]:
        """Effective timestamps of the next records of a topic, read in replay."""
        effective = sorted(timestamps)
        last = self.last_ms[topic]
        # Nearly always they come in order; looking whether they do is far cheaper.
        if effective != list(timestamps) or (effective and effective[0] < last):
            effective = list(accumulate(timestamps, max, initial=last))[1:]
        if effective:
            self.last_ms[topic] = effective[-1]
        return effective

    def effective_live(self, topic: int, timestamps: Sequence[int], now_ms: int) -> list[int]:
        """Effective timestamps of the next records of a topic, read live.

        A timestamp later than the machine's clock counts as now, so that a producer with a wrong
        clock cannot fire other orders' timers; below the frontier reached it counts as that.
        """
        latest = max(now_ms, self.last_ms[topic])
        effective = self.effective(topic, timestamps)
        if self.last_ms[topic] > latest:
            effective = [min(at, latest) for at in effective]
            self.last_ms[topic] = latest
        reached = self.reached_ms
        if effective and effective[0] < reached:
            effective = [max(at, reached) for at in effective]
        return effective

    def complete(self, topic: int, as_of_ms: int) -> None:
        """Note that every record of a topic up to an instant has been read."""
        self._complete_ms[topic] = max(self._complete_ms[topic], as_of_ms)

    def value(self) -> int:
        """Compute the frontier: records with a smaller effective timestamp may be processed."""
        return max(self.reached_ms, min(map(max, self.last_ms, self._complete_ms)))
