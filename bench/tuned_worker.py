"""`shipclock worker` with settings that its command does not offer, for measurements.

Run: python bench/tuned_worker.py --bootstrap HOST:PORT [--policy NAME|FILE] [--workers N]
     [--set NAME=NUMBER ...]     NAME is a field of streams.runtime.settings.Settings
"""

from __future__ import annotations

import argparse
import pickle

from streams.kafka.connection import Connection
from streams.rulebook import load_rulebook
from streams.runtime import logs
from streams.runtime.app import run_worker
from streams.runtime.settings import Settings
from streams.runtime.supervise import supervise


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--policy", default="douyin-first-scan")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER", type=setting)
    options = parser.parse_args()
    policy = load_rulebook([options.policy])
    settings = Settings(connection=Connection(options.bootstrap), **dict(options.set))
    logs.setup()
    if options.workers == 1:
        run_worker(settings, policy)
    else:
        supervise(pickle.dumps((settings, policy)), options.workers)


def setting(text: str) -> tuple[str, int]:
    """Read NAME=NUMBER."""
    name, _, number = text.partition("=")
    return name, int(number)


if __name__ == "__main__":
    main()
