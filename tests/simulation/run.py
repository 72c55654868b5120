"""Seeds to results: one run, many runs in several processes, and the command that repeats one."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FrameType
from typing import NamedTuple

from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import make_plan
from tests.simulation.verdict import faults_of
from tests.simulation.world import World

_STUCK_S = 120


class Result(NamedTuple):
    """What came of a seed; `faults` is empty if all that must hold does."""

    seed: int
    faults: list[str]
    virtual_s: float
    commits: int
    takeovers: int


def run_seed(
    seed: int, mutant: str | None = None, trace: Callable[[str], None] | None = None
) -> Result:
    """Play one seed; with a mutant the named mistake is made in the runtime."""
    world = World(make_plan(seed), trace)
    if mutant is None:
        world.play()
    else:
        with MUTANTS[mutant](world):
            world.play()
    kafka = world.kafka
    return Result(
        seed, faults_of(world), world.loop.time(), len(kafka.commits), world.network.takeovers
    )


class Stuck(KeyboardInterrupt):
    """A callback that does not come back: no accident may catch this."""


def run_guarded(seed: int, mutant: str | None = None) -> Result:
    """Play one seed; what it raises, or a callback that spins for ever, is a fault of it."""

    def give_up(number: int, frame: FrameType | None) -> None:
        where = "".join(traceback.format_stack(frame, 3))
        raise Stuck(f"stuck for {_STUCK_S} s of real time:\n{where}")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_STUCK_S)
    try:
        return run_seed(seed, mutant)
    except Stuck as exc:
        return Result(seed, [str(exc)], 0.0, 0, 0)
    except Exception:  # noqa: BLE001 - one seed must not end a run of thousands
        return Result(seed, [traceback.format_exc()], 0.0, 0, 0)
    finally:
        signal.alarm(0)


def run_seeds(seeds: Iterable[int], processes: int, mutant: str | None = None) -> Iterator[Result]:
    """Play many seeds, in any order."""
    play = partial(run_guarded, mutant=mutant)
    if processes == 1:
        yield from map(play, seeds)
        return
    # Fresh interpreters: a fork would share what the runtime's modules hold.
    with multiprocessing.get_context("spawn").Pool(processes, _leave_ctrl_c_to_us) as pool:
        yield from pool.imap_unordered(play, seeds, chunksize=4)


def _leave_ctrl_c_to_us() -> None:
    """Ctrl-C goes to the whole group; it is the parent who ends the processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def command_of(seed: int, mutant: str | None = None) -> str:
    """Return the one command that repeats a seed, and shows every step."""
    option = f" --mutant {mutant}" if mutant else ""
    return f"python3 dev.py run python -m tests.simulation {seed}{option} --trace"


def told(result: Result, mutant: str | None = None) -> str:
    """Say in words what is wrong with a result, and how to repeat it."""
    lines = [f"seed {result.seed}:", *(f"  {fault}" for fault in result.faults[:10])]
    if len(result.faults) > 10:
        lines.append(f"  and {len(result.faults) - 10} more")
    return "\n".join([*lines, f"repeat it: {command_of(result.seed, mutant)}"])


class Progress:
    """How far many runs are: how many a second, how long for the rest, which ones failed."""

    def __init__(self, seeds: range) -> None:
        self._seeds = seeds
        self._started_s = self._reported_s = time.monotonic()
        self._ahead: set[int] = set()
        """Seeds done beyond the first one that is not."""
        self.next = seeds.start
        """All before it are done."""
        self.done = self.commits = self.takeovers = 0
        self.virtual_s = 0.0
        self.failed: list[int] = []

    def add(self, result: Result) -> str | None:
        """Count a result; now and then return a line to be shown."""
        self.done += 1
        self.commits += result.commits
        self.takeovers += result.takeovers
        self.virtual_s += result.virtual_s
        if result.faults:
            self.failed.append(result.seed)
        self._ahead.add(result.seed)
        while self.next in self._ahead:
            self._ahead.remove(self.next)
            self.next += 1
        now_s = time.monotonic()
        if now_s - self._reported_s < 10:
            return None
        self._reported_s = now_s
        left_s = (len(self._seeds) - self.done) / self.rate
        return (
            f"{self.done} of {len(self._seeds)} seeds, {self.rate:.1f} a second, "
            f"{left_s / 60:.0f} min to go, failed: {sorted(self.failed) or 'none'}"
        )

    @property
    def rate(self) -> float:
        """Seeds a second so far."""
        return self.done / max(0.001, time.monotonic() - self._started_s)

    def summary(self) -> str:
        """Say what was played, and how to go on where it was interrupted."""
        played = (
            f"{self.done} seeds in {time.monotonic() - self._started_s:.0f} s "
            f"({self.rate:.1f} a second), {len(self.failed)} failed: "
            f"{self.virtual_s / 3600:.1f} hours of virtual time, {self.commits} transactions "
            f"committed, partitions taken over {self.takeovers} times"
        )
        lines = [played]
        if self.failed:
            lines.append(f"failed: {sorted(self.failed)}")
        if left := self._seeds.stop - self.next:
            lines.append(f"not all was played; go on with: --first {self.next} --seeds {left}")
        return "\n".join(lines)
