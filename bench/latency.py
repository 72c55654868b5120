"""From a deadline's instant to the moment a reader sees the timeout, under a steady live load.

Run: python bench/latency.py [--rate N] [--timeouts N] [--seconds S] [--workers N]
     [--idle-slack MS] [--table-seconds S] [--slacks MS ...] [--commits MS ...]

A process of its own writes `--rate` events a second with timestamps of now: orders that are paid,
uploaded and scanned, and among them `--timeouts` a second that were placed 72 hours ago less some
seconds and are never scanned, so that deadlines fall due all the time. For each of those it is
measured how long after its deadline a read_committed consumer has its record in hand; all on one
machine's clock. Each must come exactly once, and no other.

First with the settings of `shipclock worker`, by the default policy and by one that asks for first
timeouts alone; then, in shorter runs, over idle slack and commit interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import signal
import socket
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

import compare
import plots
import workload
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.runtime.settings import Settings
from streams.testing import cluster

TICK_S = 0.05
DUE_AFTER_MS = (3_000, 12_000)
"""How long after its payment a doomed order's deadline falls due: all within the warm-up."""
UPLOAD_AFTER_TICKS, SCAN_AFTER_TICKS = 20, 20
PAID = (
    b'{"order_id":"%s","shop_id":"s%d","product_ids":["p%d"],"shipping_mode":"normal",'
    b'"placed_at":%d,"paid_at":%d,"paid_amount":9900}'
)
UPLOADED = b'{"order_id":"%s","tracking_number":"T%s","carrier":"SF","uploaded_at":%d}'
SCANNED = b'{"order_id":"%s","tracking_number":"T%s","carrier":"SF","scanned_at":%d}'
GRACE_S = 5.0
"""For what nobody waits for: a second worker that joins, a record that comes twice."""
LATE_S = 60.0
"""What has not come so long after the load is missing."""
SLACKS_MS = (50, 200, 500)
COMMITS_MS = (50, 100, 250)
QUANTILES = (*(n / 100 for n in range(1, 100)), 0.995, 0.999, 1.0)
HERE = Path(__file__).resolve().parent


class Load(NamedTuple):
    """What is written, and for how long."""

    rate: int
    """Events a second."""
    timeouts: int
    """Of the orders paid in a second, how many are never scanned and soon due."""
    warm_up_s: float
    seconds: float
    partitions: int


class Tuning(NamedTuple):
    """What may differ between runs, in milliseconds; None is the worker's own setting."""

    policy: str
    idle_slack_ms: int | None = None
    commit_interval_ms: int | None = None
    probe_interval_ms: int | None = None

    @property
    def settings(self) -> list[str]:
        """What is set, as `tuned_worker.py` reads it."""
        return [f"{k}={v}" for k, v in self._asdict().items() if k != "policy" and v is not None]


def main() -> None:
    """Measure, print tables, write results and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=20_000, metavar="N")
    parser.add_argument("--timeouts", type=int, default=750, metavar="N", help="due a second")
    parser.add_argument("--seconds", type=float, default=60, help="measured, after the warm-up")
    parser.add_argument("--warm-up", type=float, default=15, metavar="S")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--idle-slack", type=int, metavar="MS", help="of the two long runs")
    parser.add_argument("--table-seconds", type=float, default=20, metavar="S", help="0: no table")
    parser.add_argument("--slacks", type=int, nargs="+", default=SLACKS_MS, metavar="MS")
    parser.add_argument("--commits", type=int, nargs="+", default=COMMITS_MS, metavar="MS")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args()
    compare.prepare()
    load = Load(
        options.rate, options.timeouts, options.warm_up, options.seconds, options.partitions
    )
    usual = [
        Tuning(policy, options.idle_slack)
        for policy in ("douyin-first-scan", str(compare.JOB_POLICY))
    ]
    short = load._replace(seconds=options.table_seconds)
    # The probe goes with the slack, as it does in the worker's own settings.
    grid = [
        Tuning("douyin-first-scan", slack, commit, max(15, slack * 3 // 10))
        for slack in options.slacks
        for commit in options.commits
        if options.table_seconds
    ]
    try:
        runs = [measure(load, tuning, options.workers) for tuning in usual]
        table = [measure(short, tuning, options.workers) for tuning in grid]
    except compare.WrongAnswerError as error:
        sys.exit(f"wrong answer: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    result = {
        "date": compare.today(),
        "machine": compare.machine(),
        "versions": compare.versions(peers=()),
        "load": {**load._asdict(), "workers": options.workers},
        "runs": runs,
        "table": table,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    compare.write(options.results / "latency.json", result)
    plots.latency(result, options.results / "latency.svg")
    print(f"{'policy':20}{'slack':>7}{'commit':>8}{'probe':>7}", end="")
    print(f"{'p50':>7}{'p90':>7}{'p99':>7}{'max':>7}{'late in':>9}{'CPU':>6}{'events/s':>10}")
    for run in (*runs, *table):
        settings, ms = run["settings"], run["ms"]
        print(
            f"{run['policy']:20}{settings['idle_slack_ms']:>7}{settings['commit_interval_ms']:>8}"
            f"{settings['probe_interval_ms']:>7}{ms['p50']:>7}{ms['p90']:>7}{ms['p99']:>7}"
            f"{ms['max']:>7}{run['behind_frontier']:>9}{run['cores']:>6}{run['events_per_s']:>10}"
        )
    print("times in ms; `late in`: records behind the frontier; CPU: cores the workers used")


def measure(load: Load, tuning: Tuning, workers: int) -> dict[str, Any]:
    """Run workers under the load on a broker of their own.

    Raises:
        WrongAnswerError: A timeout is missing, comes twice, or is not one.
    """
    name = Path(tuning.policy).stem
    compare.say(f"{name}, {' '.join(tuning.settings) or 'usual settings'}: {load.seconds:.0f} s")
    with (
        compare.fresh_broker() as (bootstrap, broker, folder),
        multiprocessing.get_context("spawn").Pool(1) as other,
    ):
        found = asyncio.run(observe(bootstrap, broker, folder, other, load, tuning, workers))
    ms = found["ms"]
    compare.say(
        f"  p50 {ms['p50']}  p90 {ms['p90']}  p99 {ms['p99']}  max {ms['max']} ms of "
        f"{found['timeouts']} timeouts, at {found['events_per_s']} events/s"
    )
    if found["events_per_s"] < 0.99 * load.rate:
        compare.say(f"  *** the load fell short of {load.rate} events/s ***")
    return {"policy": name, **found}


async def observe(
    bootstrap: str,
    broker: compare.Meter,
    folder: Path,
    other: Pool,
    load: Load,
    tuning: Tuning,
    workers: int,
) -> dict[str, Any]:
    """Start workers and load, note when each timeout is seen, and compare."""
    await ensure_topics(Connection(bootstrap), load.partitions)
    port = free_ports(workers)
    command = [
        sys.executable, str(HERE / "tuned_worker.py"), "--bootstrap", bootstrap,
        "--policy", tuning.policy, "--workers", str(workers),
        "--set", f"metrics_port={port}", *tuning.settings,
    ]  # fmt: skip
    process = compare.EngineProcess(command, compare.ASSIGNED, folder)
    seen: list[tuple[int, dict[str, Any]]] = []
    watching = asyncio.create_task(watch(bootstrap, load.partitions, seen))
    try:
        await process.ready()
        # The second worker joins, and the group shares out anew.
        await asyncio.sleep(GRACE_S)
        writing = other.apply_async(write, (bootstrap, load))
        give_up_s = time.monotonic() + load.warm_up_s + load.seconds + LATE_S
        await asyncio.sleep(load.warm_up_s)
        before = process.meter.cpu_s, broker.cpu_s, compare.machine_busy_s(), time.monotonic()
        while not writing.ready():
            process.check()
            process.meter.sample()
            if time.monotonic() > give_up_s:
                raise TimeoutError("the load did not end")
            await asyncio.sleep(compare.SAMPLE_S)
        after = process.meter.cpu_s, broker.cpu_s, compare.machine_busy_s(), time.monotonic()
        worker_s, broker_s, busy_s, wall_s = (b - a for a, b in zip(before, after, strict=True))
        written = writing.get()
        until_ms = written["measured_ms"][1]
        wanted = sum(due_ms < until_ms for due_ms in written["due_ms"].values())
        give_up_s = time.monotonic() + LATE_S
        while sum(record["deadline"] < until_ms for _, record in seen) < wanted:
            process.check()
            if watching.done() or time.monotonic() > give_up_s:
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(GRACE_S)
        behind = sum(map(behind_frontier, range(port, port + workers)))
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        process.stop()
    if not watching.cancelled():
        watching.result()
    delays_ms = delays(seen, written["due_ms"], written["measured_ms"])
    usual = Settings()
    settings = {
        name: getattr(usual, name) if value is None else value
        for name, value in tuning._asdict().items()
        if name != "policy"
    }
    return {
        "settings": settings,
        "timeouts": len(delays_ms),
        "ms": {
            "p50": quantile(delays_ms, 0.5),
            "p90": quantile(delays_ms, 0.9),
            "p99": quantile(delays_ms, 0.99),
            "max": delays_ms[-1],
        },
        "quantiles_ms": {q: quantile(delays_ms, q) for q in QUANTILES},
        "events_per_s": written["events_per_s"],
        "written_after_ms": written["written_after_ms"],
        "behind_frontier": behind,
        "cores": round(worker_s / wall_s, 2),
        "broker_cores": round(broker_s / wall_s, 2),
        "machine_cores": round(busy_s / wall_s, 2),
        "rss_peak_mb": round(process.meter.rss_peak / 2**20),
    }


async def watch(bootstrap: str, partitions: int, seen: list[tuple[int, dict[str, Any]]]) -> None:
    """Note every record of `timeout` with the instant it came to hand."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = [TopicPartition("timeout", number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while True:
            fetched = await consumer.getmany(timeout_ms=500)
            now_ms = cluster.now_ms()
            seen += [(now_ms, json.loads(r.value)) for part in fetched.values() for r in part]
    finally:
        await consumer.stop()


def delays(
    seen: Sequence[tuple[int, dict[str, Any]]], due_ms: dict[str, int], measured_ms: tuple[int, int]
) -> list[int]:
    """Return how long each timeout due in the measured span took to be seen, ascending.

    Raises:
        WrongAnswerError: One is missing, comes twice, or is not one.
    """
    found = []
    counted: Counter[str] = Counter()
    for now_ms, record in seen:
        order_id = record["order_id"]
        counted[order_id] += 1
        if record["type"] != "timeout.determined" or due_ms.get(order_id) != record["deadline"]:
            raise compare.WrongAnswerError(f"no such timeout: {record}")
        if measured_ms[0] <= record["deadline"] < measured_ms[1]:
            found.append(now_ms - record["deadline"])
    if twice := [order_id for order_id, count in counted.items() if count > 1]:
        raise compare.WrongAnswerError(f"{len(twice)} timeouts twice, for instance {twice[:3]}")
    missing = [o for o, due in due_ms.items() if due < measured_ms[1] and o not in counted]
    if missing:
        raise compare.WrongAnswerError(f"{len(missing)} missing, for instance {missing[:3]}")
    return sorted(found)


def quantile(ascending: Sequence[int], share: float) -> int:
    """Return the value that this share of all does not exceed."""
    return ascending[max(0, -int(-len(ascending) * share // 1) - 1)]


def free_ports(count: int) -> int:
    """Return a port that is free with those after it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def behind_frontier(port: int) -> int:
    """Ask a worker's metrics how many records came behind the frontier."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    name = "shipclock_behind_frontier_records_total"
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))


# --- the load, in a process of its own


def write(bootstrap: str, load: Load) -> dict[str, Any]:
    """Write the load; return what became due when, and how well the pace was kept."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return asyncio.run(Writer(load).run(bootstrap))


class Writer:
    """Writes batches at a steady pace."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._rng = random.Random(7)
        self._partition = DefaultPartitioner()
        self._numbers = list(range(load.partitions))
        self._orders = 0
        self._due_ms: dict[str, int] = {}
        self._to_upload: deque[list[tuple[int, bytes]]] = deque()
        self._to_scan: deque[list[tuple[int, bytes]]] = deque()
        self._written_after_ms: list[int] = []
        per_tick = load.rate * TICK_S
        self._doomed = round(load.timeouts * TICK_S)
        # A doomed order is paid and uploaded, another one scanned as well.
        self._plain = round((per_tick - 2 * self._doomed) / 3)

    async def run(self, bootstrap: str) -> dict[str, Any]:
        """Write from now on, warm-up and measured span, and a little beyond."""
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=900_000)
        await producer.start()
        load = self._load
        began_ms, began_s = cluster.now_ms(), time.monotonic()
        measured = began_ms + int(load.warm_up_s * 1000)
        measured_ms = measured, measured + int(load.seconds * 1000)
        ends_s = began_s + load.warm_up_s + load.seconds + GRACE_S / 2
        counted = ticks = 0
        try:
            while (now_s := time.monotonic()) < ends_s:
                sent = await self._tick(producer)
                if measured_ms[0] <= cluster.now_ms() < measured_ms[1]:
                    counted += sent
                ticks += 1
                await asyncio.sleep(max(0.0, began_s + ticks * TICK_S - time.monotonic()))
                if now_s - began_s - ticks * TICK_S > 1:
                    # A second behind: what was missed is not made up for, and shows in the rate.
                    ticks = int((time.monotonic() - began_s) / TICK_S)
            await producer.flush()
        finally:
            await producer.stop()
        after = sorted(self._written_after_ms)
        return {
            "due_ms": self._due_ms,
            "measured_ms": measured_ms,
            "events_per_s": round(counted / load.seconds),
            "written_after_ms": {
                "p50": quantile(after, 0.5), "p99": quantile(after, 0.99), "max": after[-1],
            },
        }  # fmt: skip

    async def _tick(self, producer: AIOKafkaProducer) -> int:
        now_ms = cluster.now_ms()
        made = self._events(now_ms)
        for (topic, partition), events in made.items():
            batch = producer.create_batch()
            for key, value in events:
                batch.append(key=key, value=value, timestamp=now_ms)
            acknowledged = await producer.send_batch(batch, topic, partition=partition)
            acknowledged.add_done_callback(
                lambda _: self._written_after_ms.append(cluster.now_ms() - now_ms)
            )
        return sum(map(len, made.values()))

    def _events(self, now_ms: int) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
        """Make the events of a tick: new orders, and what those of earlier ticks come to."""
        made: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {
            (topic, partition): []
            for topic in ("order-paid", "tracking-number-uploaded", "first-scan")
            for partition in self._numbers
        }
        plain = [self._order() for _ in range(self._plain)]
        doomed = [self._order() for _ in range(self._doomed)]
        for partition, key in plain:
            made["order-paid", partition].append((key, self._paid(key, now_ms, now_ms)))
        for partition, key in doomed:
            due_ms = now_ms + self._rng.randrange(*DUE_AFTER_MS)
            self._due_ms[key.decode()] = due_ms
            placed_at = due_ms - workload.LIMIT_MS
            made["order-paid", partition].append((key, self._paid(key, placed_at, now_ms)))
        self._to_upload.append(plain)
        uploaded = self._to_upload.popleft() if len(self._to_upload) > UPLOAD_AFTER_TICKS else []
        for partition, key in (*doomed, *uploaded):
            upload = UPLOADED % (key, key, now_ms)
            made["tracking-number-uploaded", partition].append((key, upload))
        self._to_scan.append(uploaded)
        scanned = self._to_scan.popleft() if len(self._to_scan) > SCAN_AFTER_TICKS else []
        for partition, key in scanned:
            made["first-scan", partition].append((key, SCANNED % (key, key, now_ms)))
        return made

    def _paid(self, key: bytes, placed_at: int, paid_at: int) -> bytes:
        shop = int(self._rng.paretovariate(1.2)) % workload.SHOPS
        return PAID % (key, shop, self._orders % 97, placed_at, paid_at)

    def _order(self) -> tuple[int, bytes]:
        self._orders += 1
        key = b"%012d" % self._orders
        return self._partition(key, self._numbers, self._numbers), key


if __name__ == "__main__":
    main()
