"""What a partition that is not ready waits for, for the log and the metrics."""

from __future__ import annotations

import time

from streams.telemetry import metrics


class Progress:
    """How far one partition is on its way to being ready."""

    def __init__(self, stage: str, number: int) -> None:
        self._remaining = metrics.RESTORE_REMAINING.labels(stage, str(number))
        self.step = ""
        self.remaining = self.total = 0
        """Offsets of the changelog, while it is restored."""
        self.since_s: float | None = None
        """Since when it is not ready, by the monotonic clock; None if it is."""
        self.begin("beginning")

    def begin(self, step: str) -> None:
        """Note what it waits for from now on."""
        self.step = step
        self.since_s = time.monotonic() if self.since_s is None else self.since_s
        self.restoring(0, 0)

    def restoring(self, remaining: int, total: int) -> None:
        """Note how much of the changelog is left."""
        self.remaining, self.total = remaining, total
        self._remaining.set(remaining)

    def ready(self) -> None:
        """Note that it waits for nothing."""
        self.begin("ready")
        self.since_s = None
