"""`shipclock worker` as a process on a real broker: its outputs are those of a simulation."""

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2

from streams.engine.simulate import simulate
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.rulebook import load_rulebook
from streams.testing.cluster import OUTPUT_TOPICS, WorkerProcess
from tests.integration.test_runtime_transport import until
from tests.integration.topics import delete_topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HOUR = 3_600_000
PARTITIONS = 3
CASES = Path(__file__).parents[1] / "scenarios" / "cases"


@pytest.fixture
async def topics(broker: str) -> AsyncIterator[str]:
    """Give a broker on which all topics are empty, and leave it so."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await delete_topics(admin)
    await ensure_topics(Connection(broker), PARTITIONS)
    yield broker
    await delete_topics(admin)
    await admin.close()


@contextmanager
def worker(bootstrap: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a worker; kill it if the test has not ended it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", "worker", "--bootstrap", bootstrap, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str]) -> str:
    """End a worker as a supervisor does, and return its log."""
    asked_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log
    assert time.monotonic() - asked_s < 5
    return log


def placed(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every event its partition, exemptions one in each."""
    found = []
    for event in events:
        value = event["value"]
        if event["topic"] == "exemption-granted":
            found += [
                {**event, "partition": number, "key": value["exemption_id"]}
                for number in range(PARTITIONS)
            ]
        else:
            key = value["order_id"]
            partition = (murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS
            found.append({**event, "partition": partition, "key": key})
    return found


def surge(orders: int) -> list[dict[str, Any]]:
    """Make a month of orders: some late, some closed or reported late, appeals, an exemption."""
    draw = random.Random(7)
    start = int(time.time() * 1000) - 30 * 24 * HOUR
    events: list[tuple[int, str, dict[str, Any]]] = []
    for number in range(orders):
        order_id, paid = f"O{number:06}", start + number * 20 * 24 * HOUR // orders
        order = {"order_id": order_id}
        parcel = order | {"tracking_number": f"SF{number}", "carrier": "SF"}
        events.append((paid + 5, "order-paid", order | {
            "shop_id": f"S{int(draw.paretovariate(0.6)) % 400}", "product_ids": [f"P{number % 50}"],
            "shipping_mode": "normal", "placed_at": paid - 1000, "paid_at": paid,
            "paid_amount": 9900,
        }))  # fmt: skip
        uploaded = paid + draw.randrange(HOUR, 20 * HOUR)
        events.append((uploaded, "tracking-number-uploaded", parcel | {"uploaded_at": uploaded}))
        scanned = paid + draw.randrange(21 * HOUR, draw.choice([60, 70, 140]) * HOUR)
        reported = scanned + draw.choice([0, 0, 0, 50 * HOUR])
        events.append((reported, "first-scan", parcel | {"scanned_at": scanned}))
        if number % 50 == 0:
            closed = paid + 30 * HOUR
            events.append(
                (closed, "order-closed", order | {"closed_at": closed, "reason": "refunded"})
            )
            decided = paid + 100 * HOUR
            events.append((decided, "appeal-decided", order | {
                "appeal_id": f"A{number}", "violation_id": f"{order_id}:late-scan:1",
                "outcome": "granted", "decided_at": decided,
            }))  # fmt: skip
    granted = start + 5 * 24 * HOUR
    events.append((granted, "exemption-granted", {
        "exemption_id": "X1", "source": "platform", "granted_at": granted,
        "effect": {"extend_by": 24 * HOUR}, "scope": {"shop_ids": ["S1", "S2"]},
    }))  # fmt: skip
    events.sort(key=lambda event: event[0])
    return placed([{"topic": t, "timestamp": at, "value": value} for at, t, value in events])


async def send(bootstrap: str, events: list[dict[str, Any]]) -> None:
    """Write events to the inputs."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=10) as producer:
        for event in events:
            await producer.send(
                event["topic"], orjson.dumps(event["value"]), event["key"].encode(),
                partition=event["partition"], timestamp_ms=event["timestamp"],
            )  # fmt: skip


def simulated(events: list[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    """Return what a simulation up to now puts out."""
    policy = load_rulebook(["douyin-first-scan"])
    lines = simulate(map(orjson.dumps, events), policy, until=int(time.time() * 1000))
    records = map(json.loads, lines)
    return Counter((r["topic"], r["key"], json.dumps(r["value"])) for r in records)


async def outputs(bootstrap: str, at_least: int) -> Counter[tuple[str, str, str]]:
    """Return the committed outputs once that many are there and no more come."""
    found: Counter[tuple[str, str, str]] = Counter()
    consumer = AIOKafkaConsumer(
        *OUTPUT_TOPICS, bootstrap_servers=bootstrap, auto_offset_reset="earliest",
        isolation_level="read_committed", enable_auto_commit=False,
    )  # fmt: skip
    await consumer.start()
    give_up_s = time.monotonic() + 90
    quiet_s = time.monotonic()
    while time.monotonic() < give_up_s:
        fetched = await consumer.getmany(timeout_ms=200)
        for records in fetched.values():
            quiet_s = time.monotonic()
            for record in records:
                value = json.dumps(json.loads(record.value))
                found[record.topic, record.key.decode(), value] += 1
        if found.total() >= at_least and time.monotonic() - quiet_s > 1.5:
            break
    await consumer.stop()
    return found


async def test_a_scenario_runs_live_as_it_is_simulated(topics: str) -> None:
    """Exemption, revocation, ban and settlement: the same records from a file and from Kafka."""
    case = json.loads((CASES / "11-exemption-after-three-determinations.json").read_text())
    events = placed(case["events"])
    await send(topics, events)
    expected = simulated(events)
    with worker(topics) as process:
        found = await outputs(topics, expected.total())
        log = stop(process)
    assert found == expected
    assert "Traceback" not in log


SHORT_SESSION = """
from streams.cli import main
from streams.runtime.settings import Settings

Settings.__init__.__kwdefaults__["session_timeout_ms"] = 3_000
main()
"""


class HastyWorker(WorkerProcess):
    """A worker whose death or sleep its group notices soon."""

    program = ("-c", SHORT_SESSION)

    def owns(self) -> str:
        """Return the order partitions of its last assignment."""
        found = re.findall(r"assigned stage=orders partitions=(\S+)", self.log)
        return found[-1] if found else "none"


@contextmanager
def hasty(bootstrap: str, log_path: Path, *options: str) -> Iterator[HastyWorker]:
    """Run such a worker; kill it if the test has not ended it."""
    running = HastyWorker(Connection(bootstrap), log_path, *options)
    try:
        yield running
    finally:
        running.kill()


async def test_killed_workers_lose_and_repeat_nothing(topics: str, tmp_path: Path) -> None:
    """Whatever instant a worker dies at, the next one goes on from the last transaction."""
    events = surge(6_000)
    await send(topics, events)
    expected = simulated(events)
    draw = random.Random(3)
    for life in range(3):
        with hasty(topics, tmp_path / f"{life}.log") as victim:
            # Before that it has nothing to lose.
            await until(lambda victim=victim: "restored" in victim.log, 60)  # type: ignore[misc]
            await asyncio.sleep(draw.uniform(0.5, 2))
    with hasty(topics, tmp_path / "last.log") as survivor:
        found = await outputs(topics, expected.total())
        assert survivor.stop(5) == 0
    assert found == expected


def workers_of(supervisor: psutil.Process) -> list[psutil.Process]:
    """Return the worker processes that have begun to run our code."""
    children = supervisor.children()
    return [child for child in children if "streams.runtime.supervised" in child.cmdline()]


async def test_two_processes_share_the_work(topics: str, tmp_path: Path) -> None:
    """A supervisor with two workers gives the same records, also when one of them is killed."""
    events = surge(6_000)
    await send(topics, events)
    expected = simulated(events)
    with hasty(topics, tmp_path / "log", "--workers", "2") as both:
        await until(lambda: "restored" in both.log, 60)
        workers_of(psutil.Process(both.process.pid))[0].kill()
        found = await outputs(topics, expected.total())
        assert both.stop(5) == 0
    assert found == expected
    assert "worker-died" in both.log
    assert both.log.count(" stopped ") >= 2


async def test_a_worker_that_slept_longer_than_its_session_comes_back(
    topics: str, tmp_path: Path
) -> None:
    """Another takes over what it held; awake, it writes nothing of that, and joins again."""
    events = surge(6_000)
    await send(topics, events)
    expected = simulated(events)
    all_of_them = f"0-{PARTITIONS - 1}"
    with (
        hasty(topics, tmp_path / "sleeper.log") as sleeper,
        hasty(topics, tmp_path / "other.log") as other,
    ):
        await until(lambda: not {sleeper.owns(), other.owns()} & {"none", all_of_them}, 60)
        sleeper.process.send_signal(signal.SIGSTOP)
        await until(lambda: other.owns() == all_of_them, 60)
        sleeper.process.send_signal(signal.SIGCONT)
        await outputs(topics, expected.total())
        assert other.stop(5) == 0
        # Now all is the sleeper's: refused records show that it works.
        later = placed([
            {"topic": "order-paid", "timestamp": int(time.time() * 1000),
             "value": {"order_id": f"X{number}"}}
            for number in range(20)
        ])  # fmt: skip
        await send(topics, later)
        expected = simulated(events + later)
        found = await outputs(topics, expected.total())
        assert sleeper.stop(5) == 0
    assert found == expected
    assert "Traceback" not in sleeper.log + other.log


async def test_missing_topics_are_said_in_one_line(broker: str) -> None:
    """A worker on an empty cluster says what to do and exits with 1."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    await delete_topics(admin)
    await admin.close()
    with worker(broker) as process:
        _, log = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 1
    assert log.count("error: ") == 1
    assert f"error: the cluster at {broker} has none of the worker's topics" in log
    assert "hint: create them with: shipclock topics create" in log
    assert "Traceback" not in log


async def test_some_missing_topics_are_named(topics: str) -> None:
    """What is there is not listed with what is not."""
    admin = AIOKafkaAdminClient(bootstrap_servers=topics)
    await admin.start()
    await admin.delete_topics(["orders-changelog"])
    while "orders-changelog" in await admin.list_topics():
        await asyncio.sleep(0.1)
    await admin.close()
    with worker(topics) as process:
        _, log = await asyncio.to_thread(process.communicate, timeout=20)
    assert process.returncode == 1
    assert "error: topics do not exist: orders-changelog\n" in log


async def test_a_worker_without_a_broker_waits_and_can_be_stopped() -> None:
    """The broker may come later; until then a line says so now and then."""
    with worker("127.0.0.1:1") as process:
        assert process.stderr is not None
        log = ""
        while "broker-unreachable" not in log:
            line = await asyncio.to_thread(process.stderr.readline)
            assert line, log
            log += line
        # Time enough for another try.
        await asyncio.sleep(4)
        log += stop(process)
    assert log.count("broker-unreachable") == 1
    assert "Traceback" not in log


def test_an_unknown_policy_is_wrong_usage() -> None:
    """A mistyped policy is named before anything is connected."""
    with worker("127.0.0.1:1", "--policy", "no-such") as process:
        _, log = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "error: no policy or file named no-such" in log
