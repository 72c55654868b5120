"""Which members of a group may work, by the rules that they say they judge by."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from streams.runtime.rules import RulesAssignor, described

CLUSTER: Any = SimpleNamespace(partitions_for_topic=lambda _: {0, 1, 2})


def assigned(leader: Any, **members: Any) -> dict[str, list[int]]:
    """Let one share the partitions out, tell the others, and return who got which."""
    subscriptions = {name: each.metadata(["t"]) for name, each in members.items()}
    found = leader.assign(CLUSTER, subscriptions)
    for name, each in members.items():
        each.on_assignment(found[name])
    return {name: [tp.partition for tp in found[name].partitions()] for name in members}


def test_equal_rules_share_the_partitions() -> None:
    """As `--workers N` does."""
    a, b = RulesAssignor("p@1", "d1"), RulesAssignor("p@1", "d1")
    assert assigned(a, a=a, b=b) == {"a": [0, 1], "b": [2]}
    assert a.overruled is b.overruled is None


@pytest.mark.parametrize("leads", [0, 1])
@pytest.mark.parametrize("digest", ["d0", "d2"])
def test_rules_at_work_prevail(leads: int, digest: str) -> None:
    """Whoever leads, and whatever the digests are."""
    a, b = RulesAssignor("p@1", "d1"), RulesAssignor("p@2", digest)
    assigned(a, a=a)
    assert assigned((a, b)[leads], a=a, b=b) == {"a": [0, 1, 2], "b": []}
    assert a.overruled is None
    assert b.overruled is not None
    assert str(b.overruled) == "p@1 (digest d1)"


@pytest.mark.parametrize("leads", [0, 1])
def test_a_change_prevails_once(leads: int) -> None:
    """Its flag may stay in a unit file, but while it works it changes nothing any more."""
    a, b = RulesAssignor("p@1", "d1"), RulesAssignor("p@0", "d0", changes=True)
    assigned(a, a=a)
    assert assigned((a, b)[leads], a=a, b=b) == {"a": [], "b": [0, 1, 2]}
    assert a.overruled is not None
    assert not b.claim.changes
    c = RulesAssignor("p@1", "d1", changes=True)
    assert assigned(b, b=b, c=c) == {"b": [], "c": [0, 1, 2]}


def test_of_two_that_start_at_once_one_works() -> None:
    """The same one in either stage, whoever leads there."""
    a, b = RulesAssignor("p@1", "d1"), RulesAssignor("p@2", "d2")
    for leader in (a, b):
        subscriptions = {"a": a.metadata(["t"]), "b": b.metadata(["t"])}
        found = leader.assign(CLUSTER, subscriptions)
        assert not found["a"].partitions()
        assert len(found["b"].partitions()) == 3


def test_an_older_program_works_beside_either() -> None:
    """It sends no digest, and may lead a group of those that do."""
    a, old = RulesAssignor("p@1", "d1"), RangePartitionAssignor
    assert assigned(a, a=a, old=old) == {"a": [0, 1], "old": [2]}
    assert assigned(old, a=a, old=old) == {"a": [0, 1], "old": [2]}
    assert a.overruled is None


def test_a_description_tells_members_without_a_digest() -> None:
    """During a rebalance it says nothing of anyone."""
    a = RulesAssignor("p@1", "d1")
    said = [a.metadata(["t"]).encode(), RangePartitionAssignor.metadata(["t"]).encode(), b""]
    assert described(said) == ([a.claim], 1)
