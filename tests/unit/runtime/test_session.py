"""The source without a broker: rebalances at the wrong moment, faults, and what it counts."""

import asyncio
import logging
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
)

from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.outputs import RefusedValue
from streams.engine.marks import mark_record
from streams.engine.orders_task import OrdersTask
from streams.engine.records import Checkpoint, InRecord, columns
from streams.kafka.connection import ConnectionSettingError
from streams.rulebook import load_rulebook
from streams.runtime import inputs, session, source, watch
from streams.runtime.counters import Counters
from streams.runtime.errors import PartitionRefused, PositionLost, WorkerError
from streams.runtime.flow import Flow
from streams.runtime.inputs import Fetched
from streams.runtime.lean import Unread
from streams.runtime.marks import MarksReader
from streams.runtime.progress import Progress
from streams.runtime.reach import Reach
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.telemetry import metrics

TOPIC, OTHER = "in-0", "in-1"


def unused(partition: int, counts: Mapping[str, int]) -> Any:
    """No task is made in these tests."""
    raise AssertionError


SKIPPED = 7
STAGE = Stage("bench", (TOPIC, OTHER), (), "changelog", None, unused)


class Inputs:
    """A group membership in which everything asked for is answered from a dictionary."""

    overruled: WorkerError | None = None

    def __init__(self, settings: Settings, stage: Stage) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self.sought: list[int] = []

    def owned(self, partition: int) -> list[TopicPartition]:
        return [tp for tp in self.positions if tp.partition == partition]

    def missing(self, partition: int) -> list[str]:
        owned = {tp.topic for tp in self.owned(partition)}
        return [topic for topic in STAGE.inputs if topic not in owned]

    async def position(self, tp: TopicPartition) -> int:
        if tp not in self.positions:
            raise IllegalStateError(tp)
        return self.positions[tp]

    def seek(self, partition: int, offsets: Mapping[str, int]) -> None:
        self.sought.append(partition)

    def rest(self, partition: int, resting: Iterable[str]) -> None: ...

    async def skips(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, SKIPPED)

    def pass_over(self, tp: TopicPartition, batch: Unread) -> None:
        self.positions[tp] = batch.last + 1

    def check_fetching(self, now_s: float, answered: bool) -> None: ...


class Owner:
    """A partition that notes what it is told."""

    frontier_ms = judged_to_ms = waits_for_ms = 0

    def __init__(self, number: int, *_: object) -> None:
        self.number, self.ready, self.incarnation = number, True, 0
        self.lag, self.processed = 0, dict[str, int]()
        self.progress = Progress(STAGE.name, number)
        self.progress.ready()
        self.flow = Flow(STAGE.inputs)
        self.failures: list[Exception] = []
        self.shrunken: list[tuple[str, int, int]] = []
        self.batches: list[Any] = []
        self.held_bytes_max = self.instant_bytes_max = 0

    def shrunk(self, topic: str, read_to: int, end: int) -> None:
        self.shrunken.append((topic, read_to, end))

    def fail(self, exc: Exception) -> None:
        self.failures.append(exc)

    def batch(self, *news: object) -> Any:
        self.batches.append(news)
        return news

    async def hold(self) -> None: ...
    def mark_if_due(self) -> None: ...
    def regulate(self) -> None: ...
    def release(self) -> None: ...


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> session.Session:
    """Give a session that has joined its group, with partitions 0 and 1 assigned."""
    monkeypatch.setattr(session, "Inputs", Inputs)
    monkeypatch.setattr(session, "Partition", Owner)
    made = session.Session(
        Settings(),
        STAGE,
        asyncio.Queue(),
        MarksReader(Settings(), pytest.fail),
        Reach("broker:9092"),
    )
    made._counts = dict.fromkeys(STAGE.inputs, 2)
    inputs_of(made).positions = {
        TopicPartition(topic, number): 0 for topic in STAGE.inputs for number in range(2)
    }
    return made


def inputs_of(joined: session.Session) -> Inputs:
    """Return the fake."""
    return joined._inputs  # type: ignore[return-value]


def owners(joined: session.Session) -> dict[int, Owner]:
    """Return the fakes."""
    return joined._partitions  # type: ignore[return-value]


async def assign(joined: session.Session) -> None:
    """Assign all there is."""
    await joined.on_partitions_assigned(set(inputs_of(joined).positions))


async def test_an_assignment_amid_the_end_makes_no_partition(joined: session.Session) -> None:
    """Nobody would ever close it: it would write on beside its successor."""
    await assign(joined)
    assert owners(joined).keys() == {0, 1}
    joined._ending = True
    joined._partitions.clear()
    await assign(joined)
    assert owners(joined) == {}


async def test_a_deleted_input_ends_what_needs_it(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it an order would be judged without its scans: an error, and no judgement."""
    await assign(joined)
    del inputs_of(joined).positions[TopicPartition(OTHER, 1)]
    await assign(joined)
    assert [type(exc) for exc in owners(joined)[1].failures] == [PartitionRefused]
    assert owners(joined)[0].failures == []
    assert f"input-missing stage=bench topic={OTHER} partitions=1" in caplog.text


async def test_a_fault_in_a_rebalance_is_not_swallowed(
    joined: session.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client logs what a listener raises and goes on as if nothing had happened."""
    monkeypatch.setattr(Inputs, "seek", lambda *_: 1 / 0)
    await assign(joined)
    assert isinstance(joined._fault, ZeroDivisionError)


async def test_a_partition_that_was_added_ends_the_worker(joined: session.Session) -> None:
    """Keys have moved there from partitions that hold what is known of them."""
    inputs_of(joined).positions |= {TopicPartition(topic, 2): 0 for topic in STAGE.inputs}
    await assign(joined)
    assert isinstance(joined._fault, WorkerError)
    assert "partition 2 is new" in joined._fault.message
    assert owners(joined) == {}


async def test_a_changed_partition_count_ends_the_worker(
    joined: session.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is asked again and again, and a question that fails is no answer."""
    answers: list[Exception | None] = [None, KafkaError("away"), WorkerError("changed")]

    async def check_counts(before: Mapping[str, int]) -> None:
        assert before == {TOPIC: 2, OTHER: 2}
        if answer := answers.pop(0):
            raise answer

    joined._settings = Settings(metadata_max_age_ms=1)

    async def topic_ids() -> dict[str, str]:
        return {}

    monkeypatch.setattr(joined._inputs, "check_counts", check_counts, raising=False)
    monkeypatch.setattr(joined._inputs, "topic_ids", topic_ids, raising=False)
    watching = asyncio.create_task(joined._watch_topics())
    watching.add_done_callback(joined._ended)
    await asyncio.wait([watching], timeout=10)
    assert isinstance(joined._fault, WorkerError)
    assert answers == []


async def test_records_behind_what_was_judged_are_told(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """A load of the past is noticed where records are read, each partition by its own frontier."""
    await assign(joined)
    owners(joined)[0].judged_to_ms = 1_700_000_000_000
    rows = columns([InRecord(offset, 1_690_000_000_000, b"k", b"v") for offset in range(5)])
    await joined._pump(Fetched({TopicPartition(TOPIC, number): rows for number in range(2)}, {}))
    assert f"behind-frontier stage=bench topic={TOPIC} partitions=0 records=5 " in caplog.text


async def test_records_that_come_again_are_not_processed_twice(joined: session.Session) -> None:
    """Whatever made the client go back, the partition starts again from its last commit."""
    await assign(joined)
    tp = TopicPartition(TOPIC, 0)
    rows = [InRecord(offset, 1, b"k", b"v") for offset in range(5)]
    await joined._pump(Fetched({tp: columns(rows)}, {}))
    await joined._pump(Fetched({tp: columns(rows[3:])}, {}))
    part = owners(joined)[0]
    assert [type(exc) for exc in part.failures] == [PositionLost]
    assert len(part.batches) == 1


async def test_a_position_out_of_range_restarts_its_partition_alone(
    joined: session.Session,
) -> None:
    """It finds out what was lost; the others go on."""
    await assign(joined)

    async def fetch() -> None:
        raise OffsetOutOfRangeError({TopicPartition(TOPIC, 1): 7})

    inputs_of(joined).fetch = fetch  # type: ignore[attr-defined]
    await joined._read()
    assert len(owners(joined)[1].failures) == 1
    assert owners(joined)[0].failures == []


async def test_a_partition_taken_away_does_not_hide_the_ends_of_others(
    joined: session.Session,
) -> None:
    """Time goes on where it can."""
    await assign(joined)
    tps = list(inputs_of(joined).positions)
    del inputs_of(joined).positions[tps[0]]
    answer = session.Ends(as_of_ms=1_000, read_to=dict.fromkeys(tps, 0))
    answer.offsets = dict.fromkeys(tps, 0)
    joined._ends = answer
    completed, as_of_ms = await joined._completed()
    found = {(part.number, topic) for part, topics in completed.items() for topic in topics}
    assert found == {(tp.partition, tp.topic) for tp in tps[1:]}
    assert as_of_ms == 1_000


async def test_a_topic_that_ends_before_what_was_read_is_another_one(
    joined: session.Session,
) -> None:
    """It is not "read to its end": its records have not been seen at all."""
    await assign(joined)
    tp = TopicPartition(TOPIC, 0)
    answer = session.Ends(as_of_ms=1_000, read_to={tp: 10})
    answer.offsets = {tp: 3}
    joined._ends = answer
    assert await joined._completed() == ({}, 1_000)
    assert owners(joined)[0].shrunken == [(TOPIC, 10, 3)]


BATCH = Unread(SKIPPED, SKIPPED + 2, 1_000, b"raw", "why")


async def test_unreadable_batch_holds_up_its_topic_in_its_partition_alone(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """What was read before it is handed over; it is counted each time, and logged once."""
    await assign(joined)
    tp = TopicPartition(TOPIC, 0)
    count = metrics.FAILURES.labels("bench", "unreadable").value
    rows = columns([InRecord(SKIPPED - 1, 1_000, b"k", b"v")])
    await joined._pump(Fetched({tp: rows}, {tp: BATCH}))
    await joined._pump(Fetched({}, {tp: BATCH}))
    stuck, other = owners(joined)[0], owners(joined)[1]
    assert [news for news, *_ in stuck.batches] == [[(TOPIC, rows)]]
    assert stuck.flow.resting(10**9) == {TOPIC}
    assert other.flow.resting(10**9) == set()
    assert metrics.FAILURES.labels("bench", "unreadable").value == count + 2
    joined._watch.measure()
    assert metrics.UNREADABLE.labels("bench").value == 1
    (told,) = [one for one in caplog.records if one.getMessage().startswith("unreadable")]
    assert told.levelno == logging.ERROR
    for part in (f"topic={TOPIC} partition=0", f"offset={SKIPPED}", "why", "dead-letters skip"):
        assert part in told.getMessage()


async def test_batch_that_may_be_skipped_is_one_refused_record(
    joined: session.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the last offset, so that the next owner begins behind it, and the batch's bytes."""
    await assign(joined)
    monkeypatch.setattr(session, "RETRY_S", 0.01)
    tp = TopicPartition(TOPIC, 0)
    await joined._pump(Fetched({}, {tp: BATCH}))
    again = asyncio.create_task(joined._read_again())
    await asyncio.sleep(0.1)
    again.cancel()
    part = owners(joined)[0]
    assert part.flow.stuck == set()
    other = Unread(SKIPPED - 1, SKIPPED, 1_000, b"raw", "why")
    await joined._pump(Fetched({}, {tp: other}))
    assert part.flow.stuck == {TOPIC}
    await joined._pump(Fetched({}, {tp: BATCH}))
    ((((topic, records),), *_),) = part.batches
    assert (topic, records.offsets, records.timestamps) == (TOPIC, [SKIPPED + 2], [1_000])
    (value,) = records.values
    assert type(value) is RefusedValue
    assert (value.raw, value.reason) == (b"raw", "unreadable")
    assert inputs_of(joined).positions[tp] == part.flow.read_to[TOPIC] == SKIPPED + 3


async def test_an_unexpected_exception_restarts_the_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug costs a restart with a traceback in the log, not the worker."""
    begun = asyncio.Semaphore(0)

    async def run(self: object) -> None:
        begun.release()
        if begun._value < 3:
            raise ValueError("a bug")
        await asyncio.Event().wait()

    monkeypatch.setattr(source, "Session", lambda *_: SimpleNamespace(run=lambda: run(None)))
    monkeypatch.setattr(source, "_BROKEN_S_MIN", 0.01)
    reader = MarksReader(Settings(), pytest.fail)
    made = source.Source(Settings(), STAGE, None, reader, pytest.fail, Reach("broker:9092"))
    await made.on_started()
    async with asyncio.timeout(10):
        while begun._value < 3:
            await asyncio.sleep(0.01)
    await made.on_stop()
    broken = [r for r in caplog.records if r.getMessage().startswith("broken stage=bench")]
    assert [(r.levelno, r.exc_info is not None) for r in broken] == [(logging.ERROR, True)] * 2


def test_marks_alone_are_no_traffic() -> None:
    """They come all the time; a summary must not look like work."""
    orders = OrdersTask(0, load_rulebook(["douyin-first-scan"]), live=True)
    orders.restored()
    for topic in orders.next_offsets:
        orders.complete(topic, 1_700_000_000_000)
    checkpoint = orders.step(100, mark=True)
    assert checkpoint is not None
    counters = Counters("bench")
    counters.wrote(checkpoint)
    assert (counters.idle, counters.marks, counters.transactions) == (True, 1, 1)
    counters.took(columns([InRecord(1, 0, b"S1", b"{}")]))
    assert not counters.idle


def test_a_changed_state_is_traffic() -> None:
    """Only the checkpoint's own record does not count."""
    counters = Counters("bench")
    counters.wrote(Checkpoint([], {b"O1": b"state", b"\x00meta": b""}, [], False))
    assert (counters.idle, counters.states) == (False, 1)


async def test_metrics_say_when_nothing_is_left(
    joined: session.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a partition nobody asks for ends, and the last answer must not stand for ever."""
    await assign(joined)
    tps = list(inputs_of(joined).positions)
    joined._ends = session.Ends(as_of_ms=1_000, read_to=dict.fromkeys(tps, 0))
    joined._ends.offsets = dict.fromkeys(tps, 7)
    await joined._completed()
    assert measured() == (2, 28)
    joined._partitions.clear()
    monkeypatch.setattr(session, "_LOOK_S", 0.001)
    looking = asyncio.create_task(joined._look())
    await asyncio.sleep(0.05)
    looking.cancel()
    assert measured() == (0, 0)


async def test_a_broker_that_gives_no_answer_is_told(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """An idle worker whose broker is gone must not look healthy; it is said once, then minutely."""
    await assign(joined)
    answers: list[int | None] = [None, None, 7, None]

    async def end_offsets(read_to: Any) -> dict[TopicPartition, int]:
        answer = answers.pop(0) if answers else 7
        if answer is None:
            raise KafkaTimeoutError("no answer")
        return dict.fromkeys(read_to, answer)

    inputs_of(joined).end_offsets = end_offsets  # type: ignore[attr-defined]
    joined._settings = Settings(probe_interval_ms=1)
    asking = asyncio.create_task(joined._ask_for_ends())
    await asyncio.sleep(0.1)
    asking.cancel()
    told = [record for record in caplog.records if "broker-unreachable" in record.getMessage()]
    assert len(told) == 2
    assert "no answer" in told[0].getMessage()
    assert joined._ends is not None


async def asked_within(joined: session.Session, seconds: float) -> int:
    """Count how often the ends are asked for."""
    asked = 0

    async def end_offsets(read_to: Any) -> dict[TopicPartition, int]:
        nonlocal asked
        asked += 1
        return dict.fromkeys(read_to, 0)

    inputs_of(joined).end_offsets = end_offsets  # type: ignore[attr-defined]
    asking = asyncio.create_task(joined._ask_for_ends())
    await asyncio.sleep(seconds)
    asking.cancel()
    return asked


async def test_the_ends_are_asked_for_often_only_while_something_waits(
    joined: session.Session,
) -> None:
    """An idle worker asks now and then, so that what is gone is noticed."""
    await assign(joined)
    joined._settings = Settings(probe_interval_ms=1, idle_probe_interval_ms=60_000)
    assert await asked_within(joined, 0.1) > 5
    for owner in owners(joined).values():
        owner.waits_for_ms = END_OF_TIME_MS
    assert await asked_within(joined, 0.1) == 1
    joined._settings = Settings(probe_interval_ms=1, idle_probe_interval_ms=20)
    assert 2 <= await asked_within(joined, 0.1) <= 5


async def test_shops_ask_once_the_marks_have_passed_what_waits(joined: session.Session) -> None:
    """Their time is the least mark, as it was when the question was sent."""
    joined._stage = replace(STAGE, marked_by=TOPIC)
    await assign(joined)
    joined._settings = Settings(probe_interval_ms=1, idle_probe_interval_ms=60_000)
    for owner in owners(joined).values():
        owner.waits_for_ms = 70
    marks = joined._marks.marks
    for number, frontier_ms in enumerate((100, 70)):
        record = mark_record("shipclock", number, frontier_ms)
        marks.take(record.key, record.value)
    assert await asked_within(joined, 0.1) == 1
    record = mark_record("shipclock", 1, 71)
    marks.take(record.key, record.value)
    assert await asked_within(joined, 0.1) > 5
    assert joined._ends is not None
    assert joined._ends.as_of_ms == 71


def measured() -> tuple[float, float]:
    """Return the metrics of partitions and lag."""
    gauges = metrics.READY, metrics.LAG
    found = [gauge.labels("bench").value for gauge in gauges]
    return found[0], found[1]


async def test_without_partitions_there_is_no_lag_to_tell(joined: session.Session) -> None:
    """Nothing is known of it then: 0 would look like a worker that has read all."""
    await assign(joined)
    joined._watch.measure()
    assert ("bench",) in dict(metrics.LAG.read())
    joined._partitions.clear()
    joined._watch.measure()
    assert ("bench",) not in dict(metrics.LAG.read())


async def no_answer(*_: object) -> dict[TopicPartition, int]:
    """Fail as a question to a broker that does not answer."""
    raise KafkaTimeoutError("no answer")


async def test_ends_that_nobody_tells_for_long_end_the_session(joined: session.Session) -> None:
    """Its clients may be beyond help: time stands still until there are others."""
    await assign(joined)
    inputs_of(joined).end_offsets = no_answer  # type: ignore[attr-defined]
    joined._settings = Settings(probe_interval_ms=1, silence_limit_ms=20)
    joined._answered_s = time.monotonic()
    asking = asyncio.create_task(joined._ask_for_ends())
    asking.add_done_callback(joined._ended)
    await asyncio.wait_for(joined._faulty.wait(), 10)
    assert isinstance(joined._fault, KafkaTimeoutError)


async def test_a_helper_that_the_client_cancels_ends_the_session(joined: session.Session) -> None:
    """Without it nobody would ask for the ends, and time would stand still for ever."""
    helper = asyncio.create_task(asyncio.sleep(60))
    helper.add_done_callback(joined._ended)
    await asyncio.sleep(0)
    helper.cancel()
    await asyncio.wait_for(joined._faulty.wait(), 10)
    assert isinstance(joined._fault, KafkaError)


async def test_lag_counts_partitions_that_are_not_ready(joined: session.Session) -> None:
    """What nobody processes yet is behind most of all."""
    await assign(joined)
    waiting, restarted = owners(joined)[0], owners(joined)[1]
    waiting.ready = restarted.ready = False
    restarted.processed = dict.fromkeys(STAGE.inputs, 90)
    tps = list(inputs_of(joined).positions)

    async def at(asked: Iterable[TopicPartition], offset: int) -> dict[TopicPartition, int]:
        return dict.fromkeys(asked, offset)

    fake: Any = inputs_of(joined)
    fake.end_offsets = lambda asked: at(asked, 100)
    fake.committed = lambda asked: at([tp for tp in asked if tp.topic == TOPIC], 30)
    fake.beginning_offsets = lambda asked: at(asked, 10)
    joined._settings = Settings(probe_interval_ms=1)
    asking = asyncio.create_task(joined._ask_for_ends())
    while joined._ends is None:
        await asyncio.sleep(0.001)
    asking.cancel()
    assert joined._ends.offsets.keys() == set(tps)
    assert (await joined._completed())[0] == {}
    assert (waiting.lag, restarted.lag) == (70 + 90, 10 + 10)
    assert measured() == (0, 180)
    assert metrics.ASSIGNED.labels("bench").value == 2


async def test_what_is_not_ready_is_told_and_not_idle(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """With what it waits for, in one line for all that wait for the same, once a minute."""
    caplog.set_level("INFO")
    inputs_of(joined).positions |= {TopicPartition(topic, 2): 0 for topic in STAGE.inputs}
    joined._counts = dict.fromkeys(STAGE.inputs, 3)
    await assign(joined)
    for number in (0, 1):
        owners(joined)[number].ready = False
        owners(joined)[number].progress.begin("restoring")
        owners(joined)[number].progress.restoring(40, 100)
    joined._watch._summed_s -= 100
    for since_s in (1, 31, 31):
        for number in (0, 1):
            owners(joined)[number].progress.since_s = time.monotonic() - since_s
        joined._watch.look()
    joined._watch.summarise(waits=False)
    told = [record.getMessage() for record in caplog.records]
    # What restores between two looks says how far it is, also in one line.
    restoring_of = "stage=bench partitions=0-1"
    restoring = f"restoring {restoring_of} remaining=80 total=200 percent=60"
    assert [line for line in told if not line.startswith("assigned")] == [
        f"not-ready {restoring_of} waits_for=restoring for_s=31.0 remaining=80 total=200",
        restoring,
        restoring,
    ]
    for number in (0, 1):
        owners(joined)[number].ready = True
        owners(joined)[number].progress.ready()
    joined._watch._summed_s -= 100
    joined._watch.summarise(waits=True)
    assert "idle" not in caplog.text
    joined._watch._summed_s -= 100
    joined._watch.summarise(waits=False)
    assert "idle stage=bench partitions=3 ready=3 marks=0 lag=0" in caplog.text


async def test_what_waits_for_the_same_is_one_line_whatever_it_calls_itself(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """The text may name the partition, as that of a client's answer that does not come."""
    await assign(joined)
    for number in (0, 1):
        part = owners(joined)[number]
        part.ready = False
        part.progress.begin(f"another try after no answer: the end of changelog[{number}]")
        part.progress.since_s = time.monotonic() - 31
    joined._watch.look()
    (told,) = [one for one in caplog.messages if one.startswith("not-ready ")]
    assert told.startswith("not-ready stage=bench partitions=0-1 waits_for=")
    assert "the end of changelog" in told


async def test_a_lag_that_is_not_known_is_not_zero(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log as in the metrics: without partitions, and before their ends were told."""
    caplog.set_level("INFO")

    def summary() -> str:
        joined._counters.records = 5_000
        joined._watch._summed_s -= 100
        joined._watch.measure()
        joined._watch.summarise(waits=False)
        return caplog.messages[-1]

    assert "committed stage=bench partitions=0 ready=0 records=5000 " in summary()
    assert " lag=? " in caplog.messages[-1]
    await assign(joined)
    assert " lag=0 " in summary()
    owners(joined)[1].lag = None  # type: ignore[assignment]
    assert " lag=? " in summary()
    assert ("bench",) not in dict(metrics.LAG.read())


async def test_what_is_ready_and_does_not_advance_is_told(
    joined: session.Session, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a transaction that nobody ends, say: lag stands, and no record comes."""
    now_s = [1_000.0]
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    await assign(joined)
    standing, moving = owners(joined)[0], owners(joined)[1]
    standing.lag = moving.lag = 5
    for _ in range(35):
        now_s[0] += 1
        moving.flow.read_to[TOPIC] += 1
        joined._watch.look()
    told = [r.getMessage() for r in caplog.records if "standing-still" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("standing-still stage=bench partitions=0 lag=5 for_s=31.0 ")
    joined._watch._summed_s -= 100
    joined._watch.summarise(waits=False)
    assert "idle" not in caplog.text


async def test_an_assignment_that_never_comes_is_told(
    joined: session.Session, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance that does not end looks like an idle worker otherwise."""
    monkeypatch.setattr(session, "_LOOK_S", 0.001)
    await assign(joined)
    await joined.on_partitions_revoked(set())
    joined._unassigned_s = time.monotonic() - 31
    looking = asyncio.create_task(joined._look())
    await asyncio.sleep(0.05)
    assert caplog.text.count("not-ready stage=bench for_s=31.") == 1
    assert 'waits_for="an assignment by the group"' in caplog.text
    looking.cancel()


async def test_a_session_names_the_order_partitions_that_hold_its_shops(
    joined: session.Session, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at the marks as at its own partitions; here one of two has marked."""
    monkeypatch.setattr(session, "_LOOK_S", 0.001)
    joined._stage = replace(STAGE, marked_by=TOPIC)
    joined._awaited._limit_s = 0
    joined._marks.marks.take(*mark_record(Settings().app_id, 0, 1)[1:3])
    await assign(joined)
    looking = asyncio.create_task(joined._look())
    await asyncio.sleep(0.05)
    assert caplog.text.count("shops-held stage=bench order_partitions=1 ") == 1
    looking.cancel()


async def test_a_commit_that_does_not_end_does_not_hold_up_a_rebalance(
    joined: session.Session,
) -> None:
    """The others of the group wait for it: that life is given up, its next owner fences it."""
    await assign(joined)
    stuck, other = owners(joined)[0], owners(joined)[1]
    stuck.hold = asyncio.Event().wait  # type: ignore[method-assign]
    joined._settings = Settings(rebalance_timeout_ms=10)
    async with asyncio.timeout(5):
        await joined.on_partitions_revoked(set())
    assert [type(exc) for exc in stuck.failures] == [KafkaTimeoutError]
    assert other.failures == []


class Fetching:
    """A consumer that is fetched or not; times are seconds."""

    def __init__(self) -> None:
        self.tp = TopicPartition(TOPIC, 0)
        self.stamp = 1
        self.resting = set[TopicPartition]()

    def assignment(self) -> set[TopicPartition]:
        return {self.tp}

    def paused(self) -> set[TopicPartition]:
        return self.resting

    def last_poll_timestamp(self, tp: TopicPartition) -> int:
        return self.stamp


async def test_a_consumer_that_fetches_no_more_ends_the_session() -> None:
    """Its fetching dies without a word; what rests, or has no broker, is not fetched either."""
    consumer = Fetching()
    connection: Any = SimpleNamespace(
        consumer=lambda **_: consumer, admin=lambda **_: None, inflated_bytes_max=1
    )
    asked = inputs.Inputs(Settings(connection=connection, fetch_limit_ms=30_000), STAGE)
    asked.check_fetching(0, answered=True)
    asked.check_fetching(30, answered=True)
    consumer.stamp = 2
    asked.check_fetching(31, answered=True)
    asked.check_fetching(61, answered=True)
    asked.check_fetching(62, answered=False)
    consumer.resting = {consumer.tp}
    asked.check_fetching(100, answered=True)
    consumer.resting = set()
    asked.check_fetching(101, answered=True)
    with pytest.raises(KafkaError, match=r"in-0\[0\] was not fetched for 30 s"):
        asked.check_fetching(132, answered=True)


async def test_a_broker_that_is_back_is_told(
    joined: session.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Once all stages have their answers again."""
    caplog.set_level("INFO")
    reach = Reach("broker:9092")
    reach.found("orders")
    reach.lost("orders", "away")
    reach.lost("shops", "away")
    reach.found("orders")
    assert caplog.text.count("broker-unreachable bootstrap=broker:9092 stage=orders") == 1
    assert "broker-back" not in caplog.text
    reach.found("shops")
    assert caplog.text.count("broker-back bootstrap=broker:9092 stage=shops away_s=0.0") == 1


async def test_a_worker_that_other_rules_overrule_ends(joined: session.Session) -> None:
    """It has been left without partitions, and would look idle."""
    inputs_of(joined).overruled = WorkerError("other rules")
    await assign(joined)
    assert joined._fault is inputs_of(joined).overruled
    assert joined._faulty.is_set()


async def test_an_order_to_stop_while_a_session_ends_still_leaves_the_group(
    joined: session.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would wait for the session timeout before they get its partitions."""
    left: list[str] = []

    async def open_() -> dict[str, int]:
        raise KafkaError("a broker that is away")

    async def leave() -> None:
        left.append("the group")

    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(joined._inputs, "open", open_, raising=False)
    monkeypatch.setattr(joined._inputs, "close", leave, raising=False)
    joined._partitions[0] = SimpleNamespace(close=never)  # type: ignore[assignment]
    monkeypatch.setattr(joined._watch, "measure", lambda: None)
    running = asyncio.create_task(joined.run())
    await asyncio.sleep(0.01)
    assert left == []
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert left == ["the group"]
    assert running.cancelled()


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (
            ConnectionSettingError("ssl_ca_file: ca.pem: it is not there", "give the path"),
            "refused",
        ),
        (EOFError("not Kafka"), "EOFError: not Kafka"),
        (struct.error("unpack requires 4 bytes"), "unpack requires 4 bytes"),
    ],
)
async def test_a_diagnosis_that_fails_does_not_end_a_stage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: Exception, said: str
) -> None:
    """It is part of what is reported, and the next session begins."""
    begun = 0

    async def run() -> None:
        nonlocal begun
        begun += 1
        raise KafkaError("nobody answers")

    async def diagnosed(_: object) -> None:
        raise fails

    monkeypatch.setattr(source, "Session", lambda *_: SimpleNamespace(run=run))
    monkeypatch.setattr(source, "diagnose", diagnosed)
    monkeypatch.setattr(source, "_RETRY_S", 0.01)
    monkeypatch.setattr(source, "_REFUSED_S", 0.01)
    reader = MarksReader(Settings(), pytest.fail)
    made = source.Source(Settings(), STAGE, None, reader, pytest.fail, Reach("broker:9092"))
    await made.on_started()
    async with asyncio.timeout(10):
        while begun < 3:
            await asyncio.sleep(0.01)
    await made.on_stop()
    assert said in caplog.text


async def test_a_source_that_ends_unasked_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stage would stand still for good, and nobody would know."""
    fatal: list[WorkerError] = []

    def broken(*_: object) -> None:
        raise SystemError("a bug where nobody looked")

    monkeypatch.setattr(source.Source, "_report", broken)
    monkeypatch.setattr(source, "Session", lambda *_: SimpleNamespace(run=broken))
    reader = MarksReader(Settings(), fatal.append)
    made = source.Source(Settings(), STAGE, None, reader, fatal.append, Reach("broker:9092"))
    await made.on_started()
    async with asyncio.timeout(10):
        while not fatal:
            await asyncio.sleep(0.01)
    assert fatal[0].message == (
        f"the {STAGE.name} stage has ended: SystemError: a bug where nobody looked"
    )
    await reader.on_started()
    assert reader._task is not None
    reader._task.cancel()
    async with asyncio.timeout(10):
        while len(fatal) < 2:
            await asyncio.sleep(0.01)
    assert fatal[1].message.startswith("the reader of frontier-marks has ended: cancelled")
