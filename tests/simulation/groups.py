"""A consumer group's coordinator: members, sessions, generations, the range assignment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.errors import RebalanceInProgressError, UnknownMemberIdError


class Joined(NamedTuple):
    """What a member is told once all have joined: its partition numbers."""

    generation: int
    partitions: Sequence[int]
    assignment: ConsumerProtocolMemberAssignment


class _Counted(NamedTuple):
    """The cluster as an assignor sees it: every topic has as many partitions."""

    partitions: int

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self.partitions))


@dataclass
class _Member:
    seen_s: float
    assignor: Any
    subscription: ConsumerProtocolMemberMetadata
    joining: asyncio.Future[Joined] | None = None


class Group:
    """All members read partition p of the same topics, so partition numbers are shared out."""

    def __init__(self, partitions: int, session_s: float, rebalance_s: float) -> None:
        self._partitions = partitions
        self._session_s = session_s
        self._rebalance_s = rebalance_s
        self._members: dict[str, _Member] = {}
        self._generation = 0
        self._rebalancing_since_s: float | None = None

    def join(
        self, member: str, now_s: float, assignor: Any = RangePartitionAssignor
    ) -> asyncio.Future[Joined]:
        """Join or join again; the answer comes when all members have, or were given up.

        The first member leads: its assignor shares the partitions out.
        """
        subscription = assignor.metadata(["inputs"])
        known = self._members.setdefault(member, _Member(now_s, assignor, subscription))
        known.seen_s, known.subscription = now_s, subscription
        if known.joining is None:
            # A request that comes twice must not take the answer from the other.
            known.joining = asyncio.get_running_loop().create_future()
        self.rebalance(now_s)
        return known.joining

    def heartbeat(self, member: str, generation: int, now_s: float) -> None:
        """Note that a member lives.

        Raises UnknownMemberIdError or RebalanceInProgressError if it must join again.
        """
        known = self._members.get(member)
        if known is None:
            raise UnknownMemberIdError
        known.seen_s = now_s
        if generation != self._generation or self._rebalancing_since_s is not None:
            raise RebalanceInProgressError

    def leave(self, member: str, now_s: float) -> None:
        if self._members.pop(member, None) is not None:
            self.rebalance(now_s)

    def rebalance(self, now_s: float) -> None:
        """Ask all members to join again."""
        if self._rebalancing_since_s is None:
            self._rebalancing_since_s = now_s

    def tick(self, now_s: float) -> None:
        """Drop silent members; finish a rebalance that all have joined or that took too long."""
        for name, member in list(self._members.items()):
            if member.joining is None and now_s - member.seen_s > self._session_s:
                self.leave(name, now_s)
        since_s = self._rebalancing_since_s
        if since_s is None:
            return
        if now_s - since_s > self._rebalance_s:
            self._members = {n: m for n, m in self._members.items() if m.joining is not None}
        if all(member.joining is not None for member in self._members.values()):
            self._assign(now_s)

    def _assign(self, now_s: float) -> None:
        self._rebalancing_since_s = None
        self._generation += 1
        if not self._members:
            return
        leader = next(iter(self._members.values()))
        assigned = leader.assignor.assign(
            _Counted(self._partitions),
            {name: member.subscription for name, member in self._members.items()},
        )
        for name, member in self._members.items():
            member.seen_s = now_s
            waiting, member.joining = member.joining, None
            if waiting is not None and not waiting.done():
                partitions = [tp.partition for tp in assigned[name].partitions()]
                waiting.set_result(Joined(self._generation, partitions, assigned[name]))

    def subscriptions(self) -> list[bytes]:
        """Return what the members sent, as a description of the group shows it."""
        if self._rebalancing_since_s is not None:
            return [b""] * len(self._members)
        return [member.subscription.encode() for member in self._members.values()]
