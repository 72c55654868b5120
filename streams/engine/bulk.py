"""Usual events taken in bulk, without unpacking an order's state.

Nearly every order is paid, uploaded, scanned in time and forgotten. Each of these steps puts
nothing out and leaves a state that follows from the bytes of the last one, and from the plan of the
rules that hold for the order (`streams.core.rules.plan`). So of a window (all
records between two instants) the usual ones are taken first, a topic at a time; all others, and the
timers, then go through `streams.core.stages.orders` one by one and in order: it can take every
record.

Why the outcome is the same. What a usual event does concerns its own order only. If one record of
an order goes the long way, all that follow it within the window do; if records of an order do not
come in the order of their topics, none is taken here. And nothing is taken whose order has a timer
that would have fired before it: `due_ms` is the next instant at which anything can happen to an
order. So for every order the sequence of records and timers is the one it would be without this
module. A property test plays logs both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, repeat
from operator import gt
from typing import Any

from streams.codec.state import PackedOrders
from streams.core.rules.book import Rulebook
from streams.core.stages.orders import OrdersStage, Record
from streams.core.time.key_buckets import Runs
from streams.engine import compiled, usual
from streams.engine.held import Lane
from streams.engine.usual import Blocked, Usual


class Bulk:
    """The usual events of one partition."""

    def __init__(self, rulebook: Rulebook, stage: OrdersStage, store: PackedOrders) -> None:
        self.usual = Usual(rulebook, stage.exemptions)
        self._stage = stage
        self._store = store

    def take(self, window: Sequence[Lane]) -> list[Record]:
        """Take the usual records of a window, given by rank; return the others, in no order."""
        blocked = _blocked(window)
        others: list[Record] = []
        for lane in window:
            left: Iterable[int] = range(len(lane.keys))
            if lane.rank in usual.TAKE:
                left = self._take(lane, blocked)
            others += map(lane.record, left)
        return others

    def _take(self, lane: Lane, blocked: Blocked) -> list[int]:
        """Take the usual records of a lane; return the places of the others."""
        plain, quick = usual.TAKE[lane.rank], compiled.TAKE.get(lane.rank)
        if quick is None:
            left, *runs = plain(lane, self.usual, self._store, blocked)
            self._wait(*runs)
            return left
        (left, *runs), unread = quick(lane, self.usual, self._store, blocked)
        self._wait(*runs)
        if unread:
            rest, *runs = plain(lane.pick(left), self.usual, self._store, blocked)
            self._wait(*runs)
            return [left[place] for place in rest]
        blocked |= dict.fromkeys(lane.keys[place] for place in left)
        return left

    def _wait(self, timers: Runs, retention: Runs) -> None:
        """Let orders wait for what comes next, or to be forgotten."""
        for minute, run in timers.items():
            self._stage.timers.add_run(minute, run)
        for minute, run in retention.items():
            self._stage.retention.add_run(minute, run)


def _blocked(window: Sequence[Lane]) -> Blocked:
    """Find the keys with a record of another topic, or with one before that of an earlier topic."""
    blocked: Blocked = {}
    for lane in window:
        if lane.rank not in usual.TAKE:
            blocked |= dict.fromkeys(lane.keys)
    last_ms: dict[Any, int] = {}
    for before, lane in pairwise(lane for lane in window if lane.rank in usual.TAKE):
        last_ms |= zip(before.keys, before.effective, strict=True)
        if any(map(gt, map(last_ms.get, lane.keys, repeat(0)), lane.effective)):
            blocked |= dict.fromkeys(
                key
                for key, at in zip(lane.keys, lane.effective, strict=True)
                if last_ms.get(key, 0) > at
            )
    return blocked
