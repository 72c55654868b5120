"""Answers that never come: which calls of aiokafka then wait for ever, and which give up.

Every request on a connection is given up after the request timeout, but few calls are one request.
As aiokafka 0.14 has it:

- A consumer's fetches are a task of their own. It tries again for as long as the broker is away;
  and it dies when two requests of a connection time out together (`client.send` closes the first
  one's connection and does not find it for the second). `getmany` then brings nothing, for ever.
- The start of a group's member waits for ever to be assigned partitions.
- A transactional producer sends again for ever: to start, to write, to add offsets, to commit.
- To stop waits for ever for a transport that cannot flush what it holds, swallows a cancellation
  while it waits, or ends by cancelling its caller (the fetches' own cancellation comes out).
- All else raises after the request timeout. But whoever needs a new connection queues for one lock,
  so that may be many timeouts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random

from aiokafka.errors import RequestTimedOutError

from tests.simulation.loop import PROCESS, Process, VirtualLoop

_HALF_OPEN_CHANCE = 0.5
_CANCELS_CHANCE = 0.3


@dataclass(frozen=True)
class HangRates:
    """How likely a call hangs, and how it ends; seconds are virtual. All zero means never."""

    chance: float = 0.0
    """For one call of a client."""
    endless: float = 0.0
    """How many of those that hang never end."""
    longest_s: float = 0.0
    """How long the others take."""
    half_open_every_s: float = 0.0
    """How often a worker's connections stay open and carry nothing."""
    half_open_s: float = 0.0
    """For how long, at most."""
    restores: float = 0.0
    """How often that strikes a worker that has just been assigned partitions."""


class Hangs:
    """Decides which calls hang. Has its own dice: without hangs a seed is the run it was."""

    def __init__(self, loop: VirtualLoop, rng: Random, note: Callable[..., None]) -> None:
        self.rates = HangRates()
        self.rng = rng
        self._loop = loop
        self._note = note
        self._half_open_until_s: dict[str, float] = {}

    def half_open(self, process: Process) -> None:
        """Let half of a worker's calls hang for a while."""
        until_s = self._loop.time() + self.rng.random() * self.rates.half_open_s
        self._half_open_until_s[process.name] = until_s
        self._note("half-open", process.name, f"until {until_s:.2f}")

    async def wait(self, what: str) -> None:
        """Before a call that is tried again for ever: at times do not come back."""
        if (lasts_s := self.strikes(what)) is not None:
            await self._lapse(lasts_s)

    async def wait_and_raise(self, what: str, timeout_s: float) -> None:
        """Before a call that gives up: at times raise, but many timeouts later."""
        if (lasts_s := self.strikes(what, endless=False)) is not None:
            await self._lapse(timeout_s + lasts_s)
            raise RequestTimedOutError

    async def stop(self, what: str) -> None:
        """Before a client has disconnected: at times wait, or cancel the caller."""
        if (lasts_s := self.strikes(what)) is None:
            return
        if self.rng.random() < _CANCELS_CHANCE:
            raise asyncio.CancelledError
        with contextlib.suppress(asyncio.CancelledError):
            await self._lapse(lasts_s)
        if lasts_s == inf:
            # It was a cancellation.
            await self._lapse(lasts_s)

    def strikes(self, what: str, weight: float = 1.0, *, endless: bool = True) -> float | None:
        """Draw whether a call hangs; return for how many seconds, `inf` for ever."""
        rates, process = self.rates, PROCESS.get()
        if not rates.chance or process is None:
            return None
        chance = rates.chance
        if self._loop.time() < self._half_open_until_s.get(process.name, 0.0):
            chance = _HALF_OPEN_CHANCE
        if self.rng.random() >= chance * weight:
            return None
        never = self.rng.random() < rates.endless
        lasts_s = inf if endless and never else self.rng.random() * rates.longest_s
        self._note("hangs", process.name, what, f"for {lasts_s:.2f} s")
        return lasts_s

    async def _lapse(self, lasts_s: float) -> None:
        if lasts_s == inf:
            await self._loop.create_future()
        await asyncio.sleep(lasts_s)
