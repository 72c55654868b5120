"""The runtime on a real broker with a task that only counts: fencing, restore, frontier, flow."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import ProducerFenced

from streams.engine.records import Checkpoint, Columns, OutRecord
from streams.kafka.connection import Connection
from streams.runtime.app import WorkerApp
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.runtime.errors import WorkerError
from streams.runtime.progress import Progress
from streams.runtime.restore import restore
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from tests.integration.topics import create_topics

pytestmark = pytest.mark.kafka


class Counter:
    """A task that keeps, per key, how often it came, and holds what its frontier has not passed."""

    policy = restored_policy = "none@1"
    policy_changed = False
    states = 0
    waits_for_ms = mark_ms = marked_ms = 0

    def __init__(self, inputs: Sequence[str], partition: int) -> None:
        self.inputs, self.partition = inputs, partition
        self.counts: dict[bytes, int] = {}
        self.committed = 0
        """How many records it had counted when it last committed."""
        self.offsets = dict.fromkeys(inputs, 0)
        self.held: dict[str, list[tuple[Any, ...]]] = {topic: [] for topic in inputs}
        self.changed: dict[bytes, bytes | None] = {}
        self.advanced: dict[str, int] = {}
        self.last_ms = dict.fromkeys(inputs, -1)
        self.complete_ms = dict.fromkeys(inputs, -1)
        self.held_most = 0
        self.topic_ids: Mapping[str, str] = {}

    @property
    def next_offsets(self) -> Mapping[str, int]:
        return self.offsets

    @property
    def frontier_ms(self) -> int:
        return min(max(self.last_ms[t], self.complete_ms[t]) for t in self.inputs)

    def restore(self, entries: Iterable[tuple[bytes, bytes | None]]) -> None:
        for key, value in entries:
            name, _, number = (value or b"").rpartition(b"=")
            if key.startswith(b"topic:"):
                self.topic_ids = {**self.topic_ids, key[6:].decode(): (value or b"").decode()}
            elif key == b"offset:" + name:
                self.offsets[name.decode()] = int(number)
            else:
                self.counts[key] = int(value or b"0")

    def restored(self) -> None:
        self.committed = sum(self.counts.values())
        self.last_ms = dict.fromkeys(self.inputs, -1)

    def adopt(self, offsets: Mapping[str, int], topic_ids: Mapping[str, str]) -> None:
        self.offsets, self.topic_ids = dict(offsets), topic_ids
        self.advanced = dict(offsets)
        for topic, offset in offsets.items():
            name = topic.encode()
            self.changed[b"offset:" + name] = name + b"=%d" % offset
            self.changed[b"topic:" + name] = topic_ids[topic].encode()

    def offer(self, topic: str, records: Columns, now_ms: int) -> None:
        self.held[topic] += zip(*records, strict=True)
        self.last_ms[topic] = max([self.last_ms[topic], *records.timestamps])
        self.held_most = max(self.held_most, sum(map(len, self.held.values())))

    def complete(self, topic: str, as_of_ms: int) -> None:
        assert as_of_ms < time.time() * 1000
        self.complete_ms[topic] = max(self.complete_ms[topic], as_of_ms)

    @property
    def pending(self) -> int:
        return len(self.changed)

    def work(self, outputs_max: int) -> bool:
        below, changed = self.frontier_ms, self.changed
        if not changed:
            # Nobody asks for more work before the last checkpoint is committed.
            self.committed = sum(self.counts.values())
        for topic, held in self.held.items():
            done = [row for row in held if row[1] < below]
            if not done:
                continue
            self.held[topic] = held[len(done) :]
            self.offsets[topic] = done[-1][0] + 1
            self.advanced[topic] = self.offsets[topic]
            name = topic.encode()
            changed[b"offset:" + name] = name + b"=%d" % self.offsets[topic]
            for row in done:
                key = row[2] or b""
                self.counts[key] = self.counts.get(key, 0) + 1
                changed[key] = b"%d" % self.counts[key]
        return False

    def checkpoint(self, mark: bool) -> Checkpoint | None:
        changed, self.changed = self.changed, {}
        advanced, self.advanced = self.advanced, {}
        if not changed:
            return None
        return Checkpoint([], changed, list(advanced.items()), False)

    def again(self) -> Checkpoint:
        names = [topic.encode() for topic in self.inputs]
        changelog: dict[bytes, bytes | None] = {
            b"offset:" + name: name + b"=%d" % self.offsets[name.decode()] for name in names
        }
        return Checkpoint([], changelog, [], False)


class Bench:
    """A stage on topics of its own, and a settings object of its own."""

    def __init__(
        self, bootstrap: str, inputs: int, partitions: int, name: str | None = None
    ) -> None:
        self.name = name = name or uuid.uuid4().hex[:8]
        self.inputs = tuple(f"in-{rank}-{name}" for rank in range(inputs))
        self.tasks: list[Counter] = []
        self.partitions = partitions
        self.settings = Settings(
            connection=Connection(bootstrap), app_id=f"app-{name}", idle_slack_ms=100
        )
        self.stage = Stage(
            name="bench",
            inputs=self.inputs,
            outputs=(f"out-{name}",),
            changelog=f"changelog-{name}",
            marked_by=None,
            new_task=self._new_task,
        )

    def _new_task(self, partition: int, counts: Mapping[str, int]) -> Counter:
        self.tasks.append(Counter(self.inputs, partition))
        return self.tasks[-1]

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.connection.bootstrap)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def create(
        self, odd: str | None = None, changelog: Mapping[str, str] | None = None
    ) -> None:
        async with self.admin() as admin:
            await create_topics(
                admin,
                *(
                    NewTopic(
                        topic, self.partitions + (topic == odd), 1,
                        topic_configs=changelog if topic == self.stage.changelog else None,
                    )
                    for topic in self.stage.topics
                ),
            )  # fmt: skip

    async def recreate(self, topic: str, meanwhile: Callable[[], bool]) -> None:
        """Delete a topic, wait for something, and create it again."""
        async with self.admin() as admin:
            await admin.delete_topics([topic])
            await until(meanwhile, 40)
            while topic in await admin.list_topics():
                await asyncio.sleep(0.1)
            await create_topics(admin, NewTopic(topic, self.partitions, 1))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WorkerApp]:
        app = WorkerApp(self.settings, [self.stage])
        await app.start()
        try:
            yield app
        except TimeoutError:
            # What was waited for cannot come from a worker that has given up: that is the reason.
            if app.fatal.done():
                raise app.fatal.result() from None
            raise
        finally:
            await app.stop()

    async def send(
        self, topic: str, first: int, count: int, timestamp_ms: int, partition: int = 0,
        step_ms: int = 1,
    ) -> None:  # fmt: skip
        async with AIOKafkaProducer(
            bootstrap_servers=self.settings.connection.bootstrap
        ) as producer:
            for number in range(first, first + count):
                await producer.send(
                    topic, b"v" * 50, key=b"k%d" % (number % 100), partition=partition,
                    timestamp_ms=timestamp_ms + number * step_ms,
                )  # fmt: skip

    def total(self) -> int:
        """Sum up the records that the newest task of each partition has counted and committed.

        What is counted but not committed may still come to nothing: a test that went on from there
        would race the commit.
        """
        newest = {task.partition: task for task in self.tasks}
        return sum(task.committed for task in newest.values())


@pytest.fixture
async def bench(broker: str) -> Bench:
    """Give a stage of two inputs with two partitions, on topics that nobody else has."""
    made = Bench(broker, inputs=2, partitions=2)
    await made.create()
    return made


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition; a test that fails says so within `seconds`."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_second_life_restores_and_goes_on(bench: Bench) -> None:
    """Nothing is counted twice or left out over a restart: state and offsets commit together."""
    old = int(time.time() * 1000) - 3_600_000
    await bench.send(bench.inputs[0], 0, 500, old)
    async with bench.running():
        await until(lambda: bench.total() == 500)
    assert any(task.counts for task in bench.tasks)
    await bench.send(bench.inputs[1], 500, 300, old)
    async with bench.running():
        await until(lambda: bench.total() == 800)
        await asyncio.sleep(0.5)
    assert bench.total() == 800


async def test_two_members_share_the_partitions(bench: Bench) -> None:
    """A joining member takes over half, and a leaving one gives all back, losing nothing."""
    old = int(time.time() * 1000) - 3_600_000
    for partition in range(2):
        await bench.send(bench.inputs[0], 0, 1000, old, partition)
    async with bench.running():
        await until(lambda: bench.total() == 2000)
        async with bench.running():
            await until(lambda: len(bench.tasks) > 2)
            await bench.send(bench.inputs[1], 0, 100, old, 0)
            await bench.send(bench.inputs[1], 0, 100, old, 1)
            await until(lambda: bench.total() == 2200)
        await bench.send(bench.inputs[1], 100, 50, old, 0)
        await bench.send(bench.inputs[1], 100, 50, old, 1)
        await until(lambda: bench.total() == 2300)


async def test_the_newer_owner_fences_the_older(bench: Bench) -> None:
    """A commit of an owner that was replaced does not happen."""
    counts = dict.fromkeys(bench.stage.topics, 2)
    owners = [
        Transactions(bench.settings, bench.stage, 0, counts, KeyPartitioner()) for _ in range(2)
    ]
    checkpoint = Checkpoint([], {b"k": b"1"}, [(bench.inputs[0], 1)], False)
    await owners[0].start()
    await owners[0].commit(checkpoint)
    await owners[1].start()
    with pytest.raises(ProducerFenced):
        await owners[0].commit(checkpoint)
    await owners[1].commit(checkpoint)
    for owner in owners:
        await owner.close()


async def test_a_transaction_larger_than_a_batch_is_whole(bench: Bench) -> None:
    """Outputs and states of several batches arrive, each key in its partition."""
    counts = dict.fromkeys(bench.stage.topics, 2)
    transactions = Transactions(bench.settings, bench.stage, 1, counts, KeyPartitioner())
    await transactions.start()
    outputs = [
        OutRecord(bench.stage.outputs[0], b"shop-%d" % (n % 7), b"x" * 1000, ())
        for n in range(3000)
    ]
    changelog: dict[bytes, bytes | None] = {b"%d" % n: b"y" * 1000 for n in range(3000)}
    await transactions.commit(Checkpoint(outputs, changelog, [], False))
    await transactions.close()
    task = Counter(bench.inputs, 1)
    seen: list[bytes] = []
    task.restore = lambda entries: seen.extend(key for key, _ in entries)  # type: ignore[method-assign]
    await restore(bench.settings, bench.stage, 1, task, Progress("bench", 1))
    assert seen == [b"%d" % n for n in range(3000)]


async def test_an_open_transaction_keeps_a_topic_incomplete(bench: Bench) -> None:
    """What is not yet decided upstream may still come: the frontier waits for it."""
    upstream = AIOKafkaProducer(
        bootstrap_servers=bench.settings.connection.bootstrap,
        transactional_id=f"up-{bench.settings.app_id}",
    )
    await upstream.start()
    await upstream.begin_transaction()
    now = int(time.time() * 1000)
    await upstream.send_and_wait(bench.inputs[0], b"v", key=b"k", partition=0, timestamp_ms=now)
    async with bench.running():
        await until(lambda: len(bench.tasks) == 2)
        task = next(task for task in bench.tasks if task.partition == 0)
        await until(lambda: task.complete_ms[bench.inputs[1]] > now)
        assert task.complete_ms[bench.inputs[0]] == -1
        await upstream.commit_transaction()
        await until(lambda: bench.total() == 1)
        # The marker of the transaction is the topic's end, and no obstacle to having reached it.
        await until(lambda: task.complete_ms[bench.inputs[0]] > now)
    await upstream.stop()


async def test_a_topic_far_ahead_rests(broker: str) -> None:
    """One topic with much newer records does not fill the memory, and all are processed."""
    bench = Bench(broker, inputs=2, partitions=1)
    await bench.create()
    old = int(time.time() * 1000) - 3_600_000
    await bench.send(bench.inputs[0], 0, 60_000, old)
    slow = AIOKafkaProducer(
        bootstrap_servers=broker, transactional_id=f"slow-{bench.settings.app_id}"
    )
    await slow.start()
    await slow.begin_transaction()
    await slow.send_and_wait(bench.inputs[1], b"v", key=b"k", partition=0, timestamp_ms=old - 1)
    async with bench.running():
        await until(lambda: any(task.held_most > 5_000 for task in bench.tasks))
        await asyncio.sleep(1)
        # The limit of a topic partition, and what one fetch may add to it.
        assert bench.tasks[0].held_most < 25_000
        await slow.commit_transaction()
        await until(lambda: bench.total() == 60_001)
    await slow.stop()


async def test_unequal_partition_counts_stop_the_worker(broker: str) -> None:
    """Inputs that are not co-partitioned would judge orders without their scans."""
    bench = Bench(broker, inputs=2, partitions=1)
    await bench.create(odd=bench.inputs[1])
    async with bench.running() as app:
        fatal = await asyncio.wait_for(app.fatal, 20)
    assert isinstance(fatal, WorkerError)
    assert "equal partition counts" in fatal.message


async def test_an_error_in_a_step_restores_the_partition(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed step the memory is ahead of the log: it is dropped, and nothing is lost."""
    old = int(time.time() * 1000) - 3_600_000
    commit = Transactions.commit
    failures = iter([OSError("first"), OSError("second")])

    async def failing(self: Transactions, checkpoint: Checkpoint) -> None:
        error = next(failures, None)
        if error is not None:
            raise error
        await commit(self, checkpoint)

    monkeypatch.setattr(Transactions, "commit", failing)
    await bench.send(bench.inputs[0], 0, 500, old)
    async with bench.running():
        await until(lambda: len(bench.tasks) >= 4 and bench.total() == 500)


async def test_a_task_that_breaks_on_a_record_restores_the_partition(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that was not taken is read again, not committed past."""
    monkeypatch.setattr("streams.runtime.failures._REFUSED_S", 0.2)
    offer = Counter.offer
    failures = iter([ValueError("first"), ValueError("second")])

    def breaking(self: Counter, topic: str, records: Columns, now_ms: int) -> None:
        error = next(failures, None)
        if error is not None:
            raise error
        offer(self, topic, records, now_ms)

    monkeypatch.setattr(Counter, "offer", breaking)
    old = int(time.time() * 1000) - 3_600_000
    for partition in range(2):
        await bench.send(bench.inputs[0], 0, 500, old, partition)
    async with bench.running():
        await until(lambda: bench.total() == 1000)


async def test_records_deleted_under_a_running_worker_are_told(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Retention that overtakes the reader is an error with offsets, and reading goes on behind."""
    bench = Bench(broker, inputs=2, partitions=1)
    # What was read is committed before the reader comes to the gap.
    bench.settings = replace(bench.settings, catch_up_commit_interval_ms=0)
    await bench.create()
    old = int(time.time() * 1000) - 3_600_000
    await bench.send(bench.inputs[0], 0, 60_000, old)
    slow = AIOKafkaProducer(
        bootstrap_servers=broker, transactional_id=f"slow-{bench.settings.app_id}"
    )
    await slow.start()
    await slow.begin_transaction()
    await slow.send_and_wait(bench.inputs[1], b"v", key=b"k", partition=0, timestamp_ms=old - 1)
    async with bench.running(), bench.admin() as admin:
        # It has read some thousand records, and the topic rests.
        await until(lambda: any(task.held_most > 5_000 for task in bench.tasks))
        tp = TopicPartition(bench.inputs[0], 0)
        await admin.delete_records({tp: RecordsToDelete(before_offset=50_000)})
        await slow.commit_transaction()
        await until(lambda: "records-lost" in caplog.text)
        line = rf'records-lost stage=bench partitions=0 at="{tp.topic}\[0\] offsets (\d+)-49999" '
        lost = re.search(line, caplog.text)
        assert lost is not None, caplog.text
        await until(lambda: bench.total() == 60_001 - (50_000 - int(lost[1])))
    await slow.stop()
    assert caplog.text.count("records-lost") == 1
    assert int(lost[1]) > 5_000


async def test_a_topic_recreated_under_a_running_worker_is_refused(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deletion is told at once, and offsets of other records are not taken for those known."""
    monkeypatch.setattr("streams.runtime.failures._REFUSED_S", 0.5)
    monkeypatch.setattr("streams.runtime.logs.Standing.news", lambda *_: True)
    bench.settings = replace(bench.settings, metadata_max_age_ms=2_000)
    old = int(time.time() * 1000) - 3_600_000
    await bench.send(bench.inputs[0], 0, 10, old)
    await bench.send(bench.inputs[1], 0, 10, old)
    async with bench.running():
        await until(lambda: bench.total() == 20)
        await bench.recreate(bench.inputs[1], lambda: "input-missing" in caplog.text)
        await until(lambda: "created again" in caplog.text, 40)
        await bench.send(bench.inputs[1], 0, 30, old)
        # There are offsets enough now, and no further try may pass.
        tries = caplog.text.count("created again")
        await until(lambda: caplog.text.count("created again") >= tries + 4)
        assert bench.total() == 20
    assert f"input-missing stage=bench topic={bench.inputs[1]} partitions=0-1" in caplog.text
    caplog.clear()
    async with bench.running():
        await until(lambda: "of another topic of this name" in caplog.text)
        assert bench.total() == 20


async def test_more_records_of_one_instant_than_may_be_held(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The frontier waits for a later instant of their topic; memory does not."""
    bench = Bench(broker, inputs=2, partitions=1)
    bench.settings = replace(bench.settings, instant_bytes_max=5_000_000)
    await bench.create()
    old = int(time.time() * 1000) - 3_600_000
    await bench.send(bench.inputs[0], 0, 60_000, old, step_ms=0)
    async with bench.running():
        await until(lambda: bench.total() == 60_000)
    assert max(task.held_most for task in bench.tasks) < 30_000
    assert caplog.text.count("crowded") == 1


async def test_what_no_retry_mends_is_refused(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A record too large for its topic is told with a hint, and not tried again each second."""
    bench = Bench(broker, inputs=2, partitions=1)
    await bench.create(changelog={"max.message.bytes": "100"})
    await bench.send(bench.inputs[0], 0, 500, int(time.time() * 1000) - 3_600_000)
    async with bench.running():
        await until(lambda: "refused" in caplog.text)
        await asyncio.sleep(2)
        assert len(bench.tasks) == 1
    assert re.search(r"refused stage=bench partitions=0 .*MessageSizeTooLarge.* hint=", caplog.text)


@pytest.mark.long
async def test_several_hundred_partitions_in_one_worker(broker: str) -> None:
    """All are taken over, read and committed within a session's time."""
    bench = Bench(broker, inputs=2, partitions=300)
    await bench.create()
    old = int(time.time() * 1000) - 3_600_000
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for number in range(3_000):
            await producer.send(
                bench.inputs[0], b"v", key=b"k", partition=number % 300, timestamp_ms=old + number
            )
    async with bench.running():
        await until(lambda: len(bench.tasks) == 300 and bench.total() == 3_000, 60)
        await bench.send(bench.inputs[1], 0, 100, old, partition=299)
        await until(lambda: bench.total() == 3_100)


STUCK = """
import sys, time
from streams.runtime import logs
from streams.runtime.app import run_stages
from tests.integration.test_runtime_transport import Bench, Counter

def work(self, outputs_max):
    print("stuck", flush=True)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        pass

logs.setup()
Counter.work = work
bench = Bench(sys.argv[1], inputs=1, partitions=1, name=sys.argv[2])
run_stages(bench.settings, [bench.stage])
"""


async def test_a_worker_amid_a_long_step_ends_in_time(broker: str) -> None:
    """SIGTERM is heard though the event loop is not, and the transaction is aborted by the next."""
    bench = Bench(broker, inputs=1, partitions=1, name=uuid.uuid4().hex[:8])
    await bench.create()
    root = Path(__file__).parents[2]
    with subprocess.Popen(  # noqa: ASYNC220 - it is waited for in threads
        [sys.executable, "-c", STUCK, broker, bench.name],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "stuck\n"
            process.send_signal(signal.SIGTERM)
            asked_s = time.monotonic()
            _, log = await asyncio.to_thread(process.communicate, timeout=30)
        finally:
            process.kill()
    assert time.monotonic() - asked_s < 5
    assert process.returncode == 0
    assert "stopping" in log
    assert "why=SIGTERM" in log
