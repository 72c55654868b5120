"""How cost grows: with open orders, partitions, workers, shops, and timers at one instant.

Run: python bench/scale.py [--only NAME ...] [--quick]
     [--states N] [--orders N] [--instants N ...] [--results FOLDER]

state       N open orders in one process: memory, restore through broker and worker, throughput
            against a small state, garbage collection
partitions  events a second with 1, 2, 12 and 64 partitions
workers     with 1 to 4 workers over 12 partitions
shops       with 10, 2 000 and 100 000 shops, evenly and by a Pareto distribution
instant     N timers of one partition due in the same millisecond: how long until the last of their
            warnings is seen, and how much later those of another partition come meanwhile

Every run has a broker of its own and must give the exact answer. The results and a plot of each go
to bench/results; a table is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import plots
import psutil
import restore as restoring
import throughput
import workload
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import DefaultPartitioner
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from probed_worker import Pauses

from streams.broker import EmbeddedBroker
from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.orders_task import OrdersTask
from streams.engine.records import InRecord, columns
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.runtime.settings import Settings
from streams.testing import cluster

Row = dict[str, Any]

HERE = Path(__file__).parent
PARTITIONS = 4
DAY_MS = 24 * workload.HOUR_MS
SHOP = re.compile(rb'"shop_id":"s\d+"')


def main() -> None:
    """Measure, then write the results, their plots and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=tuple(MEASURES), default=list(MEASURES))
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything")
    parser.add_argument("--states", type=int, default=5_000_000)
    parser.add_argument("--orders", type=int, default=60_000, help="of a throughput run")
    parser.add_argument(
        "--instants", type=int, nargs="+", default=[1_000, 10_000, 100_000, 300_000]
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    if options.quick:
        options.states, options.orders, options.instants = 40_000, 3_000, [500, 2_000]
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / "scale.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, (measure, draw) in MEASURES.items():
        if name not in options.only:
            continue
        started_s = time.monotonic()
        rows = measure(options)
        found[name] = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "took_s": round(time.monotonic() - started_s),
            "rows": rows,
        }
        path.write_text(json.dumps(found, indent=1) + "\n")
        draw(rows, options.results / f"scale-{name}.svg")
        print(f"\n{table(rows)}", flush=True)


@contextmanager
def fresh_broker() -> Iterator[tuple[str, Path]]:
    """Start a broker for one run; yields its address and a folder."""
    with (
        tempfile.TemporaryDirectory(prefix="shipclock-bench-") as folder,
        EmbeddedBroker(Path(folder) / "broker") as broker,
    ):
        yield broker.bootstrap, Path(folder)


# --- partitions, workers, shops: events a second


def run(job: throughput.Job, partitions: int, workers: int) -> Row:
    """Measure one job on a broker of its own.

    The clock runs from the assignment, so it has in it what it takes to start all partitions;
    `start_s` says how much of the time passed before the last of them was ready.
    """
    with fresh_broker() as (bootstrap, folder):
        result = asyncio.run(
            throughput.measure(bootstrap, folder, job, partitions=partitions, workers=workers)
        )
        log = (folder / "worker.log").read_text()
    assigned, *_ = (moment(line) for line in log.splitlines() if " assigned " in line)
    ready = max(moment(line) for line in log.splitlines() if " restored stage=" in line)
    names = "events", "wall_s", "events_per_s", "events_per_cpu_s", "of_reading", "rss_mb"
    return {
        **{name: result[name] for name in names},
        "start_s": round((ready - assigned).total_seconds(), 1),
    }


def moment(line: str) -> datetime:
    """Read when a line was logged."""
    return datetime.fromisoformat(line.split(" ", 1)[0])


def by_partitions(options: argparse.Namespace) -> list[Row]:
    job = throughput.Job(*workload.make(options.orders))
    return [{"partitions": n, **run(job, n, 1)} for n in (1, 2, 12, 64)]


def by_workers(options: argparse.Namespace) -> list[Row]:
    job = throughput.Job(*workload.make(options.orders))
    return [{"workers": n, **run(job, 12, n)} for n in (1, 2, 3, 4)]


def by_shops(options: argparse.Namespace) -> list[Row]:
    return [
        {
            "shops": shops,
            "orders_of_shops": shares,
            **run(job_of(options.orders, shops, shares), 4, 1),
        }
        for shares in ("even", "pareto")
        for shops in (10, 2_000, 100_000)
    ]


def job_of(orders: int, shops: int, shares: str) -> throughput.Job:
    """Make a job whose orders are spread over so many shops: evenly, or the first shop most."""
    (paid, *others), answer = workload.make(orders)
    rng = Random(3)

    def shop() -> int:
        if shares == "even":
            return rng.randrange(shops)
        return int(rng.paretovariate(1.2) - 1) % shops

    spread = [
        event._replace(value=SHOP.sub(b'"shop_id":"s%d"' % shop(), event.value)) for event in paid
    ]
    return throughput.Job([spread, *others], answer)


# --- state: open orders in one process


def by_state(options: argparse.Namespace) -> list[Row]:
    """Compare a worker with few open orders to one with many, over the same job."""
    # The job must lie in the past, behind the open orders' placing and before they are due.
    workload.START_MS = (cluster.now_ms() // DAY_MS - 13) * DAY_MS
    job = throughput.Job(*workload.make(2 * options.orders))
    few, many = (state_run(states, job) for states in (options.states // 1_000, options.states))
    for row in (few, many):
        row["of_small"] = round(row["events_per_s"] / few["events_per_s"], 2)
        row["of_small_cpu"] = round(row["events_per_cpu_s"] / few["events_per_cpu_s"], 2)
    grown = 2**20 * (many["worker_rss_mb"] - few["worker_rss_mb"])
    many["worker_bytes_per_order"] = round(grown / (many["open_orders"] - few["open_orders"]))
    return [few, many]


def state_run(states: int, job: throughput.Job) -> Row:
    """Fill the changelogs, restore them in a worker, then give that worker's successor a job."""
    with fresh_broker() as (bootstrap, folder):
        asyncio.run(ensure_topics(Connection(bootstrap), PARTITIONS))
        asyncio.run(cluster.load(Connection(bootstrap), first_records(states)))
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            shares = [
                pool.submit(fill, bootstrap, [partition, partition + 1], states, workload.START_MS)
                for partition in range(0, PARTITIONS, 2)
            ]
            filled = [share.result() for share in shares]
        row: Row = {
            "open_orders": states,
            "engine_bytes_per_order": round(sum(each.grown for each in filled) / states),
            "engine_full_collection_ms": max(each.full_ms for each in filled),
            "engine_longest_gc_ms": max(each.longest_ms for each in filled),
        }
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            inside = pool.submit(restoring.measure, bootstrap, PARTITIONS).result()
        check("restored in process", inside["states"], states)
        row["restore_per_s"], row["restore_per_cpu_s"], row["restore_stall_s"] = (
            inside[name] for name in ("states_per_s", "states_per_cpu_s", "stall_s")
        )
        row |= asyncio.run(restore_by_worker(bootstrap, folder, states))
        row |= asyncio.run(work_by_worker(bootstrap, folder, job))
    return row


def first_records(states: int) -> Iterator[cluster.LogRecord]:
    """Yield what the changelogs count as processed: the first order of each partition.

    The other open orders never were in the topics. The engine is given them at the same offset, so
    that filling takes minutes, not half an hour; states and changelogs are no different for it.
    """
    for partition in range(PARTITIONS):
        [paid], [uploaded] = open_orders(range(partition, states, PARTITIONS)[:1], open_from_ms())
        yield cluster.LogRecord("order-paid", partition, *paid[1:])
        yield cluster.LogRecord("tracking-number-uploaded", partition, *uploaded[1:])


def open_from_ms() -> int:
    return workload.START_MS - 3 * workload.HOUR_MS


def open_orders(numbers: range, at: int) -> tuple[list[InRecord], list[InRecord]]:
    """Make payments and uploads, read at one instant: presales promised for weeks from now."""
    promised_ms = workload.START_MS + 60 * DAY_MS
    paid, uploaded = [], []
    for number in numbers:
        key = b"open%012d" % number
        placed_at = at - number * 7919 % restoring.PLACED_WITHIN_MS
        value = (
            b'{"order_id":"%s","shop_id":"s%d","product_ids":["p%d"],"shipping_mode":"presale",'
            b'"placed_at":%d,"paid_at":%d,"paid_amount":9900,"promised_ship_by":%d}'
            % (key, number % workload.SHOPS, number % 97, placed_at, placed_at,
               promised_ms + number * 7919 % DAY_MS)
        )  # fmt: skip
        paid.append(InRecord(0, at, key, value))
        uploaded.append(InRecord(0, at, key, restoring.UPLOADED % (key, key, at)))
    return paid, uploaded


class Filled(NamedTuple):
    """What the engine alone took, in a process without a consumer."""

    grown: int
    longest_ms: float
    full_ms: float


def fill(bootstrap: str, partitions: Sequence[int], states: int, start_ms: int) -> Filled:
    """Let the engine judge the open orders of some partitions, and commit that."""
    workload.START_MS = start_ms
    gc.set_threshold(restoring.GC_THRESHOLD, 20, 20)
    # Only what the states add to a collection is of interest.
    gc.collect()
    gc.freeze()
    pauses = Pauses()
    rss = psutil.Process().memory_info().rss
    tasks = [
        asyncio.run(fill_partition(bootstrap, partition, range(partition, states, PARTITIONS)))
        for partition in partitions
    ]
    grown = psutil.Process().memory_info().rss - rss
    collected = pauses.collected()
    check("judged", sum(task.states for task in tasks), sum(
        len(range(partition, states, PARTITIONS)) for partition in partitions))  # fmt: skip
    return Filled(grown, **collected)


async def fill_partition(bootstrap: str, partition: int, numbers: range) -> OrdersTask:
    counts = dict.fromkeys(restoring.orders_stage().topics, PARTITIONS)
    task, transactions = restoring.owner(bootstrap, partition, counts)
    await transactions.start()
    for first in range(0, len(numbers), restoring.CHUNK):
        at = open_from_ms() + first // restoring.CHUNK
        paid, uploaded = open_orders(numbers[first : first + restoring.CHUNK], at)
        task.offer("order-paid", columns(paid), now_ms=at)
        task.offer("tracking-number-uploaded", columns(uploaded), now_ms=at)
        for topic in INPUT_TOPICS:
            task.complete(topic, at + 1)
        while checkpoint := task.step(restoring.CHUNK, mark=False):
            await transactions.commit(checkpoint)
    await transactions.close()
    return task


async def restore_by_worker(bootstrap: str, folder: Path, states: int) -> Row:
    """Measure a worker that finds nothing to do but to restore."""
    # With this slack nothing is judged past the open orders: the job is still to come.
    worker = ProbedWorker(bootstrap, folder / "restoring", "--set", f"idle_slack_ms={20 * DAY_MS}")
    try:
        await worker.said("assigned", 1)
        started_s = time.monotonic()
        await worker.restored(timeout_s=300)
        wall_s = time.monotonic() - started_s
        await asyncio.sleep(1)
        rss = worker.rss()
        worker.collect()
        await asyncio.sleep(1)
    finally:
        probe = worker.stop()
    counted = re.findall(r"restored stage=orders .*?states=(\d+)", worker.log())
    # A partition's changelog ends with its checkpoints' own records.
    check("restored by the worker", sum(map(int, counted)) >= states, wanted=True)
    return {
        "worker_restore_per_s": round(states / wall_s),
        "worker_rss_mb": round(rss / 2**20),
        "worker_longest_gc_ms": probe["longest_ms"],
        "worker_full_collection_ms": probe["full_ms"],
    }


async def work_by_worker(bootstrap: str, folder: Path, job: throughput.Job) -> Row:
    """Measure the throughput of a job, from the end of the restore on."""
    partition, numbers = DefaultPartitioner(), list(range(PARTITIONS))
    records = (
        cluster.LogRecord(
            event.topic, partition(event.key, numbers, numbers), event.timestamp, event.key,
            event.value,
        )
        for event in workload.merged(job.topics)
    )  # fmt: skip
    events = await cluster.load(Connection(bootstrap), records)
    done_ms = cluster.now_ms()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    worker = ProbedWorker(bootstrap, folder / "working")
    try:
        await worker.restored(timeout_s=300)
        started_s, cpu_s = time.monotonic(), worker.cpu_s()
        offsets = await cluster.committed(admin, f"{restoring.APP_ID}-orders")
        # Partitions that were restored before the last one have begun.
        ahead = sum(max(0, found.offset - 1) for found in offsets.values())
        await cluster.wait_until_done(Connection(bootstrap), done_ms, timeout_s=600)
        wall_s, cpu_s = time.monotonic() - started_s, worker.cpu_s() - cpu_s
        worker.collect()
        await asyncio.sleep(1)
    finally:
        await admin.close()
        probe = worker.stop()
    written = await cluster.read(
        Connection(bootstrap), ("timeout", "deadline-warning", "order-closure")
    )
    for topic, wanted in (
        ("timeout", job.answer.determinations),
        ("deadline-warning", job.answer.warnings),
        ("order-closure", job.answer.closures),
    ):
        check(topic, sum(record.topic == topic for record in written), wanted)
    return {
        "events": events,
        "ahead": ahead,
        "events_per_s": round((events - ahead) / wall_s),
        "events_per_cpu_s": round((events - ahead) / cpu_s),
        "working_longest_gc_ms": probe["longest_ms"],
        "working_full_collection_ms": probe["full_ms"],
    }


# --- instant: timers due in the same millisecond


def by_instant(options: argparse.Namespace) -> list[Row]:
    return [instant_run(timers) for timers in options.instants]


PROBE_INTERVAL_MS = 20
PROBES_BEFORE_MS, PROBES_AFTER_MS = 3_000, 10_000


def instant_run(timers: int) -> Row:
    """Let one partition's timers fire live, while single ones of another partition do, too."""
    longest_ms = longest_step_ms(timers)
    with fresh_broker() as (bootstrap, folder):
        asyncio.run(ensure_topics(Connection(bootstrap), 2))
        return {
            "timers": timers,
            **asyncio.run(fire_live(bootstrap, folder, timers)),
            "longest_step_ms": longest_ms,
        }


async def fire_live(bootstrap: str, folder: Path, timers: int) -> Row:
    instant_ms = cluster.now_ms() + 15_000 + timers // 5
    dues = {b"many%09d" % number: instant_ms for number in range(timers)}
    probes = range(-PROBES_BEFORE_MS, PROBES_AFTER_MS + timers // 20, PROBE_INTERVAL_MS)
    single = {b"probe%09d" % number: instant_ms + after for number, after in enumerate(probes)}
    records = [
        cluster.LogRecord("order-paid", partition, instant_ms - DAY_MS, key, due_order(key, due))
        for partition, orders in enumerate((dues, single))
        for key, due in orders.items()
    ]
    await cluster.load(Connection(bootstrap), records)
    worker = ProbedWorker(bootstrap, folder / "worker")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        read = 0
        while read < len(records):
            if cluster.now_ms() > instant_ms - PROBES_BEFORE_MS:
                sys.exit(f"{read} of {len(records)} orders read when the first timers were due")
            await asyncio.sleep(0.2)
            offsets = await cluster.committed(admin, f"{restoring.APP_ID}-orders")
            read = sum(max(0, found.offset) for found in offsets.values())
        seen_ms = await warnings_seen(bootstrap, {**dues, **single})
        worker.collect()
        await asyncio.sleep(1)
    finally:
        await admin.close()
        probe = worker.stop()
    many = sorted(seen_ms[key] - instant_ms for key in dues)
    around = {
        when: sorted(
            seen_ms[key] - due for key, due in single.items() if (due < instant_ms) == before
        )
        for when, before in (("before", True), ("after", False))
    }
    return {
        "first_seen_ms": many[0],
        "last_seen_ms": many[-1],
        "timers_per_s": round(timers / (many[-1] / 1000)),
        "other_partition_p50_ms_before": middle(around["before"]),
        "other_partition_max_ms_before": around["before"][-1],
        "other_partition_p50_ms_after": middle(around["after"]),
        "other_partition_max_ms_after": around["after"][-1],
        "longest_gc_ms": probe["longest_ms"],
    }


def due_order(key: bytes, due_ms: int) -> bytes:
    """Make an order whose first warning is due at an instant: 48 hours after it was placed."""
    placed_at = due_ms - workload.LIMIT_MS + workload.LEADS_MS[0]
    return restoring.PAID % (key, int(key[-9:]) % workload.SHOPS, 1, placed_at, placed_at)


async def warnings_seen(bootstrap: str, dues: dict[bytes, int]) -> dict[bytes, int]:
    """Read warnings as they become visible, until each order has its own; epoch ms by key."""
    consumer = AIOKafkaConsumer(
        "deadline-warning", bootstrap_servers=bootstrap, isolation_level="read_committed",
        auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=20,
    )  # fmt: skip
    await consumer.start()
    seen: dict[bytes, int] = {}
    latest_ms = max(dues.values()) + 120_000
    try:
        while len(seen) < len(dues):
            if cluster.now_ms() > latest_ms:
                sys.exit(f"{len(seen)} of {len(dues)} warnings seen")
            fetched = await consumer.getmany(timeout_ms=100)
            now_ms = cluster.now_ms()
            for records in fetched.values():
                for record in records:
                    key = ORDER_ID(record.value)
                    if key is None or key[1] in seen or key[1] not in dues:
                        sys.exit(f"a warning nobody waits for: {record.value!r}")
                    seen[key[1]] = now_ms
    finally:
        await consumer.stop()
    return seen


ORDER_ID = re.compile(rb'"order_id":"([^"]+)"').search


def longest_step_ms(timers: int) -> float:
    """Measure how long the engine is away at most, with the worker's bound on a step."""
    due_ms = workload.START_MS + 2 * DAY_MS
    stage = restoring.orders_stage()
    task = stage.new_task(0, dict.fromkeys(stage.topics, 1))
    assert isinstance(task, OrdersTask)
    task.restored()
    at = due_ms - DAY_MS
    for first in range(0, timers, restoring.CHUNK):
        orders = [
            InRecord(number, at, key, due_order(key, due_ms))
            for number in range(first, min(first + restoring.CHUNK, timers))
            for key in [b"many%09d" % number]
        ]
        task.offer("order-paid", columns(orders), now_ms=at)
    longest_ns = outputs = 0
    for instant_ms in (at, due_ms):
        for topic in INPUT_TOPICS:
            task.complete(topic, instant_ms + 1)
        more = True
        while more:
            times_ns = [time.perf_counter_ns()]
            more = task.work(Settings().step_outputs_max)
            times_ns.append(time.perf_counter_ns())
            checkpoint = task.checkpoint(mark=False)
            times_ns.append(time.perf_counter_ns())
            longest_ns = max(longest_ns, *(b - a for a, b in pairwise(times_ns)))
            if checkpoint is not None:
                outputs += sum(out.topic == "deadline-warning" for out in checkpoint.outputs)
    check("warnings of the engine", outputs, timers)
    return round(longest_ns / 1e6, 1)


# --- a worker whose garbage collections are watched


class ProbedWorker:
    """`shipclock worker` in a process that notes its garbage collections."""

    def __init__(self, bootstrap: str, path: Path, *options: str) -> None:
        self._probe = path.with_suffix(".json")
        self._log_path = path.with_suffix(".log")
        self._log = self._log_path.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "probed_worker.py"), str(self._probe),
             "--bootstrap", bootstrap, *options],
            stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._usage = psutil.Process(self._process.pid)

    def log(self) -> str:
        return self._log_path.read_text()

    async def restored(self, timeout_s: float) -> None:
        """Wait until it has restored all order partitions; the log says so within a second."""
        async with asyncio.timeout(timeout_s):
            while sum(stage == "orders" for stage, _ in cluster.restored(self.log())) < PARTITIONS:
                self._check()
                await asyncio.sleep(0.02)

    async def said(self, text: str, times: int, timeout_s: float = 60) -> None:
        """Wait until its log has a text so many times."""
        async with asyncio.timeout(timeout_s):
            while self.log().count(text) < times:
                self._check()
                await asyncio.sleep(0.02)

    def _check(self) -> None:
        if self._process.poll() is not None:
            sys.exit(self.log())

    def rss(self) -> int:
        return int(self._usage.memory_info().rss)

    def cpu_s(self) -> float:
        return throughput.cpu_seconds([self._usage])

    def collect(self) -> None:
        """Have it collect all garbage there is, between two turns of its loop."""
        self._process.send_signal(signal.SIGUSR1)

    def stop(self) -> dict[str, float]:
        """Stop it and return what was noted up to the last `collect`."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(20)
        self._log.close()
        if code:
            sys.exit(f"the worker ended with {code}:\n{self.log()}")
        probe = json.loads(self._probe.read_text()) if self._probe.exists() else {}
        return {"longest_ms": -1.0, "full_ms": -1.0, **probe}


def check(what: str, found: object, wanted: object) -> None:
    """End with an error where an answer is wrong."""
    if found != wanted:
        sys.exit(f"{what}: {found}, wanted {wanted}")


def middle(values: Sequence[float]) -> float:
    return values[len(values) // 2]


# --- results


def table(rows: Sequence[Row]) -> str:
    """Write rows as a Markdown table; a wide one is turned."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([written(row.get(name, "")) for name in names] for row in rows)]
    if len(names) > 8:
        cells = [list(line) for line in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def written(value: object) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)


def draw_growth(rows: Sequence[Row], path: Path, by: str) -> None:
    """Draw events a second and a CPU-second over what grows."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, name, title in zip(
        figure.subplots(1, 2),
        ("events_per_s", "events_per_cpu_s"),
        ("events a second, wall", "events a CPU-second of the worker"),
        strict=True,
    ):
        kinds = list(dict.fromkeys(row.get("orders_of_shops", "") for row in rows))
        for kind, color in zip(kinds, (plots.OURS, plots.FAINT), strict=False):
            group = [row for row in rows if row.get("orders_of_shops", "") == kind]
            places = range(len(group))
            axes.plot(places, [row[name] for row in group], "o-", color=color, label=kind)
            axes.set_xticks(places, [written(row[by]) for row in group])
        if len(kinds) > 1:
            axes.legend(frameon=False, fontsize=8)
        axes.set(ylim=(0, None), xlabel=by)
        axes.set_title(title, fontsize=9)
        axes.yaxis.set_major_formatter(FuncFormatter(plots.thousands))
        plots.plain(axes)
    plots.save(figure, path)


def draw_state(rows: Sequence[Row], path: Path) -> None:
    """Draw what many open orders cost beside few."""
    figure = Figure(figsize=(9, 2.2), layout="constrained")
    labels = [f"{written(row['open_orders'])} open orders" for row in rows]
    panels = (
        ("events_per_s", "events a second, wall"),
        ("events_per_cpu_s", "events a CPU-second"),
        ("worker_rss_mb", "resident MB of the worker"),
    )
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (name, title) in zip(all_axes, panels, strict=True):
        plots.bars(axes, labels, [[row[name]] for row in rows], [plots.OURS] * len(rows))
        axes.set_title(title, fontsize=9)
    many = rows[-1]
    figure.supxlabel(
        f"{many['worker_bytes_per_order']} bytes an open order; restored at "
        f"{written(many['worker_restore_per_s'])} states/s; full collection "
        f"{many['working_full_collection_ms']} ms",
        fontsize=8,
        color=plots.FAINT,
    )
    plots.save(figure, path)


def draw_instant(rows: Sequence[Row], path: Path) -> None:
    """Draw how long it takes until all timers of an instant are seen, and who waits meanwhile."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(rows))
    left.plot(places, [row["last_seen_ms"] / 1000 for row in rows], "o-", color=plots.OURS)
    left.set_title("seconds until the last is seen", fontsize=9)
    for name, style, label in (
        ("other_partition_max_ms_after", "o-", "another partition's timers, latest"),
        ("other_partition_p50_ms_after", "o--", "another partition's timers, middle"),
        ("longest_step_ms", "o:", "longest step of the engine"),
    ):
        right.plot(places, [row[name] for row in rows], style, color=plots.INK, label=label)
    right.set_title("milliseconds", fontsize=9)
    right.legend(frameon=False, fontsize=7)
    for axes in (left, right):
        axes.set_xticks(places, [written(row["timers"]) for row in rows])
        axes.set(ylim=(0, None), xlabel="timers due in one millisecond")
        plots.plain(axes)
    plots.save(figure, path)


Measure = Callable[[argparse.Namespace], list[Row]]
Draw = Callable[[Sequence[Row], Path], None]

MEASURES: dict[str, tuple[Measure, Draw]] = {
    "partitions": (by_partitions, lambda rows, path: draw_growth(rows, path, "partitions")),
    "workers": (by_workers, lambda rows, path: draw_growth(rows, path, "workers")),
    "shops": (by_shops, lambda rows, path: draw_growth(rows, path, "shops")),
    "instant": (by_instant, draw_instant),
    "state": (by_state, draw_state),
}


if __name__ == "__main__":
    main()
