"""What workers cost while nothing arrives: bytes on the broker's disk, transactions, CPU.

Run: python bench/idle.py [--seconds S] [--partitions N] [--workers N] [--settle S]

Starts a broker and workers on empty topics, waits until all partitions are restored and then
`--settle` seconds more, and measures for `--seconds`: how the logs on the broker's disk grow, by
topic, the offsets they gain (records and the markers of transactions), transactions, the CPU time
of the workers and of the broker. Ten minutes are the figure to quote; one is enough to see a
change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil
from aiokafka import TopicPartition

from streams.broker import EmbeddedBroker
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.testing import cluster

DAY_S = 86_400
STARTED_TIMEOUT_S = 180
STAGES = 2
HEAD = ("topic", "bytes/day", "offsets/s")


class Sample(NamedTuple):
    """What had been used up at one moment."""

    at_s: float
    bytes: Counter[str]
    """Size of the logs, by topic."""
    offsets: Counter[str]
    """Ends of the logs, by topic."""
    transactions: float
    workers_cpu_s: float
    broker_cpu_s: float


class Probe:
    """Reads what workers and their broker have used so far."""

    def __init__(
        self, broker: EmbeddedBroker, logs: Path, workers: Sequence[int], ports: Sequence[int]
    ) -> None:
        self._connection = Connection(broker.bootstrap)
        self._logs = logs
        self._workers = [psutil.Process(pid) for pid in workers]
        self._broker = [
            child
            for child in psutil.Process().children(recursive=True)
            if child not in self._workers
        ]
        self._ports = ports

    async def sample(self) -> Sample:
        return Sample(
            time.monotonic(),
            self._sizes(),
            await self._ends(),
            sum(map(transactions, self._ports)),
            cpu_s(self._workers),
            cpu_s(self._broker),
        )

    def _sizes(self) -> Counter[str]:
        sizes: Counter[str] = Counter()
        for segment in self._logs.glob("*-[0-9]*/*.log"):
            sizes[segment.parent.name.rpartition("-")[0]] += segment.stat().st_size
        return sizes

    async def _ends(self) -> Counter[str]:
        consumer = self._connection.consumer()
        await consumer.start()
        try:
            places = [
                TopicPartition(topic, int(number))
                for folder in self._logs.glob("*-[0-9]*")
                for topic, _, number in [folder.name.rpartition("-")]
                if not topic.startswith("__")
            ]
            ends: Counter[str] = Counter()
            for tp, end in (await consumer.end_offsets(places)).items():
                ends[tp.topic] += end
            return ends
        finally:
            await consumer.stop()


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Add up the CPU time of some processes, in seconds."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def transactions(port: int) -> float:
    """Read how many transactions a worker has committed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    name = "shipclock_transactions_total{"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def free_port() -> int:
    """Find a port that nothing listens at."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def main() -> None:
    """Measure once and print the table and a JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600, metavar="S")
    parser.add_argument("--settle", type=float, default=20, metavar="S")
    parser.add_argument("--partitions", type=int, default=12, metavar="N")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shipclock-idle-")))
        broker = stack.enter_context(EmbeddedBroker(folder / "broker"))
        connection = Connection(broker.bootstrap)
        asyncio.run(ensure_topics(connection, options.partitions))
        ports = [free_port() for _ in range(options.workers)]
        workers = []
        for number, port in enumerate(ports):
            worker = cluster.WorkerProcess(
                connection, folder / f"worker-{number}.log", "--metrics-port", str(port)
            )
            stack.callback(worker.stop)
            workers.append(worker)
        wait_until_restored(workers, STAGES * options.partitions)
        time.sleep(options.settle)
        logs = next((folder / "broker").rglob("__cluster_metadata-0")).parent
        probe = Probe(broker, logs, [worker.process.pid for worker in workers], ports)
        before = asyncio.run(probe.sample())
        time.sleep(options.seconds)
        report(before, asyncio.run(probe.sample()), options)


def wait_until_restored(workers: Sequence[cluster.WorkerProcess], partitions: int) -> None:
    """Wait until the workers have restored all partitions between them."""
    deadline_s = time.monotonic() + STARTED_TIMEOUT_S
    while sum(len(cluster.restored(worker.log)) for worker in workers) < partitions:
        if time.monotonic() > deadline_s or any(w.process.poll() is not None for w in workers):
            raise SystemExit("\n".join(worker.log for worker in workers))
        time.sleep(0.2)


def report(before: Sample, after: Sample, options: argparse.Namespace) -> None:
    """Print what was used between two samples."""
    seconds = after.at_s - before.at_s
    per_day = DAY_S / seconds
    grown = {topic: after.bytes[topic] - before.bytes[topic] for topic in sorted(after.bytes)}
    gained = {topic: after.offsets[topic] - before.offsets[topic] for topic in grown}
    rows = [HEAD] + [
        (topic, f"{grown[topic] * per_day:,.0f}", f"{gained[topic] / seconds:.2f}")
        for topic in grown
        if grown[topic]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    total = sum(grown.values())
    result = {
        "partitions": options.partitions,
        "workers": options.workers,
        "seconds": round(seconds),
        "mb_per_day": round(total * per_day / 1e6, 1),
        "transactions_per_s": round((after.transactions - before.transactions) / seconds, 2),
        "offsets_per_s": round(sum(gained.values()) / seconds, 2),
        "workers_core_percent": round(
            100 * (after.workers_cpu_s - before.workers_cpu_s) / seconds, 2
        ),
        "broker_core_percent": round(100 * (after.broker_cpu_s - before.broker_cpu_s) / seconds, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
