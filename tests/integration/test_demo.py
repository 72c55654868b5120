"""The demo as people run it: it adds up, and whatever ends it, nothing is left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer

from streams.broker import EmbeddedBroker
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from tests.integration.processes import still_running

pytestmark = pytest.mark.kafka

DEMO = [sys.executable, "-m", "streams", "demo", "--orders", "200"]
FAST = ["--speed", "40000"]
STORY_LINE = re.compile(r"\d\d-\d\d \d\d:\d\d  ")
SIGNAL_EXIT = 130
# A worker hears of its parent's end a moment later, or when it gets a core.
SOON_S = 5.0


class Run:
    """A demo in a process of its own, and every process it has started so far."""

    def __init__(self, tmp: Path, *options: str) -> None:
        self.tmp = tmp
        self.process = subprocess.Popen(
            [*DEMO, *options],
            env=os.environ | {"TMPDIR": str(tmp), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started: set[psutil.Process] = set()
        self.text = ""

    def wait_for(self, pattern: str) -> None:
        """Read on until a line matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.note_children()
            self.text += line
            if re.match(pattern, line):
                return
        pytest.fail(f"the demo ended early:\n{self.text}")

    def close(self) -> None:
        """Kill what a failed test leaves."""
        self.process.kill()
        self.process.communicate()
        for process in self.alive(5.0):
            process.kill()

    def note_children(self) -> None:
        """Remember the processes that run now, the broker's and the worker's among them."""
        self.started.update(psutil.Process(self.process.pid).children(recursive=True))

    def end(self, seconds: float = 30.0) -> int:
        """Read the rest; return the exit code."""
        self.text += self.process.communicate(timeout=seconds)[0]
        return self.process.returncode

    def alive(self, patience_s: float = 0.0) -> list[psutil.Process]:
        """Name what still runs of all that was started."""
        return still_running(self.started, patience_s)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start demos, and close them at the end."""
    runs: list[Run] = []

    def start(*options: str) -> Run:
        runs.append(Run(tmp_path, *options))
        return runs[-1]

    yield start
    for each in runs:
        each.close()


def test_demo_adds_up_and_leaves_nothing(run: Callable[..., Run], tmp_path: Path) -> None:
    """A whole demo: every kind of line, sums that hold, no process and no folder afterwards."""
    demo = run(*FAST)
    demo.wait_for(STORY_LINE.pattern)
    assert demo.end(90) == 0, demo.text
    assert "It adds up." in demo.text.splitlines()
    assert "The lines are a selection; the sums at the end count all." in demo.text
    assert re.findall(r"(?<![\d,.])1 (?:timeouts|bans|warnings|dead letters)\b", demo.text) == []
    assert "\x1b" not in demo.text
    words = {line[13:25].strip() for line in demo.text.splitlines() if STORY_LINE.match(line)}
    assert words >= {
        *("order", "scan", "late scan", "exemption", "appeal", "warning", "dead letter"),
        *("timeout", "corrected", "points", "settled", "reversed", "ban", "ban lifted"),
    }
    assert demo.alive(SOON_S) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        pytest.param("format", signal.SIGINT, marks=pytest.mark.long),
        ("start", signal.SIGINT),
        pytest.param("start", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("worker", signal.SIGINT, marks=pytest.mark.long),
        pytest.param("story", signal.SIGINT, marks=pytest.mark.long),
        ("story", signal.SIGTERM),
        pytest.param("story", signal.SIGHUP, marks=pytest.mark.long),
    ],
)
def test_a_signal_leaves_nothing(
    run: Callable[..., Run], tmp_path: Path, phase: str, number: signal.Signals
) -> None:
    """Ctrl-C, `kill` and a closed terminal stop everything, whatever is going on."""
    demo = run()
    after, more_s = {
        "format": ("Preparing", 0.3),
        "start": ("Starting", 1.0),
        "worker": ("Times are", 1.0),
        "story": (STORY_LINE.pattern, 1.0),
    }[phase]
    demo.wait_for(after)
    time.sleep(more_s)
    demo.note_children()
    assert demo.started
    # As from a terminal: the signal goes to the whole group.
    os.killpg(demo.process.pid, number)
    assert demo.end() == SIGNAL_EXIT, demo.text
    assert demo.alive(SOON_S) == []
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in demo.text
    assert "Stopping." in demo.text


@pytest.mark.long
def test_impatience_leaves_nothing(run: Callable[..., Run], tmp_path: Path) -> None:
    """Further Ctrl-C while it tidies up do not disturb it."""
    demo = run()
    demo.wait_for(STORY_LINE.pattern)
    for _ in range(5):
        os.killpg(demo.process.pid, signal.SIGINT)
        time.sleep(0.05)
    assert demo.end() == SIGNAL_EXIT, demo.text
    assert demo.alive(SOON_S) == []
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in demo.text


def test_killed_demo_takes_its_processes_along(run: Callable[..., Run]) -> None:
    """Not even SIGKILL leaves a broker or a worker behind."""
    demo = run()
    demo.wait_for(STORY_LINE.pattern)
    demo.process.kill()
    assert demo.alive(10.0) == []


@pytest.mark.parametrize(
    ("victim", "is_victim"),
    [
        ("worker", lambda process: "streams.runtime.supervised" in process.cmdline()),
        pytest.param("broker", lambda process: process.name() == "java", marks=pytest.mark.long),
    ],
)
def test_a_death_is_an_error(
    run: Callable[..., Run],
    tmp_path: Path,
    victim: str,
    is_victim: Callable[[psutil.Process], bool],
) -> None:
    """A demo that has lost its worker or its broker says so and fails."""
    demo = run()
    demo.wait_for(STORY_LINE.pattern)
    (process,) = filter(is_victim, demo.alive())
    process.kill()
    assert demo.end() == 1
    assert f"error: the {victim} has ended" in demo.text
    assert demo.alive(SOON_S) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
async def test_guest_is_careful(
    run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On somebody's broker it asks first, then shares its topics with nobody."""
    with EmbeddedBroker(tmp_path_factory.mktemp("host")) as host:
        at_host = ("--bootstrap", host.bootstrap)

        asking = run(*at_host)
        assert asking.end() == 2
        assert "error: the demo would write made-up orders into new topics" in asking.text

        first = run(*at_host, "--yes", *FAST)
        assert first.end(90) == 0, first.text
        assert "It adds up." in first.text

        second = run(*at_host, "--yes")
        assert second.end() == 1
        assert "hold records already" in second.text


@pytest.mark.long
async def test_guest_does_not_meet_a_worker(
    run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where a worker waits for orders, the demo refuses: both would judge its records."""
    with EmbeddedBroker(tmp_path_factory.mktemp("host")) as host:
        await ensure_topics(Connection(host.bootstrap), 1)
        async with AIOKafkaConsumer(
            "order-paid", bootstrap_servers=host.bootstrap, group_id="shipclock-orders"
        ):
            demo = run("--bootstrap", host.bootstrap, "--yes")
            assert demo.end() == 1
            assert "a worker runs at" in demo.text
            assert "shipclock-orders" in demo.text
