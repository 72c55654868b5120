"""The loop's time is its own, and a process of it can be stopped at any step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.simulation.loop import Process, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """Return a loop at second 0."""
    loop = VirtualLoop()
    yield loop
    loop.close()


async def count_seconds(counted: list[float]) -> None:
    """Note the time once a second."""
    while True:
        await asyncio.sleep(1)
        counted.append(asyncio.get_running_loop().time())


def play(loop: VirtualLoop, seconds: float) -> None:
    """Let time pass."""
    loop.run_until_complete(asyncio.sleep(seconds))


def end(loop: VirtualLoop, process: Process) -> None:
    """Cancel what a process still runs."""
    loop.thaw(process)
    for task in process.tasks:
        task.cancel()
    play(loop, 0.1)


def test_a_year_takes_no_time(loop: VirtualLoop) -> None:
    """With nothing else to do the loop jumps to the next timer."""
    play(loop, 365 * 86_400)
    assert loop.time() == 365 * 86_400


def test_a_frozen_process_sleeps_and_goes_on(loop: VirtualLoop) -> None:
    """Its timers fire late, as after SIGCONT; others do not notice."""
    process, counted, others = Process("p"), list[float](), list[float]()
    loop.start(process, count_seconds(counted))
    other = loop.create_task(count_seconds(others))
    play(loop, 2.5)
    loop.freeze(process)
    play(loop, 5)
    assert counted == [1, 2]
    loop.thaw(process)
    play(loop, 1.2)
    assert counted == [1, 2, 7.5, 8.5]
    assert others == [1, 2, 3, 4, 5, 6, 7, 8]
    other.cancel()
    end(loop, process)


def test_a_killed_process_cleans_nothing_up(loop: VirtualLoop) -> None:
    """Not even `finally` runs, nor what its tasks have started."""
    process, said = Process("p"), list[str]()

    async def work() -> None:
        try:
            await asyncio.create_task(asyncio.sleep(1))
        finally:
            said.append("cleaned up")

    loop.start(process, work())
    play(loop, 0.5)
    loop.kill(process)
    play(loop, 10)
    assert said == []
    end(loop, process)


def test_a_loop_in_which_nothing_can_happen_says_so(loop: VirtualLoop) -> None:
    """A deadlock is an error at once, not a test that hangs."""
    waiting = loop.create_task(asyncio.Event().wait())
    with pytest.raises(RuntimeError, match="nothing is left"):
        loop.run_until_complete(waiting)
    waiting.cancel()
    play(loop, 0)
