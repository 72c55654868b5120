"""The clock a worker judges by: the machine's, or one that plays other days faster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tells what time it is for events: epoch milliseconds."""

    def now_ms(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledClock:
    """A clock that plays other days, `speed` times as fast.

    It stands at `epoch_ms`, runs from `origin_ms` of the machine's clock on, and comes to stand at
    `end_ms`. Processes with the same values agree as far as their machines' clocks do.
    """

    origin_ms: int
    epoch_ms: int
    speed: int
    end_ms: int

    def now_ms(self) -> int:
        elapsed_ms = max(0, time.time_ns() // 1_000_000 - self.origin_ms)
        return min(self.epoch_ms + elapsed_ms * self.speed, self.end_ms)
