"""What ends a life of a partition: how it is reported, and how long to wait before the next."""

from __future__ import annotations

import logging

from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced

from streams.runtime.errors import PositionLost, refusal
from streams.runtime.logs import Standing, error, reason, warn
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.telemetry import metrics

log = logging.getLogger(__name__)

_RETRY_S_MIN, _RETRY_S_MAX = 0.5, 4.0
_REFUSED_S = 30.0


class Failures:
    """One partition's failures: each is logged at first, and once a minute while it lasts.

    Args:
        away: Shared by the partitions of a stage: that the broker is away is logged once.
    """

    def __init__(self, settings: Settings, stage: Stage, number: int, away: Standing) -> None:
        self._settings = settings
        self._stage = stage
        self._number = number
        self._away = away
        self._others = Standing()
        self._retry_s = _RETRY_S_MIN

    def report(self, exc: Exception) -> float:
        """Log and count what ended a life; return how long to wait, in seconds."""
        where = {"stage": self._stage.name, "partition": self._number}
        standing = self._away if isinstance(exc, KafkaConnectionError) else self._others
        news = standing.news(type(exc).__name__)
        if isinstance(exc, ProducerFenced):
            self._count("fenced")
            # If the other is right, a rebalance will close us; if not (we owned the partition
            # again before we noticed), we take it back.
            if news:
                warn(log, "fenced", **where, detail="another worker has taken the partition over, "
                     "or the broker gave its transaction up")  # fmt: skip
            return self._settings.session_timeout_ms / 1000
        if refused := refusal(exc):
            self._count("refused")
            if news:
                error(log, "refused", **where, detail=refused.detail, hint=refused.hint,
                      retry_s=_REFUSED_S)  # fmt: skip
            return _REFUSED_S
        if isinstance(exc, (KafkaError, OSError, PositionLost)):
            self._count("failed")
            if news:
                warn(log, "failed", **where, detail=reason(exc), retrying="until it works")
            pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, _RETRY_S_MAX)
            return pause_s
        self._count("broken")
        if news:
            log.error("broken stage=%s partition=%s", *where.values(), exc_info=exc)
        return _REFUSED_S

    def over(self) -> None:
        """Forget them: the partition works again."""
        self._others.over()
        self._retry_s = _RETRY_S_MIN

    def _count(self, kind: str) -> None:
        metrics.FAILURES.labels(self._stage.name, kind).inc()
