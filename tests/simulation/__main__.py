"""Play seeds: `python -m tests.simulation SEED [--trace]` or `--seeds N [--first SEED]`."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.simulation.mutants import MUTANTS
from tests.simulation.run import Progress, Result, run_seed, run_seeds, told


def main() -> int:
    """Return 0 if all seeds hold, 1 if one does not; with a mutant, that is what it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="play this one")
    parser.add_argument("--trace", action="store_true", help="show every step of it")
    parser.add_argument("--seeds", type=int, metavar="N", help="play so many")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="from this one on")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this mistake made")
    options = parser.parse_args()
    if (options.seed is None) == (options.seeds is None):
        parser.error("give one seed, or --seeds N")
    if options.seed is not None:
        return _play_one(options.seed, options.mutant, options.trace)
    return _play_many(options)


def _play_one(seed: int, mutant: str | None, trace: bool) -> int:
    result = run_seed(seed, mutant, print if trace else None)
    if result.faults:
        print(told(result, mutant))
        return 1
    print(f"seed {seed} holds: {result.virtual_s:.0f} s of virtual time, {result.commits} commits")
    return 0


def _play_many(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seeds = range(options.first, options.first + options.seeds)
    progress = Progress(seeds)
    failed: list[Result] = []
    interrupted = False
    try:
        for result in run_seeds(seeds, options.processes, options.mutant):
            if result.faults:
                failed.append(result)
                print(told(result, options.mutant), flush=True)
            if line := progress.add(result):
                print(line, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        interrupted = True
    print(progress.summary())
    if failed:
        print(f"the first: {told(min(failed), options.mutant)}")
    return 130 if interrupted else int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
