"""What a worker does when its broker is away, full, changed under it, or says no."""

import asyncio
import contextlib
import re
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.protocol.admin import CreateAclsRequest

import streams.runtime.failures
import streams.runtime.source
import tests.integration.test_runtime_worker as live
from streams.broker import EmbeddedBroker, config
from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.records import (
    ORDERS_CHANGELOG,
    SHOP_VIOLATIONS,
    SHOPS_CHANGELOG,
    Checkpoint,
    OutRecord,
)
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.runtime.errors import WorkerError
from streams.testing.cluster import WorkerProcess
from tests.integration.test_runtime_rebalance import old_ms
from tests.integration.test_runtime_transport import Bench, Counter, until
from tests.integration.test_runtime_worker import PARTITIONS, outputs, send, simulated, surge
from tests.integration.topics import create_topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

topics = live.topics

EVERYBODY = "User:ANONYMOUS"
TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
LITERAL = 3
ALL, READ, WRITE, DESCRIBE = 2, 3, 4, 8
ALLOW = 3


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    """Give a broker that a test may ill-treat, with our topics."""
    with EmbeddedBroker(tmp_path / "broker") as running:
        await ensure_topics(Connection(running.bootstrap), PARTITIONS)
        yield running


@asynccontextmanager
async def worker(bootstrap: str, log_path: Path) -> AsyncIterator[WorkerProcess]:
    """Run a worker, and stop it in time when the block is done."""
    running = WorkerProcess(Connection(bootstrap), log_path)
    try:
        yield running
        assert await asyncio.to_thread(running.stop, 5) == 0
    finally:
        running.kill()


@pytest.mark.parametrize("away_s", [8, pytest.param(65, marks=pytest.mark.long)])
async def test_a_broker_that_comes_late_and_goes_away(
    own_broker: EmbeddedBroker, tmp_path: Path, away_s: int
) -> None:
    """The worker waits for it, a line a minute, and goes on from the last transaction."""
    events = surge(6_000)
    await send(own_broker.bootstrap, events)
    expected = simulated(events)
    await asyncio.to_thread(own_broker.stop)
    async with worker(own_broker.bootstrap, tmp_path / "log") as running:
        await until(lambda: "broker-unreachable" in running.log)
        await asyncio.to_thread(own_broker.start)
        await until(lambda: "restored stage=orders" in running.log, 40)
        await asyncio.to_thread(own_broker.kill)
        before = len(running.log.splitlines())
        await asyncio.sleep(away_s)
        lines = running.log.splitlines()[before:]
        await asyncio.to_thread(own_broker.start)
        found = await outputs(own_broker.bootstrap, expected.total())
        log = running.log
    assert found == expected
    assert "Traceback" not in log
    # Each partition may say once that its commit failed; then it is a line a minute and stage.
    repeated = [line for line in lines if "KafkaTimeoutError" not in line]
    assert len(repeated) <= 4 * (1 + away_s // 60), "\n".join(lines)


async def test_a_broker_that_dies_again_and_again_costs_nothing(
    own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """Each partition comes back. What long restores need is shown by bench/restore_kills.py."""
    events = surge(6_000)
    expected = simulated(events)
    await send(own_broker.bootstrap, events)
    async with worker(own_broker.bootstrap, tmp_path / "log") as running:
        for _ in range(3):
            before = _restores(running.log)
            # Once all is judged nothing is committed: then a short absence may end no life.
            with contextlib.suppress(TimeoutError):
                await until(lambda before=before: _restores(running.log) > before, 15)  # type: ignore[misc]
            await asyncio.to_thread(own_broker.kill)
            await asyncio.to_thread(own_broker.start)
        assert await outputs(own_broker.bootstrap, expected.total()) == expected
        assert "Traceback" not in running.log


def _restores(text: str) -> int:
    """Count the takeovers of the orders stage that have begun, as far as a log tells."""
    return text.count("assigned stage=orders") + text.count("restored stage=orders")


async def test_a_broker_whose_disk_refuses_writes(
    own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """Full or read-only, it is a broker that goes away; once mended, nothing is missing.

    Root may write anywhere, so the disk is a limit on the size of the broker's files: its writes
    fail amid a segment as they do on a full disk, and Kafka ends, as its only folder has failed.
    """
    events = surge(6_000)
    await send(own_broker.bootstrap, events)
    expected = simulated(events)
    async with worker(own_broker.bootstrap, tmp_path / "log") as running:
        await until(lambda: "restored stage=orders" in running.log, 40)
        (java,) = psutil.Process(own_broker._process.pid).children()
        # The broker's own log stays below it.
        limit = own_broker.log_path.stat().st_size + 200_000
        resource.prlimit(java.pid, resource.RLIMIT_FSIZE, (limit, limit))
        await until(lambda: not own_broker.running, 60)
        await until(lambda: "Connect" in running.log or "failed stage=" in running.log, 40)
        assert "log dir" in own_broker.log_path.read_text().lower()
        await asyncio.to_thread(own_broker.stop)
        await asyncio.to_thread(own_broker.start)
        found = await outputs(own_broker.bootstrap, expected.total())
        log = running.log
    assert found == expected
    assert "Traceback" not in log


@pytest.mark.parametrize("which", ["one input", "all"])
async def test_partitions_added_under_a_running_worker_end_it(broker: str, which: str) -> None:
    """Scans would go where their order is not known: it must not judge without them."""
    bench = Bench(broker, inputs=2, partitions=2)
    bench.settings = replace(bench.settings, metadata_max_age_ms=1_000)
    await bench.create()
    grown = bench.inputs[1:] if which == "one input" else (*bench.inputs, bench.stage.changelog)
    async with bench.running() as app, bench.admin() as admin:
        await bench.send(bench.inputs[0], 0, 10, old_ms())
        await until(lambda: bench.total() == 10)
        await admin.create_partitions({topic: NewPartitions(3) for topic in grown})
        fatal = await asyncio.wait_for(asyncio.shield(app.fatal), 30)
    assert isinstance(fatal, WorkerError)
    assert "other partitions than when this worker started" in fatal.message
    assert not any(task.counts for task in bench.tasks if task.partition == 2)


def refused(text: str) -> set[tuple[str, int]]:
    """Read the stages and partitions that a log says are refused."""
    return {
        (stage, number)
        for stage, ranges in re.findall(r" refused stage=(\S+) partitions=(\S+)", text)
        for first, _, last in (each.partition("-") for each in ranges.split(","))
        for number in range(int(first), int(last or first) + 1)
    }


async def test_partitions_added_between_two_runs_are_refused(topics: str, tmp_path: Path) -> None:
    """Raised alike, the topics fit together: still no partition may start, the new ones neither."""
    events = surge(300)
    await send(topics, events)
    expected = simulated(events)
    async with worker(topics, tmp_path / "before"):
        assert await outputs(topics, expected.total()) == expected
    bench = Bench(topics, inputs=0, partitions=1)
    together = *INPUT_TOPICS, ORDERS_CHANGELOG, SHOP_VIOLATIONS, SHOPS_CHANGELOG
    async with bench.admin() as admin:
        described = await admin.describe_topics(list(together))
        counts = {found["topic"]: len(found["partitions"]) + 1 for found in described}
        await admin.create_partitions({t: NewPartitions(n) for t, n in counts.items()})
    stages = {"orders": counts[ORDERS_CHANGELOG], "shops": counts[SHOPS_CHANGELOG]}
    async with worker(topics, tmp_path / "after") as running:
        for stage, partitions in stages.items():
            for number in range(partitions):
                await until(lambda said=(stage, number): said in refused(running.log))  # type: ignore[misc]
        assert await outputs(topics, expected.total()) == expected
        assert "restored stage=" not in running.log


async def test_a_deleted_output_topic_is_waited_for(
    broker: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed without its outputs; once the topic is back, the partition goes on."""
    bench = Bench(broker, inputs=1, partitions=1)
    bench.settings = replace(bench.settings, transaction_timeout_ms=5_000, request_timeout_ms=3_000)
    (topic,) = bench.stage.outputs
    gather = Counter.checkpoint

    def writing(self: Counter, mark: bool) -> Checkpoint | None:
        checkpoint = gather(self, mark)
        said = [OutRecord(topic, b"k", b"v", ())]
        return checkpoint and checkpoint._replace(outputs=said)

    monkeypatch.setattr(Counter, "checkpoint", writing)
    await bench.create()
    async with bench.admin() as admin, bench.running():
        await bench.send(bench.inputs[0], 0, 10, old_ms())
        await until(lambda: bench.total() == 10)
        await admin.delete_topics([topic])
        await bench.send(bench.inputs[0], 10, 10, old_ms())
        await until(lambda: "failed stage=bench partitions=0" in caplog.text, 40)
        await committed_to(bench, 10)
        await create_topics(admin, NewTopic(topic, 1, 1))
        await committed_to(bench, 20)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a broker that asks who may do what; what has no rule is allowed to everybody."""
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in rules.items():
            patch.setitem(config.SERVER_PROPERTIES, name, value)
        with EmbeddedBroker(tmp_path_factory.mktemp("guarded")) as running:
            yield running.bootstrap


async def committed_to(bench: Bench, offset: int) -> None:
    """Wait until the first input's partition 0 is committed up to an offset, and no further."""
    found = -1
    async with bench.admin() as admin, asyncio.timeout(40):
        while found < offset:
            offsets = await admin.list_consumer_group_offsets(f"{bench.settings.app_id}-bench")
            answer = offsets.get(TopicPartition(bench.inputs[0], 0))
            found = -1 if answer is None else answer.offset
            await asyncio.sleep(0.1)
    assert found == offset


async def allow(bench: Bench, kind: int, name: str, operation: int) -> None:
    """Allow one operation; all that no rule allows is refused from then on."""
    async with bench.admin() as admin:
        rule = CreateAclsRequest(kind, name, LITERAL, EVERYBODY, "*", operation, ALLOW)
        answer = await admin._send_request(rule)
        assert [code for code, _ in answer.creation_responses] == [0]


@pytest.mark.parametrize(
    ("what", "allowed", "missing"),
    [
        ("read an input", WRITE, " on topic "),
        ("write the changelog", READ, " on topic "),
        ("join the group", DESCRIBE, "the right Read on group "),
        ("use the transactional id", DESCRIBE, "the right Write on transactional id "),
    ],
)
async def test_what_the_broker_forbids_is_refused_until_it_is_granted(
    guarded: str, what: str, allowed: int, missing: str,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is said with a hint, nothing is lost, and the next try after the grant succeeds."""
    for module in (streams.runtime.failures, streams.runtime.source):
        monkeypatch.setattr(module, "_REFUSED_S", 1.0)
    bench = Bench(guarded, inputs=2, partitions=1)
    await bench.create()
    await bench.send(bench.inputs[0], 0, 50, old_ms())
    group = f"{bench.settings.app_id}-bench"
    resource_of = {
        "read an input": (TOPIC, bench.inputs[0]),
        "write the changelog": (TOPIC, bench.stage.changelog),
        "join the group": (GROUP, group),
        "use the transactional id": (TRANSACTIONAL_ID, f"{group}-0"),
    }
    await allow(bench, *resource_of[what], allowed)
    async with bench.running():
        await until(lambda: "refused stage=bench" in caplog.text)
        assert missing in caplog.text
        assert resource_of[what][1] in caplog.text
        assert "shipclock topics acls" in caplog.text
        assert bench.total() == 0
        tried = len(bench.tasks)
        await allow(bench, *resource_of[what], ALL)
        await until(lambda: len(bench.tasks) > tried and bench.total() == 50)
        await committed_to(bench, 50)
