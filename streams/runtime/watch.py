"""What is logged and measured of a stage: what it has done, and which partitions stand still."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

from streams.runtime.clock import iso
from streams.runtime.counters import Counters
from streams.runtime.logs import Standing, duration, error, event, ranges, warn
from streams.runtime.partition import Partition
from streams.runtime.reports import Reports, shared
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.telemetry import metrics

log = logging.getLogger(__name__)

# A stage that is idle says so once a minute.
_QUIET_S, _QUIET_RECORDS = 60.0, 1_000
# The frontier lies the slack behind the clock; of two machines' clocks one is ahead a little.
_AHEAD_MS = 5_000


class _Reached(NamedTuple):
    """How far a partition has come, and since when it has not come further, in seconds."""

    place: tuple[int, int, int]
    since_s: float


class Watch:
    """Looks at the partitions of a session.

    Args:
        partitions: All that are assigned, ready or not; they change.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        partitions: Mapping[int, Partition],
        counters: Counters,
        reports: Reports,
    ) -> None:
        self._limit_s = settings.unready_limit_ms / 1000
        self._clock = settings.clock
        self._ahead = Standing()
        self._stage = stage.name
        self._partitions = partitions
        self._counters = counters
        self._reports = reports
        self._reached: dict[Partition, _Reached] = {}
        self._still: list[Partition] = []
        self._restoring: set[Partition] = set()
        self._standing = Standing()
        self._summed_s = time.monotonic()

    @property
    def lag(self) -> int | None:
        """Offsets between what was read and the ends, of all partitions.

        None while it is not known: no partition is assigned, or the ends have not been told.
        """
        lags = [part.lag for part in self._partitions.values()]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if lags and len(known) == len(lags) else None

    def measure(self) -> None:
        """Set the gauges."""
        parts = self._partitions.values()
        ready = [part for part in parts if part.ready]
        if (lag := self.lag) is None:
            metrics.LAG.forget(self._stage)
        else:
            metrics.LAG.labels(self._stage).set(lag)
        metrics.ASSIGNED.labels(self._stage).set(len(parts))
        metrics.READY.labels(self._stage).set(len(ready))
        metrics.UNREADABLE.labels(self._stage).set(sum(len(part.flow.stuck) for part in ready))
        metrics.FRONTIER.labels(self._stage).set(min((p.frontier_ms for p in ready), default=0))
        metrics.FRONTIER_AHEAD.labels(self._stage).set(self._ahead_ms() / 1000)

    def look(self) -> None:
        """Report what stands still for longer than the limit, and what has failed."""
        now_s = time.monotonic()
        waits_for_clock = not self._clock.trusted or self._ahead_ms() > 0
        waiting: dict[str, list[Partition]] = {}
        reached, self._reached, self._still = self._reached, {}, []
        for part in self._partitions.values():
            progress = part.progress
            if progress.since_s is not None:
                if now_s - progress.since_s > self._limit_s:
                    waiting.setdefault(shared(progress.step, part.number), []).append(part)
                continue
            # What it waits for is reported by itself.
            waits = waits_for_clock or part.flow.stuck
            place = part.frontier_ms, sum(part.processed.values()), sum(part.flow.read_to.values())
            last = reached.get(part)
            if last is None or last.place != place or not part.lag or waits:
                last = _Reached(place, now_s)
            self._reached[part] = last
            if now_s - last.since_s > self._limit_s:
                self._still.append(part)
        for step, parts in waiting.items():
            self._warn_not_ready(step, parts, now_s)
        if self._still and self._standing.news("still"):
            warn(log, "standing-still", stage=self._stage,
                 partitions=ranges(part.number for part in self._still),
                 lag=sum(part.lag or 0 for part in self._still),
                 for_s=now_s - min(self._reached[part].since_s for part in self._still),
                 detail="ready, with records to read, and no progress",
                 hint="an open transaction of a producer holds back all that follows it"
                 )  # fmt: skip
        self._tell_restoring()
        self._reports.flush()
        if not self._still and all(part.ready for part in self._partitions.values()):
            self._standing.over()
            self._reports.over()

    def _tell_restoring(self) -> None:
        """Log how far the partitions are that have been restoring since the last look."""
        before = self._restoring
        self._restoring = {part for part in self._partitions.values() if part.progress.remaining}
        parts = self._restoring & before
        if parts:
            remaining = sum(part.progress.remaining for part in parts)
            total = sum(part.progress.total for part in parts)
            event(log, "restoring", stage=self._stage,
                  partitions=ranges(part.number for part in parts), remaining=remaining,
                  total=total, percent=100 * (total - remaining) // total)  # fmt: skip

    def _warn_not_ready(self, step: str, parts: list[Partition], now_s: float) -> None:
        if not self._standing.news(step):
            return
        since_s = min(part.progress.since_s or now_s for part in parts)
        left = {
            "remaining": sum(part.progress.remaining for part in parts),
            "total": sum(part.progress.total for part in parts),
        }
        warn(log, "not-ready", stage=self._stage,
             partitions=ranges(part.number for part in parts), waits_for=step,
             for_s=now_s - since_s, **left if left["total"] else {})  # fmt: skip

    def _ahead_ms(self) -> int:
        """By how much the furthest partition has judged ahead of the clock: 0 when all is well."""
        now_ms = self._clock.now_ms()
        if not self._clock.trusted:
            return 0
        furthest_ms = max((part.frontier_ms for part in self._partitions.values()), default=0)
        return ahead_ms if (ahead_ms := furthest_ms - now_ms) > _AHEAD_MS else 0

    def _report_ahead(self) -> bool:
        """Log once a minute that the frontier lies ahead of the clock, and until when it stands."""
        ahead_ms = self._ahead_ms()
        if not ahead_ms:
            self._ahead.over()
        elif self._ahead.news("frontier"):
            until_ms = self._clock.now_ms() + ahead_ms
            error(log, "frontier-ahead", stage=self._stage, by=duration(ahead_ms),
                  until=iso(until_ms),
                  detail="the clock was ahead when this was judged; nothing is judged until then",
                  hint="see Clocks in docs/operations.md")  # fmt: skip
        return ahead_ms > 0

    def summarise(self, *, waits: bool) -> None:
        """Log what was done since the last time, unless that was little and not long ago.

        Args:
            waits: Whether the session waits for something; then nothing is idle.
        """
        ahead = self._report_ahead()
        done, interval_s = self._counters, time.monotonic() - self._summed_s
        if interval_s < _QUIET_S and done.records < _QUIET_RECORDS:
            return
        self._summed_s += interval_s
        parts = self._partitions.values()
        counts = {"partitions": len(parts), "ready": sum(part.ready for part in parts)}
        waits = waits or ahead or any(part.flow.stuck for part in parts)
        if done.idle:
            # What waits for something, or stands still, is not idle: that is reported by itself.
            if waits or self._still or counts["ready"] < len(parts):
                return
            event(log, "idle", stage=self._stage, **counts, marks=done.marks, lag=_known(self.lag),
                  detail="no records came")  # fmt: skip
        else:
            event(log, "committed", stage=self._stage, **counts,
                  records=done.records, outputs=done.outputs, states=done.states,
                  transactions=done.transactions, lag=_known(self.lag),
                  records_per_s=round(done.records / interval_s))  # fmt: skip
        done.clear()


def _known(lag: int | None) -> int | str:
    """Write a lag for the log: what is not known does not look like 0."""
    return "?" if lag is None else lag
