"""What ends a life of a partition: how it is reported, and how long to wait before the next."""

from __future__ import annotations

import logging

from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced

from streams.kafka.waiting import jittered
from streams.runtime.errors import PositionLost, refusal
from streams.runtime.logs import Standing, reason
from streams.runtime.reports import Reports
from streams.runtime.rights import worker_rights
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.telemetry import metrics

log = logging.getLogger(__name__)

_RETRY_S_MIN, _RETRY_S_MAX = 0.5, 4.0
_REFUSED_S = 30.0


class Failures:
    """One partition's failures.

    Args:
        reports: Of all partitions of the stage.
    """

    def __init__(self, settings: Settings, stage: Stage, number: int, reports: Reports) -> None:
        self._settings = settings
        self._stage = stage
        self._number = number
        self._reports = reports
        self._bugs = Standing()
        self._needs = worker_rights(settings.connection, settings.app_id, [stage])
        self._retry_s = _RETRY_S_MIN

    def report(self, exc: Exception) -> float:
        """Report and count what ended a life; return how long to wait, in seconds."""
        add = self._reports.add
        if isinstance(exc, ProducerFenced):
            self._count("fenced")
            # If the other is right, a rebalance will close us; if not (we owned the partition
            # again before we noticed), we take it back.
            add(logging.WARNING, "fenced", self._number, detail="another worker has taken the "
                "partition over, or the broker gave its transaction up")  # fmt: skip
            return jittered(self._settings.session_timeout_ms / 1000)
        if refused := refusal(exc, self._needs):
            self._count("refused")
            add(logging.ERROR, "refused", self._number, at=refused.at, detail=refused.detail,
                hint=refused.hint, retry_s=_REFUSED_S)  # fmt: skip
            return jittered(_REFUSED_S)
        if isinstance(exc, (KafkaError, OSError, PositionLost)):
            self._count("failed")
            add(logging.WARNING, "failed", self._number, detail=reason(exc),
                at=exc.at if isinstance(exc, PositionLost) else "", retrying="until it works",
                shared=isinstance(exc, KafkaConnectionError))  # fmt: skip
            pause_s, self._retry_s = self._retry_s, min(2 * self._retry_s, _RETRY_S_MAX)
            return jittered(pause_s)
        self._count("broken")
        if self._bugs.news(type(exc).__name__):
            log.error("broken stage=%s partition=%s", self._stage.name, self._number, exc_info=exc)
        return jittered(_REFUSED_S)

    def over(self) -> None:
        """Forget them: the partition works again."""
        self._bugs.over()
        self._retry_s = _RETRY_S_MIN

    def _count(self, kind: str) -> None:
        metrics.FAILURES.labels(self._stage.name, kind).inc()
