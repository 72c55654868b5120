"""The clock a worker judges by: the machine's, or one that plays other days faster.

The machine's clock can be wrong and be set right, or the other way round. Judging goes by it, and
what was judged is not judged again, so a reading that steps is not believed at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from streams.runtime.logs import Standing, duration, error, event, warn
from streams.telemetry import metrics

log = logging.getLogger(__name__)

# NTP slews what is less than some tenths of a second, at half a millisecond a second.
_STEP_MS = 2_000
# A wrong time that somebody notices, or that a host gives back to a guest, is gone after seconds.
_CONFIRM_MS = 10_000
# Without the broker's clock a step is believed after this: its topics may carry no broker time.
_ALONE_MS = 30_000
# Clocks of two machines with NTP differ by milliseconds, and a commit may take seconds.
_BROKER_MS = 60_000
_ASK_MS = 2_000
_HINT = "compare the machine's clock with the broker's (NTP); see Clocks in docs/operations.md"


class Played(Protocol):
    """Maps the machine's time to that of the events, both epoch milliseconds."""

    def at(self, machine_ms: int) -> int: ...


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

    def at(self, machine_ms: int) -> int:
        """Return the time played at an instant of the machine's clock."""
        elapsed_ms = max(0, machine_ms - self.origin_ms)
        return min(self.epoch_ms + elapsed_ms * self.speed, self.end_ms)


def wall_ms() -> int:
    """Return the machine's time: it can be set, and step."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return a time that only goes on: nobody sets it, and it counts while the machine sleeps."""
    try:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    except (AttributeError, OSError):
        # Not Linux: a sleep of the machine looks like a step, and is believed after a while.
        return time.monotonic_ns() // 1_000_000


class _Reading(NamedTuple):
    """The wall clock, and the steady one beside it."""

    wall_ms: int
    steady_ms: int


class _Step(NamedTuple):
    """A step of the wall clock that is not believed yet."""

    last: _Reading
    """The latest reading that agrees with the first one after the step."""
    began_ms: int
    """When the step was seen, by the steady clock."""
    by_ms: int


class TrustedClock:
    """The machine's clock as far as it can be trusted; one for all stages of a worker.

    Each reading is compared with a steady clock. After a step of more than two seconds, forward or
    back, `now_ms` stands until the clock has agreed with itself for ten seconds and, where the
    broker stamps what is committed, with the broker's; or until the step is taken back. It also
    stands while the clock is more than a minute ahead of the broker's, as in a worker that was
    started with a wrong one. Whoever judges by it reads nothing while it is not `trusted`.
    """

    def __init__(
        self,
        played: Played | None = None,
        wall_ms: Callable[[], int] = wall_ms,
        steady_ms: Callable[[], int] = steady_ms,
    ) -> None:
        self._played = played
        self._wall_ms = wall_ms
        self.steady_ms = steady_ms
        self._believed: _Reading | None = None
        self._step: _Step | None = None
        self._broker: _Reading | None = None
        """The broker's clock, and the steady one just before it was asked."""
        self._ahead_ms = 0
        """By how much the clock is ahead of the broker's, at least, if that is too much."""
        self._now_ms = 0
        self._asked_ms = 0
        self._differing = Standing()

    @property
    def trusted(self) -> bool:
        """Whether the last reading is to be judged by."""
        return self._step is None and not self._ahead_ms

    def now_ms(self) -> int:
        """Read the clock; return what time it is for the events, as of when it was trusted."""
        before_ms, wall, after_ms = self.steady_ms(), self._wall_ms(), self.steady_ms()
        self._watch(wall, before_ms, after_ms)
        self._compare(wall, before_ms)
        self._confirm()
        if self.trusted:
            self._now_ms = self._played_at(wall)
        metrics.CLOCK_TRUSTED.labels().set(self.trusted)
        return self._now_ms

    def asks(self) -> bool:
        """Tell whether the broker's clock is wanted now: while in doubt, every two seconds."""
        now_ms = self.steady_ms()
        if self.trusted or now_ms < self._asked_ms + _ASK_MS:
            return False
        self._asked_ms = now_ms
        return True

    def heard(self, broker_ms: int, asked_ms: int) -> None:
        """Take the time a broker has stamped a record with; of several the furthest on counts.

        Args:
            broker_ms: Its clock, epoch ms.
            asked_ms: `steady_ms` before the record was sent.
        """
        known = self._broker
        if (
            known is None
            or asked_ms >= known.steady_ms + _ALONE_MS
            or broker_ms >= known.wall_ms + asked_ms - known.steady_ms
        ):
            self._broker = _Reading(broker_ms, asked_ms)

    def _played_at(self, machine_ms: int) -> int:
        return machine_ms if self._played is None else self._played.at(machine_ms)

    def _watch(self, wall: int, before_ms: int, after_ms: int) -> None:
        """Compare with the reading believed last, and after a step with the first one since."""
        reading, step = _Reading(wall, after_ms), self._step
        believed = self._believed or reading
        by_ms = _deviation(believed, wall, before_ms, after_ms)
        if abs(by_ms) <= _STEP_MS:
            self._believed = reading
            if step is not None:
                self._step = None
                event(log, "clock-back", stepped=_signed(step.by_ms),
                      seconds=(after_ms - step.began_ms) / 1000,
                      detail="the step was taken back, and nothing was judged by it")  # fmt: skip
        elif step is None or abs(_deviation(step.last, wall, before_ms, after_ms)) > _STEP_MS:
            self._step = _Step(reading, after_ms, by_ms)
            # Nor is the broker's clock known any more: this machine may have stood still.
            self._broker = None
            error(log, "clock-stepped", by=_signed(by_ms), clock=iso(wall),
                  detail="nothing is judged until the clock has agreed with itself for "
                  f"{_CONFIRM_MS // 1000} s, and with the broker's", hint=_HINT)  # fmt: skip
        else:
            self._step = step._replace(last=reading)

    def _compare(self, wall: int, before_ms: int) -> None:
        """Compare with the broker's clock, which has gone on since as the steady one has."""
        ahead_ms = 0
        if self._broker is not None:
            ahead_ms = wall - (self._broker.wall_ms + before_ms - self._broker.steady_ms)
        differ = abs(ahead_ms) > _BROKER_MS
        self._ahead_ms = ahead_ms if differ and ahead_ms > 0 else 0
        if self._ahead_ms:
            # What was read before the broker had answered was never right.
            self._now_ms = min(self._now_ms, self._played_at(wall - ahead_ms))
        if not differ:
            self._differing.over()
        elif self._differing.news("broker"):
            say, detail = (
                (error, "nothing is judged until they agree")
                if self._ahead_ms
                else (warn, "what comes due is judged later than it could be")
            )
            say(log, "clock-differs", ahead_of_broker=_signed(ahead_ms), clock=iso(wall),
                broker=iso(wall - ahead_ms), detail=detail, hint=_HINT)  # fmt: skip

    def _confirm(self) -> None:
        """Believe a step that has stood for long enough."""
        step = self._step
        if step is None or self._ahead_ms:
            return
        stood_ms = step.last.steady_ms - step.began_ms
        if stood_ms >= (_ALONE_MS if self._broker is None else _CONFIRM_MS):
            self._believed, self._step = step.last, None
            event(log, "clock-confirmed", stepped=_signed(step.by_ms), clock=iso(step.last.wall_ms),
                  by="itself" if self._broker is None else "itself and the broker")  # fmt: skip


def iso(ms: int) -> str:
    """Write an instant for people, UTC."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(ms)


def _deviation(since: _Reading, wall: int, before_ms: int, after_ms: int) -> int:
    """Return by how much the wall clock has stepped since a reading, at least."""
    earliest_ms = since.wall_ms + before_ms - since.steady_ms
    latest_ms = since.wall_ms + after_ms - since.steady_ms
    return min(0, wall - earliest_ms) or max(0, wall - latest_ms)


def _signed(by_ms: int) -> str:
    """Write a difference to the second: it was measured within milliseconds."""
    return ("-" if by_ms < 0 else "+") + duration((abs(by_ms) + 500) // 1000 * 1000)
