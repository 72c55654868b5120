"""Each record shows whether its producer hashes keys as Kafka does."""

from __future__ import annotations

import logging
import sys
from itertools import islice
from types import FrameType
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.codec.decode import Decoder, Refused
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.outputs import RefusedValue
from streams.engine.records import Columns
from streams.runtime import placement
from streams.runtime.lean import NOT_COMPILED_WHY
from streams.runtime.placement import Placement, partition_of
from streams.telemetry import metrics
from tests.unit.samples import POLICY, exemption, paid, raw

PARTITIONS = 12
COUNTS = dict.fromkeys(INPUT_TOPICS, PARTITIONS)


@given(keys=st.lists(st.none() | st.binary(max_size=40)), partitions=st.integers(1, 64))
def test_compiled_hash_is_the_clients(keys: list[bytes | None], partitions: int) -> None:
    """For keys of all lengths; records without a key are refused for that."""
    for partition in {0, partitions - 1}:
        assert placement.misplaced(keys, partition, partitions) == [
            place
            for place, key in enumerate(keys)
            if key is not None and partition_of(key, partitions) != partition
        ]


def keys_of(partition: int, count: int) -> list[bytes | None]:
    """Return keys that belong in a partition."""
    found = (b"O%d" % number for number in range(10**6))
    return list(islice((key for key in found if partition_of(key, PARTITIONS) == partition), count))


def columns(keys: list[bytes | None]) -> Columns:
    """Make records of these keys."""
    count = len(keys)
    return Columns(list(range(count)), [1] * count, keys, [b"{}"] * count)


def counted(topic: str) -> float:
    """Return how many were counted so far."""
    return metrics.WRONG_PARTITION.labels(topic).value


@pytest.mark.parametrize("topic", [topic for topic in INPUT_TOPICS if topic != "exemption-granted"])
def test_record_elsewhere_is_reported_with_an_example(
    topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a minute and topic, with how many there were; it is judged all the same."""
    keys = [*keys_of(3, 2), *keys_of(4, 2)]
    made = Placement("orders", refuse=False)
    before = counted(topic)
    records = columns(keys)
    for _ in range(3):
        assert made.check(TopicPartition(topic, 3), records, COUNTS) is records
    assert counted(topic) == before + 6
    (told,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    key = (keys[2] or b"").decode()
    for part in (
        f"topic={topic} records=2 key={key} partition=3 expected=4", "partitioner=murmur2_random",
    ):  # fmt: skip
        assert part in told.getMessage()


def test_record_where_it_belongs_costs_no_word(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a topic that is not keyed by orders."""
    made = Placement("orders", refuse=True)
    records = columns([*keys_of(3, 50), None])
    assert made.check(TopicPartition("first-scan", 3), records, COUNTS) is records
    assert made.check(TopicPartition("shop-violations", 4), records, {}) is records
    assert not caplog.records


def test_exemption_belongs_with_its_orders() -> None:
    """With any of them; one for all orders goes everywhere, one that makes no sense is refused."""
    here, there = (next(iter(keys_of(number, 1))) or b"" for number in (3, 4))
    scopes: list[bytes | None] = [
        raw(exemption(scope={"order_ids": [order.decode() for order in orders]}))
        for orders in ((here,), (there,), (there, here), ())
    ]
    values = [*scopes, raw(exemption()), b"{", None]
    records = Columns(list(range(7)), [1] * 7, [b"X1"] * 7, values)
    checked = Placement("orders", refuse=True).check(
        TopicPartition("exemption-granted", 3), records, COUNTS
    )
    assert [type(value) is RefusedValue for value in checked.values] == [
        False, True, False, False, False, False, False,
    ]  # fmt: skip


def test_refused_record_is_no_event_and_keeps_its_bytes() -> None:
    """Whatever reads it."""
    (key,) = keys_of(4, 1)
    value = raw(paid((key or b"").decode()))
    records = Columns([7], [1], [key], [value])
    checked = Placement("orders", refuse=True).check(
        TopicPartition("order-paid", 3), records, COUNTS
    )
    (marked,) = checked.values
    assert type(marked) is RefusedValue
    assert marked.raw == value
    with pytest.raises(Refused) as refused:
        Decoder(POLICY).decode(0, key, marked, 10**13)
    assert refused.value.reason == "wrong-partition"
    assert f"the key {(key or b'').decode()} belongs in partition 4 of 12, not 3" in (
        refused.value.detail
    )
    assert not marked.startswith(b"{")


def test_without_compiled_code_one_record_of_a_fetch_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But where records are refused, all are: what is refused must not depend on the machine."""
    monkeypatch.setattr(placement, "NOT_COMPILED_WHY", "it is left out")
    monkeypatch.setattr(placement, "misplaced", placement._plain_misplaced)
    tp, records = TopicPartition("first-scan", 3), columns(keys_of(4, 100))
    before = counted(tp.topic)
    made = Placement("orders", refuse=False)
    assert made.check(tp, records, COUNTS) is records
    assert counted(tp.topic) == before + 1
    refusing = Placement("orders", refuse=True).check(tp, records, COUNTS)
    assert {type(value) for value in refusing.values} == {RefusedValue}


@pytest.mark.skipif(bool(NOT_COMPILED_WHY), reason="nothing is compiled here")
def test_compiled_hash_wants_a_partition_count() -> None:
    """None is no reason to divide by it."""
    assert placement.misplaced([b"k"], 0, 0) == []


@pytest.mark.skipif(bool(NOT_COMPILED_WHY), reason="nothing is compiled here")
def test_many_records_are_no_more_python_than_few() -> None:
    """A hash is some nanoseconds of compiled code: no instruction runs for each record."""

    def cost(count: int) -> int:
        made, records = Placement("orders", refuse=False), columns(keys_of(3, count))
        executed = 0

        def count_one(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal executed
            frame.f_trace_opcodes = True
            executed += event == "opcode"
            return count_one

        before = sys.gettrace()
        sys.settrace(count_one)
        try:
            made.check(TopicPartition("first-scan", 3), records, COUNTS)
        finally:
            sys.settrace(before)
        return executed

    assert 0 < cost(1_000) == cost(10) < 200
