"""Seeds that must hold, mistakes that must be noticed, and the same seed always the same run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import Result, command_of, run_seed, told

SEEDS = 200
MUTANT_SEEDS_MAX = 60
NOTICED_AT = {
    "ends-of-later": 55, "impatient": 61, "memory-kept": 19, "no-fencing": 16, "no-prove": 990,
    "refused-batch-forgotten": 27,
    "endless-restore": 71, "endless-fetch": 3, "stop-awaited": 3,
}  # fmt: skip
"""Where a mistake was first noticed when this was written: tried first, to be spared the search."""
ACCIDENTS = (
    "killed", "asleep", "restart", "outage", "rebalance", "compact", "lost",
    "InvalidProducerEpoch", "RequestTimedOutError", "log fenced", "log failed", "log restored",
    "hangs", "for inf s", "half-open",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_seed_holds(seed: int) -> None:
    """Whatever happens on the way, nothing is lost, nothing is there twice, all is judged right."""
    result = run_seed(seed)
    assert not result.faults, told(result)


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_mistake_is_noticed(mutant: str) -> None:
    """A runtime with this mistake fails within the first seeds, or at the one that is known."""
    seeds = [NOTICED_AT.get(mutant, 0), *range(MUTANT_SEEDS_MAX)]
    assert any(run_seed(seed, mutant).faults for seed in seeds)


def test_accidents_happen() -> None:
    """The seeds are not a walk in the park: every kind of accident comes up among a few."""
    said: Counter[str] = Counter()

    def listen(line: str) -> None:
        said.update(what for what in ACCIDENTS if what in line)

    for seed in range(20):
        run_seed(seed, trace=listen)
    assert sorted(said) == sorted(ACCIDENTS)


@pytest.mark.parametrize("seed", [7, 19])
def test_a_seed_is_always_the_same_run(seed: int) -> None:
    """Step by step, whatever the interpreter's hash seed, and after other runs as well."""
    command = [sys.executable, "-m", "tests.simulation", str(seed), "--trace"]
    traces = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout.decode()
        for hash_seed in ("0", "4242")
    }
    lines: list[str] = []
    run_seed(seed + 1)
    run_seed(seed, trace=lines.append)
    assert len(traces) == 1
    assert traces.pop().splitlines()[:-1] == lines


def test_a_failing_seed_tells_the_command_that_repeats_it() -> None:
    """One line to be copied; it plays that seed and shows every step."""
    failed = Result(4711, ["something is lost"], 1.0, 1, 1)
    assert "python3 dev.py run python -m tests.simulation 4711 --trace" in told(failed)
    assert command_of(5, "no-fencing").endswith(" 5 --mutant no-fencing --trace")
