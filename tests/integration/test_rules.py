"""Two sets of rules under one app id: real workers on a real broker."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.kafka.connection import Connection
from streams.testing.cluster import WorkerProcess, empty_topics, restored
from tests.integration.test_runtime_transport import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

POLICY = Path(__file__).parents[2] / "streams" / "rulebook" / "packs" / "douyin-first-scan.toml"
PARTITIONS = 3
ALL = f"partitions=0-{PARTITIONS - 1} "


@pytest.fixture
async def connection(broker: str) -> Connection:
    """Give a cluster with empty topics."""
    found = Connection(broker)
    await empty_topics(found, PARTITIONS)
    return found


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Write a policy that keeps name and version, and says something else."""
    path = tmp_path / "other.toml"
    text = POLICY.read_text()
    assert '"72h after placed"' in text
    path.write_text(text.replace('"72h after placed"', '"73h after placed"'))
    return str(path)


@contextmanager
def running(connection: Connection, log: Path, *options: str) -> Iterator[WorkerProcess]:
    """Run a worker; kill it if the test has not ended it."""
    worker = WorkerProcess(connection, log, *options)
    try:
        yield worker
    finally:
        worker.kill()


async def ended(worker: WorkerProcess) -> int:
    """Return the exit code of a worker that must end by itself."""
    return await asyncio.to_thread(worker.process.wait, 40)


async def test_other_rules_are_not_let_in_beside_live_ones(
    connection: Connection, tmp_path: Path, other: str
) -> None:
    """The line names both digests; the live worker notices nothing, and equal rules are let in."""
    with running(connection, tmp_path / "live.log") as live:
        await until(lambda: len(restored(live.log)) == 2 * PARTITIONS, 40)
        with running(connection, tmp_path / "other.log", "--policy", other) as refused:
            assert await ended(refused) == 1
        with running(connection, tmp_path / "same.log", "--workers", "2") as same:
            await until(lambda: len(restored(same.log)) >= 2, 40)
            assert same.stop() == 0
        assert live.stop() == 0
    digests = set(re.findall(r"\(digest (\w+)\)", refused.log))
    assert len(digests) == 2
    assert refused.log.count("error: live workers of the group shipclock-") == 1
    assert "hint: start all with the same policy; to change it, stop the others" in refused.log
    assert "restored" not in refused.log
    assert "error" not in live.log + same.log
    # One that is alone may judge by any rules, and says what changes.
    with running(connection, tmp_path / "alone.log", "--policy", other) as alone:
        await until(lambda: len(restored(alone.log)) == 2 * PARTITIONS, 40)
        assert alone.stop() == 0
    assert "policy-changed" in alone.log


async def test_a_policy_change_ends_the_workers_with_the_other_rules(
    connection: Connection, tmp_path: Path, other: str
) -> None:
    """In both stages, with what was done committed; and it says which orders it judges."""
    with running(connection, tmp_path / "old.log", "--workers", "2") as old:
        await until(lambda: len(restored(old.log)) == 2 * PARTITIONS, 40)
        arguments = ("--policy", other, "--policy-change")
        with running(connection, tmp_path / "new.log", *arguments) as new:
            assert await ended(old) == 1
            for stage in ("orders", "shops"):
                await until(lambda s=stage: f"assigned stage={s} {ALL}" in new.log, 40)  # type: ignore[misc]
            await until(lambda: len(restored(new.log)) == 2 * PARTITIONS, 40)
            assert new.stop() == 0
    assert "policy-change stage=orders" in new.log
    assert "judged by the new rules at its next event or timer" in new.log
    assert "live workers of the group shipclock-" in old.log
    assert "error" not in new.log.lower().replace("errors", "")


async def test_of_two_that_start_at_the_same_moment_one_at_most_works(
    connection: Connection, tmp_path: Path, other: str
) -> None:
    """Neither saw the other when it looked: the group's leader decides."""
    with (
        running(connection, tmp_path / "a.log") as one,
        running(connection, tmp_path / "b.log", "--policy", other) as two,
    ):
        await until(lambda: one.process.poll() is not None or two.process.poll() is not None, 60)
        await asyncio.sleep(3)
        codes = [worker.process.poll() for worker in (one, two)]
        # One that is killed counts as live for a while, and the next test waits for that.
        for worker in (one, two):
            if worker.process.poll() is None:
                assert worker.stop() == 0
    assert codes in ([None, 1], [1, None], [1, 1])


async def test_a_static_member_with_other_rules_is_another_member(
    connection: Connection, tmp_path: Path, other: str
) -> None:
    """Under its old name it would get its partitions without a rebalance, unseen by the others."""
    named = [("--set", f"group_instance_id={name}") for name in "ab"]
    with (
        running(connection, tmp_path / "a.log", *named[0]) as one,
        running(connection, tmp_path / "b.log", *named[1]) as two,
    ):
        await until(lambda: len(restored(one.log + two.log)) == 2 * PARTITIONS, 40)
        assert two.stop() == 0
        change = (*named[1], "--policy", other, "--policy-change")
        with running(connection, tmp_path / "new.log", *change) as new:
            assert await ended(one) == 1
            for stage in ("orders", "shops"):
                await until(lambda s=stage: f"assigned stage={s} {ALL}" in new.log, 40)  # type: ignore[misc]
            assert new.stop() == 0
    assert "live workers of the group shipclock-" in one.log
