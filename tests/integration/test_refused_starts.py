"""Workers that may not start, as a person starts them: one clear line, an exit code, no more."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.core.facts.inputs import INPUT_TOPICS
from streams.kafka.connection import Connection
from streams.testing.cluster import WorkerProcess, empty_topics, restored
from tests.integration.test_runtime_transport import until
from tests.integration.topics import delete_topics

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

POLICY = Path(__file__).parents[2] / "streams" / "rulebook" / "packs" / "douyin-first-scan.toml"
PARTITIONS = 12
WORKERS = ("--workers", "2")


@pytest.fixture
async def connection(broker: str) -> Connection:
    """Give a cluster with empty topics."""
    found = Connection(broker)
    await empty_topics(found, PARTITIONS)
    return found


@pytest.fixture
async def admin(connection: Connection) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give a client that administrates."""
    client = connection.admin()
    await client.start()
    yield client
    await client.close()


async def recreate(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    """Delete a topic and create it with a number of partitions."""
    await admin.delete_topics([topic])
    async with asyncio.timeout(30):
        while topic in await admin.list_topics():
            await asyncio.sleep(0.1)
    await admin.create_topics([NewTopic(topic, partitions, 1)])


async def refused(connection: Connection, log: Path, *options: str) -> str:
    """Start workers that must end with exit code 1; return why.

    Each says it once, unless it is stopped before, as the first refusal ends them all.
    """
    worker = WorkerProcess(connection, log, *WORKERS, *options)
    try:
        assert await asyncio.to_thread(worker.process.wait, 60) == 1, worker.log
    finally:
        worker.kill()
    assert_clear(worker.log)
    said = of_kind(worker.log, "cannot-work")
    assert 1 <= len(said) <= 2, worker.log
    assert re.search(r"^error: worker \d cannot work$", worker.log, re.MULTILINE), worker.log
    return said[0]


def assert_clear(log: str) -> None:
    """No warning of Python's, no traceback, and no client that was not closed."""
    for noise in ("Traceback", "RuntimeWarning", "never awaited", "never retrieved", "Unclosed"):
        assert noise not in log, log


def of_kind(log: str, kind: str) -> list[str]:
    """Return the lines of a kind."""
    return re.findall(rf"^\S+Z \w+ +{kind} .*$", log, re.MULTILINE)


async def test_each_kind_of_refusal_is_one_line_and_an_exit_code(
    connection: Connection, admin: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    """Other rules than those at work, other partition counts, topics that are missing."""
    other = tmp_path / "other.toml"
    other.write_text(POLICY.read_text().replace('"72h after placed"', '"73h after placed"'))
    live = WorkerProcess(connection, tmp_path / "live.log")
    try:
        await until(lambda: len(restored(live.log)) == 2 * PARTITIONS, 60)
        line = await refused(connection, tmp_path / "rules.log", "--policy", str(other))
        assert "live workers of the group shipclock-" in line
        assert live.stop() == 0
    finally:
        live.kill()
    assert_clear(live.log)
    # 24 partitions have begun: that is a line for each moment, not for each of them.
    assert len(of_kind(live.log, "restored")) <= 8
    await recreate(admin, INPUT_TOPICS[1], 5)
    line = await refused(connection, tmp_path / "counts.log")
    assert "must have equal partition counts" in line
    await delete_topics(admin, INPUT_TOPICS[1])
    line = await refused(connection, tmp_path / "missing.log")
    assert f"topics do not exist: {INPUT_TOPICS[1]}" in line


async def test_what_all_partitions_refuse_is_one_line(
    connection: Connection, tmp_path: Path
) -> None:
    """Another app id finds state that is not its own, in each of 24 partitions."""
    first = WorkerProcess(connection, tmp_path / "first.log")
    try:
        await until(lambda: len(restored(first.log)) == 2 * PARTITIONS, 60)
        await asyncio.sleep(3)
        assert first.stop() == 0
    finally:
        first.kill()
    second = WorkerProcess(connection, tmp_path / "second.log", "--app-id", "other")
    try:
        await until(lambda: second.log.count(" refused ") >= 2, 60)
        await asyncio.sleep(3)
        assert second.stop() == 0
    finally:
        second.kill()
    assert_clear(second.log)
    told = of_kind(second.log, "refused")
    assert all("belongs to app id 'shipclock'" in line for line in told), second.log
    # Partitions begin within some seconds, each second's are a line.
    assert len(told) <= 8, second.log


async def test_a_broker_that_is_away_is_one_line_a_minute(tmp_path: Path) -> None:
    """The worker waits for it, and ends in good order when it is told to."""
    worker = WorkerProcess(Connection("127.0.0.1:1"), tmp_path / "away.log", *WORKERS)
    try:
        await until(lambda: worker.log.count("broker-unreachable") >= 2, 40)
        await asyncio.sleep(3)
        assert await asyncio.to_thread(worker.stop) == 0
    finally:
        worker.kill()
    assert_clear(worker.log)
