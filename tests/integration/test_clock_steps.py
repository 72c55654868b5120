"""The machine's clock steps under a real worker, which runs under a `time` that a file shifts."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

import tests.integration.test_runtime_worker as live
from streams.kafka.connection import Connection
from streams.testing.cluster import WorkerProcess, load, now_ms, read
from tests.integration.test_time import (
    DAY,
    HOUR,
    free_port,
    is_live,
    key_in,
    order,
    scrape,
    until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

topics = live.topics

_FAKE = """
import os, time
wall, wall_ns = time.time, time.time_ns
def shift():
    with open(os.environ["FAKED_CLOCK"]) as file:
        return int(file.read() or 0)
time.time = lambda: wall() + shift()
time.time_ns = lambda: wall_ns() + shift() * 1_000_000_000
"""
FRONTIER = 'shipclock_frontier_ms{stage="orders"}'
AHEAD = 'shipclock_frontier_ahead_seconds{stage="orders"}'


class Faked:
    """A worker whose clock is set by hand."""

    def __init__(self, bootstrap: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bootstrap, self._folder = bootstrap, folder
        self._shift = folder / "shift"
        self.set(0)
        (folder / "sitecustomize.py").write_text(_FAKE)
        monkeypatch.setenv("FAKED_CLOCK", str(self._shift))
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        self.port = free_port()
        self.worker = self.start()

    def start(self) -> WorkerProcess:
        """Begin a worker process; what it says goes to the same file as before."""
        options = ("--metrics-port", str(self.port))
        self.worker = WorkerProcess(
            Connection(self._bootstrap), self._folder / "worker.log", *options
        )
        return self.worker

    def set(self, seconds: int) -> None:
        """Set its clock so far off, at once."""
        draft = self._shift.with_suffix(".draft")
        draft.write_text(str(seconds))
        draft.replace(self._shift)

    async def until(self, true: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Wait until its metrics satisfy a condition."""
        return await until(self.port, true)

    async def says(self, word: str, times: int = 1) -> None:
        """Wait until it has logged an event."""
        async with asyncio.timeout(60):
            while self.worker.log.count(f" {word} ") < times:
                await asyncio.sleep(0.1)


@pytest.fixture
async def faked(
    topics: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Faked]:
    """Give a worker that is live, under a clock that is right so far."""
    made = Faked(topics, tmp_path, monkeypatch)
    try:
        await made.until(is_live)
        yield made
    finally:
        made.worker.kill()


async def judged(bootstrap: str, name: str) -> None:
    """Send an order that falls due in two seconds, and wait until it is judged then."""
    due = now_ms() + 2_000
    await load(Connection(bootstrap), [order(key_in(0, name), due - 72 * HOUR, now_ms())])
    async with asyncio.timeout(20):
        while not any(
            orjson.loads(found.value or b"")["order_id"] == key_in(0, name)
            for found in await read(Connection(bootstrap), ["timeout"])
        ):
            await asyncio.sleep(0.2)
    assert now_ms() >= due


async def due_later(bootstrap: str) -> None:
    """Send orders that fall due in a minute, and in a month."""
    now = now_ms()
    at = [order(key_in(p, "L"), now + 60_000 - 72 * HOUR, now) for p in (0, 1)]
    await load(Connection(bootstrap), [*at, order(key_in(2, "L"), now + 30 * DAY - 72 * HOUR, now)])


@pytest.mark.parametrize("seconds", [100, 365 * 86_400])
async def test_a_clock_ahead_for_some_seconds_judges_nobody(
    topics: str, faked: Faked, seconds: int
) -> None:
    """It is said with its size, and afterwards orders are judged as soon as before."""
    await due_later(topics)
    faked.set(seconds)
    await faked.says("clock-stepped")
    await asyncio.sleep(3)
    assert scrape(faked.port)["shipclock_clock_trusted"] == 0
    faked.set(0)
    await faked.says("clock-back")
    assert await read(Connection(topics), ["timeout"]) == []
    await judged(topics, "N")
    assert (await faked.until(is_live))[AHEAD] == 0
    log = faked.worker.log
    assert re.search(r"ERROR clock-stepped by=\+(1m40s|365d0h) ", log), log
    assert log.count("clock-stepped") == log.count("clock-back") == 1
    assert "frontier-ahead" not in log


async def test_a_correction_is_believed_and_a_frontier_ahead_is_said(
    topics: str, faked: Faked
) -> None:
    """A clock that was ahead is set right: the frontier waits for it, and says until when."""
    faked.set(30)
    await faked.says("clock-confirmed")
    found = await faked.until(lambda found: found[FRONTIER] > (now_ms() + 28_000))
    assert found[AHEAD] == 0
    faked.set(0)
    await faked.says("clock-confirmed", 2)
    await faked.says("frontier-ahead")
    found = await faked.until(lambda found: found[AHEAD] > 5)
    assert found[AHEAD] < 30
    log = faked.worker.log
    said = re.search(r"ERROR frontier-ahead stage=orders by=\d+\.?\d*\S+ until=\S+Z ", log)
    assert said, log
    assert " idle stage=orders" not in log
    await faked.until(lambda found: found[AHEAD] == 0)
    await judged(topics, "N")


async def test_a_worker_started_a_year_ahead_judges_nobody(topics: str, faked: Faked) -> None:
    """The broker's clock says so; set right, the worker goes on by itself."""
    await due_later(topics)
    assert faked.worker.stop() == 0
    faked.set(365 * 86_400)
    faked.start()
    await faked.says("clock-differs")
    await asyncio.sleep(3)
    assert await read(Connection(topics), ["timeout", "order-closure"]) == []
    assert scrape(faked.port)[FRONTIER] < now_ms()
    faked.set(0)
    await faked.says("clock-confirmed")
    await judged(topics, "N")
    log = faked.worker.log
    assert re.search(r"ERROR clock-differs ahead_of_broker=\+365d0h ", log), log
