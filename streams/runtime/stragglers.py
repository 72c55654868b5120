"""Records far behind the frontier: the sign of a past that is loaded into live topics."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from aiokafka import TopicPartition

from streams.runtime.logs import Standing, duration, ranges, warn
from streams.telemetry import metrics

log = logging.getLogger(__name__)

# Beyond the slack and this, a record was not on its way: it was written late.
_FAR_MS = 60_000


class _Far:
    """What was not told yet of one topic."""

    def __init__(self) -> None:
        self.records = self.furthest_ms = 0
        self.partitions: set[int] = set()


class Stragglers:
    """Counts records that come behind the frontier, and tells of those far behind it.

    What they say is late evidence: an order may have been judged without it. A few are a producer
    that was cut off; many are a load of the past, which has a safe way of its own.
    """

    def __init__(self, stage: str, slack_ms: int) -> None:
        self._stage = stage
        self._far_ms = slack_ms + _FAR_MS
        self._untold: dict[str, _Far] = {}
        self._told = Standing()

    def note(self, tp: TopicPartition, timestamps: Sequence[int], frontier_ms: int) -> None:
        """Compare a batch with the frontier reached before it."""
        oldest_ms = min(timestamps)
        if oldest_ms >= frontier_ms:
            return
        behind = [at for at in timestamps if at < frontier_ms]
        metrics.BEHIND_FRONTIER.labels(tp.topic).inc(len(behind))
        far = sum(at < frontier_ms - self._far_ms for at in behind)
        if not far:
            return
        untold = self._untold.setdefault(tp.topic, _Far())
        untold.records += far
        untold.furthest_ms = max(untold.furthest_ms, frontier_ms - oldest_ms)
        untold.partitions.add(tp.partition)
        self.tell()

    def tell(self) -> None:
        """Say what is new, at most once a minute and topic."""
        for topic in [topic for topic in self._untold if self._told.news(topic)]:
            far = self._untold.pop(topic)
            warn(log, "behind-frontier", stage=self._stage, topic=topic,
                 partitions=ranges(far.partitions), records=far.records,
                 furthest=duration(far.furthest_ms),
                 detail="they came after their time was judged, and count as late evidence",
                 hint="to load a past, see Loading the past in docs/operations.md")  # fmt: skip
