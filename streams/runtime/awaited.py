"""Which order partitions hold the shops back, for the log and the metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from streams.engine.marks import Marks
from streams.runtime.logs import Standing, ranges, warn
from streams.runtime.partition import Partition
from streams.runtime.settings import Settings
from streams.telemetry import metrics

log = logging.getLogger(__name__)


class AwaitedMarks:
    """Reports order partitions whose marks shops wait for and that do not come further.

    An order partition that works marks at least once each `idle_mark_interval_ms`, however far it
    is behind, so its mark stands for longer only if the partition does.
    """

    def __init__(self, settings: Settings, stage: str, marks: Marks) -> None:
        self._settings = settings
        self._stage = stage
        self._marks = marks
        self._limit_s = (settings.idle_mark_interval_ms + settings.unready_limit_ms) / 1000
        self._stands: dict[int, tuple[int, float]] = {}
        """Per order partition that is waited for: its mark, and since when that stands, by the
        monotonic clock."""
        self._standing = Standing()

    def look(self, parts: Iterable[Partition], sources: int) -> None:
        """Report once a minute what has stood for longer than the limit.

        Args:
            parts: The shop partitions of this worker.
            sources: Number of order partitions.
        """
        now_s = time.monotonic()
        before, self._stands = self._stands, {}
        for source, mark_ms in self._awaited(parts, sources).items():
            known = before.get(source)
            stands = known if known is not None and known[0] == mark_ms else (mark_ms, now_s)
            self._stands[source] = stands
        for source in range(sources):
            _, since_s = self._stands.get(source, (0, now_s))
            metrics.SHOPS_HELD.labels(str(source)).set(now_s - since_s)
        held = {n: s for n, (_, s) in self._stands.items() if now_s - s > self._limit_s}
        if not held:
            self._standing.over()
        elif self._standing.news("held"):
            warn(log, "shops-held", stage=self._stage, order_partitions=ranges(held),
                 for_s=now_s - min(held.values()),
                 detail="these order partitions come no further, and nothing is charged or settled "
                 "until they do",
                 hint="see what the log of their worker says of them; partitions of which none "
                 "says a word have no worker, or a transaction is open in frontier-marks"
                 )  # fmt: skip

    def _awaited(self, parts: Iterable[Partition], sources: int) -> dict[int, int]:
        """Return the marks that the last of the due instants does not lie before."""
        clock = self._settings.clock
        due_ms = clock.now_ms() - self._settings.idle_slack_ms
        waits_ms = [part.waits_for_ms for part in parts if part.ready]
        instants_ms = [instant_ms for instant_ms in waits_ms if instant_ms < due_ms]
        if not instants_ms or not clock.trusted:
            return {}
        return self._marks.behind(max(instants_ms), sources)
