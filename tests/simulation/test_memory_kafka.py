"""The log in memory promises what Kafka does: it must be right before anything rests on it."""

from __future__ import annotations

from random import Random

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
)

from tests.simulation.memory_kafka import MemoryKafka, PartitionLog, Row

TP = TopicPartition("topic", 0)
OTHER = TopicPartition("topic", 1)
EVERYTHING = 1_000_000


def row(key: str, value: str | None = "v", timestamp: int = 0) -> Row:
    """Return a record; without a value it is a tombstone."""
    return Row(timestamp, key.encode(), None if value is None else value.encode())


def kafka_with(*names: str) -> tuple[MemoryKafka, list[int]]:
    """Return a broker with one topic of two partitions, and the epochs of started producers."""
    kafka = MemoryKafka()
    kafka.create_topic("topic", 2)
    return kafka, [kafka.init_producer(name) for name in names]


def write(
    kafka: MemoryKafka, epoch: int, tp: TopicPartition, sequence: int, rows: list[Row],
    now_s: float = 0,
) -> None:  # fmt: skip
    """Send a batch of the producer `t` as its client does: the partition is added first."""
    kafka.add_partition("t", epoch, tp, now_s)
    kafka.produce("t", epoch, tp, sequence, rows)


def seen(log: PartitionLog, committed: bool = True) -> list[str]:
    """Return the keys that a consumer gets."""
    rows, _ = log.read(0, committed, EVERYTHING)
    return [(found.key or b"").decode() for _, found in rows]


def test_a_transaction_is_seen_only_once_it_is_committed() -> None:
    """Nobody who reads committed sees it before, everybody else does."""
    kafka, (epoch,) = kafka_with("t")
    write(kafka, epoch, TP, 0, [row("a")])
    log = kafka.logs[TP]
    assert (seen(log), seen(log, committed=False)) == ([], ["a"])
    assert (log.stable_end, log.end) == (0, 1)
    kafka.end("t", epoch, commit=True)
    assert seen(log) == ["a"]
    assert log.stable_end == log.end == 2


def test_an_aborted_transaction_is_never_seen() -> None:
    """Its records stay in the log; readers step over them."""
    kafka, (epoch,) = kafka_with("t")
    write(kafka, epoch, TP, 0, [row("a"), row("b")])
    kafka.end("t", epoch, commit=False)
    assert seen(kafka.logs[TP]) == []
    assert kafka.logs[TP].read(0, True, EVERYTHING) == ([], 3)
    write(kafka, epoch, TP, 1, [row("c")])
    kafka.end("t", epoch, commit=True)
    assert seen(kafka.logs[TP]) == ["c"]


def test_an_open_transaction_holds_back_all_that_follows() -> None:
    """Plain records behind it wait for it, those before it do not."""
    kafka, (epoch,) = kafka_with("t")
    log = kafka.logs[TP]
    log.append([row("before")])
    write(kafka, epoch, TP, 0, [row("a")])
    log.append([row("behind")])
    assert seen(log) == ["before"]
    assert log.read(0, True, EVERYTHING)[1] == log.stable_end == 1
    kafka.end("t", epoch, commit=False)
    assert seen(log) == ["before", "behind"]


def test_markers_are_written_one_after_the_other() -> None:
    """Decided is not yet visible, and the id is busy until all partitions and offsets are done."""
    kafka, (epoch,) = kafka_with("t")
    kafka.on_decided = lambda _: None
    write(kafka, epoch, TP, 0, [row("a")])
    write(kafka, epoch, OTHER, 0, [row("b")])
    kafka.add_offsets("t", epoch, "group", {TP: 7}, now_s=0)
    kafka.end("t", epoch, commit=True)
    assert (seen(kafka.logs[TP]), kafka.undecided) == ([], 1)
    assert not kafka.write_marker("t")
    assert (seen(kafka.logs[TP]), seen(kafka.logs[OTHER])) == (["a"], [])
    with pytest.raises(ConcurrentTransactions):
        write(kafka, epoch, TP, 1, [row("c")])
    with pytest.raises(ConcurrentTransactions):
        kafka.init_producer("t")
    assert not kafka.write_marker("t")
    assert kafka.committed == {}
    assert kafka.write_marker("t")
    assert (kafka.committed, kafka.undecided) == ({("group", TP): 7}, 0)
    assert kafka.init_producer("t") == epoch + 1


def test_offsets_of_an_aborted_transaction_are_not_committed() -> None:
    """They share its fate."""
    kafka, (epoch,) = kafka_with("t")
    kafka.add_offsets("t", epoch, "group", {TP: 7}, now_s=0)
    kafka.end("t", epoch, commit=False)
    assert kafka.committed == {}


def test_a_new_owner_fences_the_old_one_and_aborts_what_it_left() -> None:
    """Whatever the old one tries, it is refused; what it had begun is gone."""
    kafka, (old,) = kafka_with("t")
    write(kafka, old, TP, 0, [row("old")])
    kafka.on_decided = lambda _: None
    with pytest.raises(ConcurrentTransactions):
        kafka.init_producer("t")
    kafka.write_markers("t")
    new = kafka.init_producer("t")
    with pytest.raises(InvalidProducerEpoch):
        write(kafka, old, TP, 1, [row("zombie")])
    with pytest.raises(InvalidProducerEpoch):
        kafka.add_offsets("t", old, "group", {TP: 1}, now_s=0)
    with pytest.raises(InvalidProducerEpoch):
        kafka.end("t", old, commit=True)
    write(kafka, new, TP, 0, [row("new")])
    kafka.on_decided = kafka.write_markers
    kafka.end("t", new, commit=True)
    assert seen(kafka.logs[TP]) == ["new"]
    assert kafka.commits == [("t", new)]


def test_a_transaction_left_open_is_aborted_after_its_time() -> None:
    """Its producer is fenced, since it may still think that it goes on."""
    kafka, (epoch,) = kafka_with("t")
    write(kafka, epoch, TP, 0, [row("a")], now_s=1.0)
    kafka.expire(now_s=10.0, timeout_s=9.5)
    assert kafka.undecided == 1
    kafka.expire(now_s=11.0, timeout_s=9.5)
    assert (kafka.undecided, seen(kafka.logs[TP])) == (0, [])
    with pytest.raises(InvalidProducerEpoch):
        kafka.end("t", epoch, commit=True)


def test_a_decision_asked_again_is_confirmed_and_not_changed() -> None:
    """A commit whose answer was lost may be sent again; it cannot become an abort."""
    kafka, (epoch,) = kafka_with("t")
    write(kafka, epoch, TP, 0, [row("a")])
    kafka.end("t", epoch, commit=True)
    kafka.end("t", epoch, commit=True)
    with pytest.raises(InvalidTxnState):
        kafka.end("t", epoch, commit=False)
    assert seen(kafka.logs[TP]) == ["a"]
    assert kafka.commits == [("t", epoch)]


def test_a_batch_sent_again_is_written_once() -> None:
    """A batch that follows a lost one is refused."""
    kafka, (epoch,) = kafka_with("t")
    for _ in range(2):
        write(kafka, epoch, TP, 0, [row("a")])
    with pytest.raises(OutOfOrderSequenceNumber):
        write(kafka, epoch, TP, 2, [row("c")])
    kafka.end("t", epoch, commit=True)
    assert seen(kafka.logs[TP]) == ["a"]


def test_reading_in_small_pieces_gives_everything_once() -> None:
    """However little is fetched at a time, over markers and aborted records."""
    kafka, (epoch,) = kafka_with("t")
    wanted = []
    for number in range(12):
        write(kafka, epoch, TP, number, [row(f"{number}a"), row(f"{number}b")])
        kafka.end("t", epoch, commit=number % 3 != 0)
        wanted += [f"{number}a", f"{number}b"] * (number % 3 != 0)
    position, found = 0, []
    while position < kafka.logs[TP].end:
        rows, after = kafka.logs[TP].read(position, True, 1)
        assert after > position
        assert len(rows) <= 1
        found += [(each.key or b"").decode() for _, each in rows]
        position = after
    assert found == wanted


def test_a_batch_for_a_transaction_that_was_ended_is_refused() -> None:
    """A commit carried out late ends the next transaction, and what follows has none."""
    kafka, (epoch,) = kafka_with("t")
    write(kafka, epoch, TP, 0, [row("a")])
    kafka.add_partition("t", epoch, OTHER, now_s=0)
    kafka.end("t", epoch, commit=True)
    with pytest.raises(InvalidTxnState):
        kafka.produce("t", epoch, OTHER, 0, [row("b")])
    assert seen(kafka.logs[TP]) == ["a"]
    assert seen(kafka.logs[OTHER], committed=False) == []


@pytest.mark.parametrize("seed", range(20))
def test_compaction_keeps_the_last_record_of_every_key(seed: int) -> None:
    """Who reads from the beginning ends with the same table, and nothing undecided is touched."""
    kafka, (epoch,) = kafka_with("t")
    rng, log = Random(seed), kafka.logs[TP]
    for number in range(20):
        some = [
            row(f"k{rng.randrange(5)}", rng.choice(("x", "y", None)), timestamp=number)
            for _ in range(rng.randrange(1, 4))
        ]
        write(kafka, epoch, TP, number, some)
        kafka.end("t", epoch, commit=rng.random() < 0.7)
    write(kafka, epoch, TP, 20, [row("k0", "undecided")])
    before, end = table(log), log.end
    for _ in range(4):
        log.compact(rng, tombstones_before_ms=rng.randrange(20))
        assert table(log) == before
    assert (log.end, seen(log, committed=False)[-1]) == (end, "k0")
    kafka.end("t", epoch, commit=True)
    assert table(log) == before | {"k0": "undecided"}


def table(log: PartitionLog) -> dict[str, str]:
    """Return the last value of each key."""
    found: dict[str, str] = {}
    for _, each in log.read(0, True, EVERYTHING)[0]:
        key = (each.key or b"").decode()
        if each.value is None:
            found.pop(key, None)
        else:
            found[key] = each.value.decode()
    return found
