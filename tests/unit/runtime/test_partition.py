"""The owner of a partition without a broker: its lives, what it keeps of them, when they begin."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streams.core.facts.instants import END_OF_TIME_MS
from streams.engine.marks import Marks, request_record
from streams.engine.records import Checkpoint, Columns, CorruptChangelog
from streams.runtime import agent, failures, takeover
from streams.runtime.counters import Counters
from streams.runtime.errors import TopicRecreated
from streams.runtime.failures import Failures
from streams.runtime.partition import Partition
from streams.runtime.progress import Progress
from streams.runtime.reports import Reports
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage

TOPIC = "in"
ROW = Columns([0], [1], [b"k"], [b"v"])


class Task:
    """A task that notes what it is offered, and never has anything to commit."""

    policy = restored_policy = "p@1"
    policy_changed = False
    states = 0
    frontier_ms = pending = 0
    waits_for_ms = END_OF_TIME_MS
    mark_ms = marked_ms = 0

    def __init__(self, number: int, at: int) -> None:
        self.number = number
        self.next_offsets = {TOPIC: at}
        self.topic_ids: Mapping[str, str] = {}
        self.offered = 0

    def offer(self, topic: str, records: Columns, now_ms: int) -> None:
        self.offered += len(records.offsets)

    def adopt(self, offsets: object, topic_ids: Mapping[str, str]) -> None:
        self.topic_ids = topic_ids

    def complete(self, topic: str, as_of_ms: int) -> None: ...
    def restore(self, entries: object) -> None: ...
    def restored(self) -> None: ...

    def work(self, outputs_max: int) -> bool:
        return False

    def checkpoint(self, mark: bool) -> Checkpoint | None:
        return None


class AtOnce(Reports):
    """Reports that wait for nobody."""

    def add(self, *line: Any, **fields: Any) -> None:
        super().add(*line, **fields)
        self.flush()


class World:
    """What surrounds a partition: a log that is empty, and a producer that does what it should."""

    def __init__(self) -> None:
        self.tasks: list[weakref.ref[Task]] = []
        self.alive: list[int] = []
        """How many states there were when a life began to restore."""
        self.kind: type[Task] = Task
        self.at = 0
        self.changelog_end = 0
        self.commits: list[Checkpoint] = []
        self.overtaken = False
        self.committed: dict[TopicPartition, int] = {}
        self.restored: list[int] = []
        self.on_restore: Callable[[int], None] = lambda number: None
        self.on_close: Callable[[], None] = lambda: None
        self.ended: list[asyncio.Task[None]] = []
        self.reports = AtOnce(logging.getLogger("streams.runtime.session"), "bench")
        self.marks = Marks("shipclock")

    def new_task(self, number: int, counts: Mapping[str, int]) -> Task:
        made = self.kind(number, self.at)
        self.tasks.append(weakref.ref(made))
        return made

    def partition(self, number: int = 0) -> Partition:
        async def offsets(tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
            return {tp: self.changelog_end * (tp.topic == "changelog") for tp in tps}

        async def committed(tps: object) -> dict[TopicPartition, int]:
            return self.committed

        async def topic_ids() -> dict[str, str]:
            return {TOPIC: "id"}

        inputs: Any = SimpleNamespace(
            group_id="g", missing=lambda number: [], committed=committed,
            beginning_offsets=offsets, end_offsets=offsets, topic_ids=topic_ids,
            seek=lambda *_: None, rest=lambda *_: None,
        )  # fmt: skip
        new_task: Any = self.new_task
        return Partition(
            number, Settings(session_timeout_ms=10, stop_timeout_ms=100),
            Stage("bench", (TOPIC,), (), "changelog", None, new_task), inputs, {TOPIC: 2},
            None, Counters("bench"), asyncio.Semaphore(1), self.reports, self.marks,  # type: ignore[arg-type]
            self.ended.append,
        )  # fmt: skip


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Put it in the place of broker and changelog."""
    made = World()

    class Transactions:
        def __init__(self, *_: object) -> None: ...

        async def commit(self, checkpoint: Checkpoint) -> None:
            made.commits.append(checkpoint)

        async def start(self) -> None:
            made.alive.append(sum(ref() is not None for ref in made.tasks))

        async def prove_ownership(self, offsets: object) -> None:
            if made.overtaken:
                raise ProducerFenced

        async def close(self) -> None:
            await asyncio.sleep(0)
            made.on_close()

    async def restore(
        settings: Settings, stage: Stage, number: int, task: Task, progress: Progress
    ) -> int:
        await asyncio.sleep(0)
        made.restored.append(number)
        made.on_restore(number)
        return 0

    monkeypatch.setattr(takeover, "Transactions", Transactions)
    monkeypatch.setattr(takeover, "restore", restore)
    monkeypatch.setattr(failures, "_RETRY_S_MIN", 0.01)
    monkeypatch.setattr(failures, "_REFUSED_S", 0.01)
    return made


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


class GoneInAStep(Task):
    """Fails as it does when the broker goes away amid a commit."""

    def work(self, outputs_max: int) -> bool:
        kept = KafkaError("gone")
        raise kept


class GathersRecords(Task):
    """Has something to commit once it was offered a record."""

    def checkpoint(self, mark: bool) -> Checkpoint | None:
        offered, self.offered = self.offered, 0
        return Checkpoint([], {b"k": b"v"}, [(TOPIC, offered)], False) if offered else None


class Marks1000(Task):
    """Has come to 1000, and marks when it is asked to."""

    mark_ms, marked_ms = 1_000, 900
    frontier_ms = 10**15

    def checkpoint(self, mark: bool) -> Checkpoint | None:
        if not mark:
            return None
        self.marked_ms = self.mark_ms
        return Checkpoint([], {}, [], False)


class BreaksOnARecord(Task):
    """Fails where the agent offers it something."""

    def offer(self, topic: str, records: object, now_ms: int) -> None:
        raise ValueError(topic)


@pytest.mark.parametrize("kind", [GoneInAStep, BreaksOnARecord])
async def test_a_life_begins_without_the_state_of_the_last_one(
    world: World, kind: type[Task], caplog: pytest.LogCaptureFixture
) -> None:
    """Two states of a large partition do not fit into a worker."""
    # What pytest captures it keeps, with tracebacks.
    caplog.set_level("CRITICAL", "streams")
    world.kind = kind
    part = world.partition()
    while len(world.alive) < 4:
        await asyncio.sleep(0.001)
        if part.ready:
            part.take(part.batch([(TOPIC, ROW)], 0, (), 0))
    await part.close()
    assert not any(world.alive)


async def test_a_recreated_topic_keeps_no_state(world: World) -> None:
    """It is said again at every life, without what the first of them had restored."""
    world.at = 7
    part = world.partition()
    await until(lambda: len(world.tasks) == 1 and world.tasks[0]() is None)
    with pytest.raises(TopicRecreated, match="ends before what was read") as gone:
        await part._open()
    assert gone.value.at == "in[0] was read up to offset 7 but ends at 0"
    await part.close()


async def test_what_was_read_for_an_earlier_life_is_not_taken(world: World) -> None:
    """The next one reads it again: it would be counted twice, or out of order."""
    part = world.partition()
    await until(lambda: part.ready)
    batch = part.batch([(TOPIC, ROW)], 0, (), 0)
    part.fail(KafkaError("away"))
    await until(lambda: len(world.tasks) == 2 and part.ready)
    part.take(batch)
    task = world.tasks[1]()
    assert task is not None
    assert task.offered == 0
    part.take(part.batch([(TOPIC, ROW)], 0, (), 0))
    assert task.offered == 1
    del task
    await part.close()


async def test_no_life_begins_amid_a_rebalance(world: World) -> None:
    """The partition may be another's already: its new owner must not be fenced."""
    part = world.partition()
    await until(lambda: part.ready)
    await part.hold()
    part.fail(KafkaError("away"))
    part._held = False
    await until(lambda: not part.ready)
    part._held = True
    await asyncio.sleep(0.1)
    assert len(world.alive) == 1
    part.release()
    await until(lambda: part.ready)
    assert len(world.alive) == 2
    await part.hold()
    await part.close()


async def test_a_release_amid_the_end_of_a_life_ends_the_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebalance that left us the partition says that it is ours: nothing to wait for."""
    monkeypatch.setattr(failures, "_RETRY_S_MIN", 60.0)
    part = world.partition()
    await until(lambda: part.ready)
    world.on_close = part.release
    part.fail(KafkaError("away"))
    await until(lambda: len(world.alive) == 2)
    await part.close()


async def test_who_was_overtaken_amid_its_restore_refuses_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of what it read is another owner's: nobody must act on that."""

    def on_restore(number: int) -> None:
        raise CorruptChangelog("holds 3 orders, its last checkpoint counted 2")

    world.on_restore, world.overtaken = on_restore, True
    part = world.partition()
    await until(lambda: "fenced stage=bench partitions=0" in caplog.text)
    await part.close()
    assert "refused" not in caplog.text


async def test_a_partition_that_knows_nothing_asks_the_first_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have been added since: then the first one's checkpoint counts others."""
    world.kind = type("Empty", (Task,), {"restored_policy": None})

    def on_restore(number: int) -> None:
        if number == 0:
            raise CorruptChangelog("there were 2 partitions, now there are 3")

    world.on_restore = on_restore
    part = world.partition(2)
    await until(lambda: "refused stage=bench partitions=2" in caplog.text)
    assert world.restored[:2] == [2, 0]
    assert not part.ready
    await part.close()


async def test_a_changelog_that_a_stranger_keeps_undecided_is_refused(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What was committed behind its transaction cannot be read: timers would fire again."""
    world.committed = {TopicPartition(TOPIC, 0): 0}
    world.changelog_end = 5
    part = world.partition()
    await until(lambda: "refused" in caplog.text)
    assert 'at="changelog[0] from offset 0 on" detail="the end of changelog is undecided' in (
        caplog.text
    )
    world.changelog_end = 0
    await until(lambda: part.ready)
    await part.close()


async def test_the_end_of_its_loop_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the loop itself must not leave a partition that nobody works on."""
    monkeypatch.setattr(Failures, "report", lambda *_: 1 / 0)
    part = world.partition()
    await until(lambda: part.ready)
    part.fail(KafkaError("away"))
    await until(lambda: bool(world.ended))
    assert isinstance(world.ended[0].exception(), ZeroDivisionError)


async def test_a_client_that_cancels_itself_ends_a_life_and_not_the_partition(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has cancelled the partition: another life begins, and it is said."""

    def on_restore(number: int) -> None:
        if len(world.restored) == 1:
            raise asyncio.CancelledError

    world.on_restore = on_restore
    part = world.partition()
    await until(lambda: part.ready)
    assert "failed stage=bench partitions=0 " in caplog.text
    assert not world.ended
    await part.close()
    assert not world.ended


async def test_what_a_partition_waits_for_is_known(world: World) -> None:
    """Each step of taking over, and the failure it has to get over."""
    steps: list[str] = []
    world.on_restore = lambda number: steps.append(part.progress.step)
    part = world.partition()
    assert part.progress.step == "beginning"
    await until(lambda: part.ready)
    assert steps == ["restoring"]
    assert part.progress.since_s is None
    world.on_close = lambda: steps.append(part.progress.step)
    part.fail(KafkaError("away"))
    await until(lambda: len(steps) == 2)
    assert steps[1] == "another try after KafkaError: away"
    assert part.progress.since_s is not None
    await part.close()


async def gathering(world: World) -> Partition:
    """Return a partition that has done something since its last commit."""
    world.kind = GathersRecords
    part = world.partition()
    await until(lambda: part.ready)
    part._committed_s = time.monotonic()
    part.take(part.batch([(TOPIC, ROW)], 0, (), 0))
    await until(lambda: not part._idle.is_set())
    assert not world.commits
    return part


async def test_a_rebalance_commits_what_was_gathered(world: World) -> None:
    """Another worker may go on from there."""
    part = await gathering(world)
    await part.hold()
    assert len(world.commits) == 1
    await part.close()


async def test_a_life_that_was_given_up_commits_nothing(world: World) -> None:
    """Its offsets may be those of a topic that is no more, and a rebalance may begin just then."""
    part = await gathering(world)
    part.fail(TopicRecreated("in was deleted and created again", "in=id", "in[0]"))
    await part.hold()
    assert not world.commits
    part._held = False
    await part.close()


@pytest.mark.parametrize(
    ("behind_ms", "slack_ms", "seconds"),
    [(5_000, 500, 0.1), (60_000, 500, 4.0), (60_000, 60_000, 0.1)],
)
async def test_an_idle_slack_is_not_a_backlog(
    world: World, monkeypatch: pytest.MonkeyPatch, behind_ms: int, slack_ms: int, seconds: float
) -> None:
    """A worker that waits long for late records commits as soon as any other."""
    part = world.partition()
    part._settings = replace(part._settings, idle_slack_ms=slack_ms)
    frontier_ms = part._settings.clock.now_ms() - behind_ms
    monkeypatch.setattr(Partition, "frontier_ms", frontier_ms)
    assert part._interval_s() == seconds
    await part.close()


class HoldsStates(Task):
    """Has fewer states than its changelog has records."""

    states = 7


async def test_restored_says_how_many_states_there_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Not how many records the changelog held."""
    caplog.set_level("INFO", "streams")
    world.kind = HoldsStates
    partition = world.partition(0)
    other = world.partition(1)
    await until(lambda: partition.ready and other.ready)
    await partition.close()
    await other.close()
    world.reports.flush()
    (line,) = [one.getMessage() for one in caplog.records if "restored" in one.getMessage()]
    assert line.startswith("restored stage=bench partitions=0-1 states=14 seconds=")


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the machine's clock stand at what is in the list, in milliseconds."""
    clock = [3_000_000]
    monkeypatch.setattr(agent, "wall_ms", lambda: clock[0])
    return clock


async def test_a_partition_marks_at_once_for_whoever_waits(
    world: World, long_ago: list[int]
) -> None:
    """Once a second while somebody waits for what it has passed, else once a minute."""
    world.kind = Marks1000
    owner = world.partition()
    await until(lambda: owner.ready and len(world.commits) == 1)
    task = world.tasks[0]()
    assert task is not None

    async def marks_after(ms: int) -> int:
        """Count the marks once the clock has gone on and the task has come further."""
        before = len(world.commits)
        long_ago[0] += ms
        task.mark_ms += 1
        owner.mark_if_due()
        await asyncio.sleep(0.15)
        return len(world.commits) - before

    assert [await marks_after(ms) for ms in (1_000, 30_000, 30_000)] == [0, 0, 1]
    # Marked is 1003: beyond that somebody waits for an instant that the next step passes.
    request(world.marks, 1_003)
    assert owner.waits_for_ms == 0, "nothing was read to its end in this life yet"
    owner.take(owner.batch([], 0, [TOPIC], 5))
    assert owner.waits_for_ms == 1_003
    assert [await marks_after(ms) for ms in (500, 500, 1_000)] == [0, 1, 0]
    assert owner.waits_for_ms == END_OF_TIME_MS
    # What is awaited lies ahead: no mark before it has been passed.
    request(world.marks, 2_000)
    assert await marks_after(1_000) == 0
    assert owner.waits_for_ms == 2_000
    task.mark_ms = 2_000
    assert await marks_after(1_000) == 1
    await owner.close()


def request(marks: Marks, beyond_ms: int) -> None:
    """Let a shop partition wait for an instant."""
    record = request_record("shipclock", "shops:0", beyond_ms)
    assert marks.take(record.key, record.value)
