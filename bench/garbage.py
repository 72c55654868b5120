"""What garbage among the events costs: the throughput job without it, then with it.

Run: python bench/garbage.py [--orders N] [--share PERCENT] [--rounds N] [--partitions N]
Each piece must stand in the dead letters exactly once, and the answer must be the same. Prints a
JSON line with the ratios of the medians; exits 1 if the job with garbage takes a fifth longer.
On a busy machine look at the processor time: it is the worker's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import throughput
import workload

from streams.broker import EmbeddedBroker

LONGER_MAX = 1.2


def main() -> None:
    """Run both in turns and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=300_000)
    parser.add_argument("--share", type=float, default=1.0, help="of the events, in percent")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    clean: list[dict[str, Any]] = []
    dirty: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        clean.append(run(options, 0.0))
        dirty.append(run(options, options.share / 100))
    longer = {
        measure: round(
            statistics.median(result[measure] for result in dirty)
            / statistics.median(result[measure] for result in clean),
            3,
        )
        for measure in ("wall_s", "cpu_s")
    }
    load = round(os.getloadavg()[0], 1)
    print(json.dumps({"longer": longer, "load": load, "clean": clean, "dirty": dirty}))
    sys.exit(longer["wall_s"] >= LONGER_MAX)


def run(options: argparse.Namespace, share: float) -> dict[str, Any]:
    """Run the throughput job once, on a broker of its own."""
    topics, answer = workload.make(options.orders)
    pieces = garbage(round(answer.events * share))
    job = throughput.Job(topics, answer, pieces)
    with (
        tempfile.TemporaryDirectory(prefix="shipclock-bench-") as folder,
        EmbeddedBroker(Path(folder) / "broker") as broker,
    ):
        return asyncio.run(
            throughput.measure(broker.bootstrap, Path(folder), job, partitions=options.partitions)
        )


def garbage(count: int, seed: int = 11) -> list[workload.Event]:
    """Make what no topic takes, spread over the job's days; every piece is one of its kind."""
    rng = random.Random(seed)
    pieces = []
    for number in range(count):
        at = workload.START_MS + rng.randrange(workload.SPAN_MS)
        order_id = f"{rng.randrange(10**12):012d}"
        topic = rng.choice(("order-paid", "tracking-number-uploaded", "first-scan"))
        whole = {
            "order_id": order_id, "tracking_number": f"T{number}", "carrier": "SF",
            "scanned_at": at, "uploaded_at": at,
        }  # fmt: skip
        key = order_id.encode()
        match number % 6:
            case 0:
                value = b"\xff\xfe %d" % number
            case 1:
                value = json.dumps(whole).encode()[: -rng.randrange(2, 20)] + b"%d" % number
            case 2:
                value = json.dumps({"order_id": order_id, "number": number}).encode()
            case 3:
                times = {"scanned_at": "today", "uploaded_at": None}
                value = json.dumps(whole | times).encode()
            case 4:
                key, topic, value = b"another", "first-scan", json.dumps(whole).encode()
            case _:
                late = {"scanned_at": at + workload.HOUR_MS}
                topic, value = "first-scan", json.dumps(whole | late).encode()
        pieces.append(workload.Event(at, topic, key, value))
    return pieces


if __name__ == "__main__":
    main()
