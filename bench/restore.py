"""How many order states a second a worker restores from the changelog, and what they weigh.

Run: python bench/restore.py [--states N] [--partitions N]
A real task judges the orders (paid and uploaded, nothing due yet) and commits its checkpoints; then
a fresh process restores all partitions as a worker does. Prints a JSON line; `stall_s` is the
longest time in which the process could not have answered the broker.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import psutil
import workload

from streams.broker import EmbeddedBroker
from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.orders_task import OrdersTask
from streams.engine.records import InRecord, columns
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.rulebook import load_rulebook
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.runtime.progress import Progress
from streams.runtime.restore import restore
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.runtime.stages import product_stages

APP_ID = "shipclock"
GC_THRESHOLD = 200_000  # the worker's
CHUNK = 10_000
TICK_S = 0.005
# Nothing is due before 48 hours.
PLACED_WITHIN_MS = 20 * workload.HOUR_MS
PAID = (
    b'{"order_id":"%s","shop_id":"s%d","product_ids":["p%d"],"shipping_mode":"normal",'
    b'"placed_at":%d,"paid_at":%d,"paid_amount":9900}'
)
UPLOADED = b'{"order_id":"%s","tracking_number":"T%s","carrier":"SF","uploaded_at":%d}'


def main() -> None:
    """Write the states, restore them, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--states", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="shipclock-bench-") as folder,
        EmbeddedBroker(Path(folder) / "broker") as broker,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh,
    ):
        asyncio.run(write(broker.bootstrap, options.partitions, options.states))
        found = fresh.submit(measure, broker.bootstrap, options.partitions).result()
    if found["states"] != options.states:
        sys.exit(f"{found['states']} states restored, {options.states} written")
    print(
        json.dumps(
            {
                "date": datetime.now(UTC).strftime("%Y-%m-%d"),
                "python": platform.python_version(),
                "partitions": options.partitions,
                **found,
            }
        )
    )


def orders_stage() -> Stage:
    """Return the product's stage."""
    return product_stages(load_rulebook(["douyin-first-scan"]), APP_ID)[0]


async def write(bootstrap: str, partitions: int, states: int) -> None:
    """Let every partition judge its share of the orders, and commit that."""
    await ensure_topics(Connection(bootstrap), partitions)
    started_s = time.monotonic()
    counts = dict.fromkeys(orders_stage().topics, partitions)
    for partition in range(partitions):
        numbers = range(partition, states, partitions)
        task, transactions = owner(bootstrap, partition, counts)
        await transactions.start()
        for first in range(0, len(numbers), CHUNK):
            offer(task, numbers[first : first + CHUNK], first)
            while checkpoint := task.step(CHUNK, mark=False):
                await transactions.commit(checkpoint)
        await transactions.close()
    print(f"{states} states written in {time.monotonic() - started_s:.0f} s", file=sys.stderr)


def owner(
    bootstrap: str, partition: int, counts: Mapping[str, int]
) -> tuple[OrdersTask, Transactions]:
    """Return a task and a producer for a partition that was never worked on."""
    stage = orders_stage()
    task = stage.new_task(partition, counts)
    assert isinstance(task, OrdersTask)
    task.restored()
    settings = Settings(connection=Connection(bootstrap), app_id=APP_ID)
    return task, Transactions(settings, stage, partition, counts, KeyPartitioner())


def offer(task: OrdersTask, numbers: range, first: int) -> None:
    """Offer some orders: placed within twenty hours, read in the same millisecond."""
    at = workload.START_MS + first
    paid, uploaded = [], []
    for offset, number in enumerate(numbers, first):
        key = b"%012d" % number
        placed_at = at - number * 7919 % PLACED_WITHIN_MS
        value = PAID % (key, number % workload.SHOPS, number % 97, placed_at, placed_at)
        paid.append(InRecord(offset, at, key, value))
        uploaded.append(InRecord(offset, at, key, UPLOADED % (key, key, at)))
    task.offer("order-paid", columns(paid), now_ms=at)
    task.offer("tracking-number-uploaded", columns(uploaded), now_ms=at)
    for topic in INPUT_TOPICS:
        task.complete(topic, at + 1)


def measure(bootstrap: str, partitions: int) -> dict[str, object]:
    """Restore all partitions in this process."""
    gc.set_threshold(GC_THRESHOLD)
    process = psutil.Process()
    rss, cpu_s = process.memory_info().rss, sum(process.cpu_times()[:2])
    tasks, wall_s, stall_s = asyncio.run(restored(bootstrap, partitions))
    grown = process.memory_info().rss - rss
    count = sum(task.states for task in tasks)
    return {
        "states": count,
        "wall_s": round(wall_s, 2),
        "states_per_s": round(count / wall_s),
        "states_per_cpu_s": round(count / (sum(process.cpu_times()[:2]) - cpu_s)),
        "stall_s": round(stall_s, 2),
        "rss_mb": round(process.memory_info().rss / 2**20),
        "bytes_per_order": round(grown / count),
        "loop_ns": round(loop_ns()),
        "load": round(os.getloadavg()[0], 1),
    }


async def restored(bootstrap: str, partitions: int) -> tuple[list[OrdersTask], float, float]:
    """Return the tasks with their states, and how long it took and stalled, in seconds."""
    settings, stage = Settings(connection=Connection(bootstrap), app_id=APP_ID), orders_stage()
    counts = dict.fromkeys(stage.topics, partitions)
    at_once = asyncio.Semaphore(settings.restore_concurrency)
    tasks: list[OrdersTask] = []

    async def one(partition: int) -> None:
        async with at_once:
            task = stage.new_task(partition, counts)
            assert isinstance(task, OrdersTask)
            tasks.append(task)
            await restore(settings, stage, partition, task, Progress(stage.name, partition))

    ticks: list[float] = [time.monotonic()]
    ticking = asyncio.create_task(tick(ticks))
    await asyncio.gather(*(one(partition) for partition in range(partitions)))
    ticks.append(time.monotonic())
    ticking.cancel()
    stall_s = max(after - before for before, after in pairwise(ticks))
    return tasks, ticks[-1] - ticks[0], stall_s


async def tick(ticks: list[float]) -> None:
    """Note when the loop gets round to it."""
    while True:
        await asyncio.sleep(TICK_S)
        ticks.append(time.monotonic())


def loop_ns() -> float:
    """Tell how fast the machine is at this moment: one iteration of a loop over a dict."""
    best = float("inf")
    d: dict[int, int] = {}
    for _ in range(7):
        started = time.perf_counter_ns()
        for i in range(300_000):
            d[i & 1023] = i
        best = min(best, (time.perf_counter_ns() - started) / 300_000)
    return best


if __name__ == "__main__":
    main()
