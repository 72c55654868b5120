"""Batches that nobody can read: each holds up its topic in one partition until a person decides."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from aiokafka import TopicPartition

from streams.core.facts.outputs import RefusedValue
from streams.engine.records import Columns
from streams.runtime.lean import Unread
from streams.runtime.logs import Standing, error, warn
from streams.telemetry import metrics

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""How often a batch is read again: it may come whole now, or may be skipped."""


def skips_group(app_id: str) -> str:
    """Name the consumer group whose offsets are the batches a worker may skip, one a partition."""
    return f"{app_id}-skips"


class UnreadableBatches:
    """Reports the batches of a stage that cannot be read, and gives what stands for skipped ones.

    What a batch holds may decide on fines, so none is skipped unless a person says so. The skip is
    kept by the broker as an offset: a worker that fails before it has committed finds it again.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._standing = Standing()
        self._failures = metrics.FAILURES.labels(stage, "unreadable")
        self.skips: Mapping[TopicPartition, int] = {}
        """Per topic partition the first offset of the batch that may be skipped."""

    def stand_in(self, tp: TopicPartition, batch: Unread) -> Columns | None:
        """Give the record that stands for a batch that may be skipped; `None` for any other one.

        It has the batch's last offset and latest time, no key, and all of the batch as its value.
        """
        where = {"stage": self._stage, "topic": tp.topic, "partition": tp.partition}
        offsets = f"{batch.first}-{batch.last}"
        if batch.raw and self.skips.get(tp) == batch.first:
            warn(log, "skipped", **where, offsets=offsets,
                 detail="its raw bytes become a dead letter")  # fmt: skip
            detail = f"the batch of offsets {offsets} was skipped by hand: {batch.detail}"
            value = RefusedValue.of(batch.raw, "unreadable", detail)
            return Columns([batch.last], [batch.timestamp], [None], [value])
        self._failures.inc()
        if self._standing.news(f"{tp.topic} {tp.partition}"):
            error(log, "unreadable", **where, offset=batch.first, offsets=offsets,
                  bytes=len(batch.raw), detail=batch.detail, retry_s=RETRY_S,
                  hint="nothing of this partition is judged past it; have its facts sent again, "
                  f"then: shipclock dead-letters skip {tp.topic} {tp.partition} {batch.first}"
                  )  # fmt: skip
        return None
