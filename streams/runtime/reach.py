"""Whether the broker answers, as the stages of one worker see it."""

from __future__ import annotations

import logging
import time

from streams.runtime.logs import Standing, event, warn

log = logging.getLogger(__name__)

_HINT = "trying again; nothing is judged meanwhile"


class Reach:
    """Logs for all stages together that the broker is away, once a minute, and that it is back."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._standing = Standing()
        self._lost_s: dict[str, float] = {}
        """Per stage that gets no answer, since when."""

    def lost(self, stage: str, detail: str, hint: str = "") -> None:
        """Note that a stage gets no answer, and what may help."""
        self._lost_s.setdefault(stage, time.monotonic())
        if self._standing.news("broker"):
            warn(log, "broker-unreachable", bootstrap=self._bootstrap, stage=stage, detail=detail,
                 hint=f"{_HINT}; {hint}" if hint else _HINT)  # fmt: skip

    def found(self, stage: str) -> None:
        """Note that a stage gets answers."""
        since_s = self._lost_s.pop(stage, None)
        if since_s is None or self._lost_s:
            return
        self._standing.over()
        event(log, "broker-back", bootstrap=self._bootstrap, stage=stage,
              away_s=time.monotonic() - since_s)  # fmt: skip
