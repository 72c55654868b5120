"""One set of rules in a group: which members may work, told by what their subscriptions say.

Each member's subscription carries the digest of its policy. The group's leader gives partitions
to the members of one digest alone and tells the others, which end. Members of a program that sends
no digest work beside either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)


class Claim(msgspec.Struct, frozen=True):
    """What a member says of itself."""

    policy: str
    """`name@version`"""
    digest: str
    changes: bool = False
    """It has just been started with `--policy-change`."""
    works: bool = False
    """It has been given partitions before."""

    def __str__(self) -> str:
        return f"{self.policy} (digest {self.digest})"


class Described(NamedTuple):
    """The members of a live group, by what their subscriptions say."""

    claims: list[Claim]
    silent: int
    """How many send no digest."""


_decode = msgspec.json.Decoder(Claim).decode


def read_claim(user_data: bytes | None) -> Claim | None:
    """Read what a member sent; `None` if it sends no digest."""
    try:
        return _decode(user_data or b"")
    except ValueError:
        return None


def described(members: Iterable[bytes]) -> Described:
    """Read the subscriptions of a group's members; during a rebalance they are empty."""
    found = [
        read_claim(ConsumerProtocolMemberMetadata.decode(each).user_data)
        for each in members
        if each
    ]
    claims = [claim for claim in found if claim is not None]
    return Described(claims, len(found) - len(claims))


def prevailing(claims: Iterable[Claim]) -> Claim:
    """Return whose rules are judged by: a change's, else those at work, else the same for all."""
    return max(claims, key=lambda claim: (claim.changes, claim.works, claim.digest))


class RulesAssignor(RangePartitionAssignor):  # type: ignore[misc]
    """Ranges of partitions for the members with the prevailing rules, and none for the others.

    Workers share it between their stages: who works in one of them has a claim in the other.

    Args:
        changes: Replace other rules that are at work.
    """

    def __init__(self, policy: str, digest: str, *, changes: bool = False) -> None:
        self._policy = policy
        self._digest = digest
        self._changes = changes
        self._works = False
        self.overruled: Claim | None = None
        """Whose rules prevail instead."""

    @property
    def claim(self) -> Claim:
        """What is sent with the next subscription; a change is made once."""
        return Claim(self._policy, self._digest, self._changes and not self._works, self._works)

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Subscribe, and say by which rules we judge."""
        user_data = msgspec.json.encode(self.claim)
        return ConsumerProtocolMemberMetadata(self.version, list(topics), user_data)

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share the partitions out; called if this member leads the group."""
        claims = {member: read_claim(found.user_data) for member, found in members.items()}
        prevails = prevailing([claim for claim in claims.values() if claim is not None])
        others = [
            member
            for member, claim in claims.items()
            if claim is not None and claim.digest != prevails.digest
        ]
        working = {member: members[member] for member in members if member not in others}
        assigned: dict[str, ConsumerProtocolMemberAssignment] = super().assign(cluster, working)
        reason = msgspec.json.encode(prevails)
        for member in others:
            assigned[member] = ConsumerProtocolMemberAssignment(self.version, [], reason)
        return assigned

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Note whether we may work: overruled in one stage, the worker ends."""
        self.overruled = self.overruled or read_claim(assignment.user_data)
        self._works = self._works or self.overruled is None
