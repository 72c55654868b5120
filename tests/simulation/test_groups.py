"""The group's coordinator shares partitions out as a broker does."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import RebalanceInProgressError, UnknownMemberIdError

from streams.runtime.rules import RulesAssignor
from tests.simulation.groups import Group, Joined


def shares(*joins: asyncio.Future[Joined]) -> list[tuple[int, list[int]]]:
    """Return generation and partitions of each that has joined."""
    return [(join.result().generation, list(join.result().partitions)) for join in joins]


def new_group() -> Group:
    """Return the group of five partitions, with sessions of 2 s and rebalances of 3 s."""
    return Group(5, session_s=2.0, rebalance_s=3.0)


async def test_members_share_the_partitions() -> None:
    """Those who join together get ranges, in order of their names."""
    group = new_group()
    joins = [group.join(name, 0.0) for name in ("a", "b")]
    assert not any(join.done() for join in joins)
    group.tick(0.1)
    assert shares(*joins) == [(1, [0, 1, 2]), (1, [3, 4])]
    group.heartbeat("a", 1, 0.2)


async def test_a_new_member_makes_the_others_join_again() -> None:
    """Nobody gets anything before all have joined."""
    group = new_group()
    group.join("a", 0.0)
    group.tick(0.1)
    late = group.join("b", 1.0)
    group.tick(1.1)
    assert not late.done()
    with pytest.raises(RebalanceInProgressError):
        group.heartbeat("a", 1, 1.2)
    again = group.join("a", 1.3)
    group.tick(1.4)
    assert (again.result().generation, late.result().generation) == (2, 2)
    with pytest.raises(RebalanceInProgressError):
        group.heartbeat("a", 1, 1.5)


async def test_a_silent_member_loses_its_partitions() -> None:
    """It is unknown when it comes back; the others share what it had."""
    group = new_group()
    group.join("a", 0.0)
    group.join("b", 0.0)
    group.tick(0.1)
    group.heartbeat("a", 1, 2.0)
    group.tick(2.5)
    again = group.join("a", 2.6)
    group.tick(2.7)
    assert shares(again) == [(2, [0, 1, 2, 3, 4])]
    with pytest.raises(UnknownMemberIdError):
        group.heartbeat("b", 1, 3.0)


async def test_who_does_not_join_in_time_is_given_up() -> None:
    """A member that only beats is no member after the rebalance."""
    group = new_group()
    group.join("a", 0.0)
    group.tick(0.1)
    joined = group.join("b", 1.0)
    for second in (2.0, 3.0, 4.0):
        with pytest.raises(RebalanceInProgressError):
            group.heartbeat("a", 1, second)
        group.tick(second)
    group.tick(4.1)
    assert shares(joined) == [(2, [0, 1, 2, 3, 4])]


async def test_who_leaves_is_not_waited_for() -> None:
    """The rest join again at once."""
    group = new_group()
    group.join("a", 0.0)
    group.join("b", 0.0)
    group.tick(0.1)
    group.leave("b", 0.2)
    again = group.join("a", 0.3)
    group.tick(0.4)
    assert shares(again) == [(2, [0, 1, 2, 3, 4])]


async def test_the_leader_gives_partitions_to_one_set_of_rules() -> None:
    """Whoever leads: the members' own assignor decides, and tells those it leaves out."""
    group = new_group()
    old, new = RulesAssignor("p@1", "d1"), RulesAssignor("p@2", "d2", changes=True)
    group.join("a", 0.0, old)
    group.tick(0.1)
    assert len(group.subscriptions()) == 1
    joins = [group.join("b", 1.0, new), group.join("a", 1.0, old)]
    assert group.subscriptions() == [b"", b""]
    group.tick(1.1)
    assert shares(*joins) == [(2, [0, 1, 2, 3, 4]), (2, [])]
    old.on_assignment(joins[1].result().assignment)
    assert old.overruled is not None
    assert old.overruled.policy == "p@2"
