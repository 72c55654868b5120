"""Kill a worker amid many orders, start another, and compare every record with a simulation.

Run: python bench/crash.py [--orders N] [--partitions N] [--kills N]
Prints duplicates and losses over all output topics; exits 1 unless both are 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import workload
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import DefaultPartitioner

from streams.broker import EmbeddedBroker
from streams.engine.simulate import simulate
from streams.policies import load_policy
from streams.testing import cluster
from streams.topics.admin import ensure_topics

POLICY = "douyin-first-scan"
Written = Counter[tuple[str, str, bytes]]


def main() -> None:
    """Run once and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--kills", type=int, default=1)
    arguments = parser.parse_args()
    topics, answer = workload.make(arguments.orders)
    with (
        tempfile.TemporaryDirectory(prefix="shipclock-crash-") as folder,
        EmbeddedBroker(Path(folder) / "broker") as broker,
    ):
        found, processed_at_kill = asyncio.run(
            run(broker.bootstrap, Path(folder), arguments, topics)
        )
    expected = simulated(topics)
    result = {
        "orders": arguments.orders,
        "events": answer.events,
        "processed_at_kill": processed_at_kill,
        "records_expected": expected.total(),
        "records_written": found.total(),
        "duplicates": (found - expected).total(),
        "lost": (expected - found).total(),
    }
    print(json.dumps(result))
    sys.exit(found != expected)


async def run(
    bootstrap: str, folder: Path, arguments: argparse.Namespace, topics: list[list[workload.Event]]
) -> tuple[Written, list[int]]:
    """Load, kill as often as asked at different depths, let a last worker finish, read."""
    await ensure_topics(bootstrap, arguments.partitions)
    partition = DefaultPartitioner()
    numbers = list(range(arguments.partitions))
    total = await cluster.load(
        bootstrap,
        (
            cluster.LogRecord(
                event.topic, partition(event.key, numbers, numbers), event.timestamp, event.key,
                event.value,
            )
            for event in workload.merged(topics)
        ),
    )  # fmt: skip
    now_ms = cluster.now_ms()
    draw = random.Random(5)
    processed = []
    for kill in range(arguments.kills):
        worker = cluster.WorkerProcess(bootstrap, folder / "worker.log", "--policy", POLICY)
        depth = total * (kill + 1) // (arguments.kills + 1)
        while await processed_so_far(bootstrap) < depth:
            if worker.process.poll() is not None:
                sys.exit(worker.log_path.read_text())
            await asyncio.sleep(draw.uniform(0.01, 0.1))
        worker.kill()
        processed.append(await processed_so_far(bootstrap))
    worker = cluster.WorkerProcess(bootstrap, folder / "worker.log", "--policy", POLICY)
    try:
        await cluster.wait_until_done(bootstrap, now_ms, timeout_s=600)
    finally:
        worker.stop()
    records = await cluster.read(bootstrap, cluster.OUTPUT_TOPICS)
    return Counter((r.topic, (r.key or b"").decode(), r.value or b"") for r in records), processed


async def processed_so_far(bootstrap: str) -> int:
    """Sum the committed offsets of the inputs."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        committed = await cluster.committed(admin, "shipclock-orders")
        return sum(found.offset for found in committed.values() if found.offset > 0)
    finally:
        await admin.close()


def simulated(topics: list[list[workload.Event]]) -> Written:
    """Judge the same log without a broker; one partition serves, as there are no exemptions."""
    lines = (
        b'{"topic":"%s","timestamp":%d,"value":%s}'
        % (event.topic.encode(), event.timestamp, event.value)
        for event in workload.merged(topics)
    )
    records = map(json.loads, simulate(lines, load_policy(POLICY), until=cluster.now_ms()))
    return Counter(
        (
            record["topic"],
            record["key"],
            json.dumps(record["value"], sort_keys=True, separators=(",", ":")).encode(),
        )
        for record in records
    )


if __name__ == "__main__":
    main()
