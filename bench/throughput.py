"""How many input events a second one worker process judges, broker on the same cores.

Run: python bench/throughput.py [--orders N] [--partitions N] [--workers N] [--policy NAME|FILE]
The topics are filled first; the clocks run from the worker's start of reading to its last commit.

Machines differ, and a shared one differs from itself within a minute. So the same run also measures
how fast the client library alone reads the same topics, right before and after: `of_reading` is the
worker's events per CPU-second against that.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import workload
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from streams.broker import EmbeddedBroker
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.rulebook import load_rulebook
from streams.testing import cluster

DEFAULT = "douyin-first-scan"


def main() -> None:
    """Run once and print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=500_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--policy", default=DEFAULT)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    known, asked = load_rulebook([DEFAULT]), load_rulebook([arguments.policy])
    if [(one.kinds, one.close_unshipped) for one in asked.policies] != [
        (one.kinds, one.close_unshipped) for one in known.policies
    ]:
        parser.error(
            f"{arguments.policy}: its kinds or its closure differ from those of {DEFAULT}, "
            "and the right answer is known for these alone"
        )
    with (
        tempfile.TemporaryDirectory(prefix="shipclock-bench-") as folder,
        EmbeddedBroker(Path(folder) / "broker") as broker,
    ):
        job = Job(*workload.make(arguments.orders))
        result = asyncio.run(
            measure(
                broker.bootstrap, Path(folder), job, partitions=arguments.partitions,
                workers=arguments.workers, policy=arguments.policy,
            )
        )  # fmt: skip
    print(json.dumps(result))


class Job(NamedTuple):
    """What a worker is given, and what must come of it."""

    topics: list[list[workload.Event]]
    answer: workload.Answer
    garbage: Sequence[workload.Event] = ()
    """Events that must be set aside, each once."""


async def measure(
    bootstrap: str,
    folder: Path,
    job: Job,
    *,
    partitions: int,
    workers: int = 1,
    policy: str = DEFAULT,
) -> dict[str, object]:
    """Load the job, run the worker over it, check the answer."""
    await ensure_topics(Connection(bootstrap), partitions)
    events = [*workload.merged(job.topics), *job.garbage]
    if job.garbage:
        events.sort()
    partition = DefaultPartitioner()
    numbers = list(range(partitions))
    records = (
        cluster.LogRecord(
            event.topic, partition(event.key, numbers, numbers), event.timestamp, event.key,
            event.value,
        )
        for event in events
    )  # fmt: skip
    started = time.monotonic()
    loaded = await cluster.load(Connection(bootstrap), records)
    print(f"loaded {loaded} in {time.monotonic() - started:.1f} s", file=sys.stderr)
    keep_from_collector()
    reading = await read_alone(bootstrap, partitions, loaded)
    done_ms = cluster.now_ms()
    worker = cluster.WorkerProcess(Connection(bootstrap), folder / "worker.log", "--policy", policy,
        "--workers", str(workers),
    )  # fmt: skip
    process = psutil.Process(worker.process.pid)
    try:
        while b"assigned" not in worker.log_path.read_bytes():
            if worker.process.poll() is not None:
                sys.exit(worker.log_path.read_text())
            await asyncio.sleep(0.02)
        family = [process, *process.children(recursive=True)]
        started, started_cpu_s = time.monotonic(), cpu_seconds(family)
        await cluster.wait_until_done(Connection(bootstrap), done_ms, timeout_s=600)
        wall_s = time.monotonic() - started
        cpu_s = cpu_seconds(family) - started_cpu_s
        memory = sum(member.memory_info().rss for member in family)
        log = worker.log_path.read_text()
    finally:
        code = worker.stop()
    reading = (reading + await read_alone(bootstrap, partitions, loaded)) / 2
    print(log, file=sys.stderr)
    written = await cluster.read(
        Connection(bootstrap), ("timeout", "deadline-warning", "order-closure")
    )
    found = {
        "determinations": sum(r.topic == "timeout" for r in written),
        "warnings": sum(r.topic == "deadline-warning" for r in written),
        "closures": sum(r.topic == "order-closure" for r in written),
    }
    wanted = {name: getattr(job.answer, name) for name in found}
    if found != wanted or code:
        sys.exit(f"wrong answer: {found}, wanted {wanted}, exit code {code}")
    letters = Counter(map(source, await cluster.read(Connection(bootstrap), ("dead-letter",))))
    if letters != Counter((event.topic, event.value) for event in job.garbage):
        sys.exit(f"wrong dead letters: {letters.total()}, wanted {len(job.garbage)} others")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "orders": len(job.topics[0]),
        "events": len(events),
        "garbage": len(job.garbage),
        "partitions": partitions,
        "workers": workers,
        "policy": Path(policy).stem,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "events_per_s": round(len(events) / wall_s),
        "events_per_cpu_s": round(len(events) / cpu_s),
        "reading_alone_per_cpu_s": round(reading),
        "of_reading": round(len(events) / cpu_s / reading, 3),
        "rss_mb": round(memory / 2**20),
        "answer": found,
    }


def keep_from_collector() -> None:
    """Let no collection walk the millions of records during a measurement."""
    gc.collect()
    gc.freeze()


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Sum what the processes have used so far, in user and system mode."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


async def read_alone(bootstrap: str, partitions: int, records: int) -> float:
    """Return the records a CPU-second that a plain consumer reads of the filled topics."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        topics = ("order-paid", "tracking-number-uploaded", "first-scan")
        places = [TopicPartition(topic, n) for topic in topics for n in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        began_s, read = time.process_time(), 0
        while read < records:
            read += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
        return records / (time.process_time() - began_s)
    finally:
        await consumer.stop()


def source(letter: cluster.LogRecord) -> tuple[str, bytes]:
    """Tell from which topic a dead letter came, and what stood there."""
    value = json.loads(letter.value or b"")
    return value["source"]["topic"], base64.b64decode(value["raw"])


if __name__ == "__main__":
    main()
