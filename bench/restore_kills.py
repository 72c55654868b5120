"""How soon every partition is back when the broker dies while a worker restores them.

Run: python bench/restore_kills.py [--tries N] [--busy N] [--partitions N] [--states N]
     [--seed N] [--limit S] [--results FOLDER]

The states are written once: open orders, `--states` a partition. Then, for each try: a worker
starts; 0.2 to 1.5 s after `assigned stage=orders` the broker is killed, and started again 0.3 s
later. Every partition of both stages is back when the orders stage has judged an overdue order that
was sent to each of its partitions, and each shop partition has committed what came of that. A try
fails when one is not back `--limit` seconds after the broker, and says what that partition waits
for. Prints a line a try and a summary, writes restore_kills.json; exits 1 if a try failed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import compare
import trouble
import workload
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from trouble import Busy, Place, Reach

from streams.broker import BrokerError, EmbeddedBroker
from streams.core.facts.inputs import INPUT_TOPICS, ORDER_PAID
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.runtime.batches import KeyPartitioner
from streams.testing import cluster

HERE = Path(__file__).parent
KILL_AFTER_S = (0.2, 1.5)
AWAY_S = 0.3
# Orders are placed within twenty hours before the start; an hour after it nothing is due yet.
PLACED_WITHIN_MS = 20 * workload.HOUR_MS
FRONTIER_MS = workload.START_MS + workload.HOUR_MS
OVERDUE_MS = 100 * workload.HOUR_MS
PAID = (
    b'{"order_id":"%s","shop_id":"%s","product_ids":["p1"],"shipping_mode":"normal",'
    b'"placed_at":%d,"paid_at":%d,"paid_amount":9900}'
)
_START_S = 60.0
_PREPARE_S = 900.0
_POLL_S = 0.25
_ASK_S = 5.0
_TROUBLE = (KafkaError, OSError, TimeoutError)


class Try(NamedTuple):
    """What came of one kill; seconds."""

    kill_after_s: float
    """From `assigned stage=orders`."""
    restored_before: int
    """Partitions of both stages that were ready when the broker was killed."""
    broker_s: float
    """From the kill until the broker served clients again."""
    ready_s: float | None
    """From then until every partition was back; None if one was not in time."""
    missing: list[str]
    """Which ones were not, and what they wait for."""


class BenchError(Exception):
    """What keeps a try from being one."""


def main() -> None:
    """Prepare once, kill many times, print and write what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--busy", type=int, default=2, help="programs beside it that eat a core")
    parser.add_argument("--partitions", type=int, default=12, help="of each stage")
    parser.add_argument("--states", type=int, default=30_000, help="open orders a partition")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=60.0, metavar="S")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args()
    # The client tells every lost connection; here that is on purpose.
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="shipclock-kills-"))
    tries: list[Try] = []
    code = 1
    try:
        with EmbeddedBroker(folder / "broker") as broker, Bench(broker, folder, options) as bench:
            bench.prepare()
            with Busy(options.busy):
                for one in bench.tries():
                    tries.append(one)
                    print(line_of(len(tries), one), flush=True)
        code = int(any(one.ready_s is None for one in tries))
    except (BrokerError, BenchError) as failure:
        say(f"error: {failure}")
    except KeyboardInterrupt:
        say("interrupted")
        code = 130
    if tries:
        report(tries, options)
    if code == 1:
        say(f"evidence (broker data, logs of broker and workers): {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(code)


class Bench:
    """The broker, its topics with the states, and the worker of the try."""

    def __init__(self, broker: EmbeddedBroker, folder: Path, options: argparse.Namespace) -> None:
        self._broker = broker
        self._connection = Connection(broker.bootstrap)
        self._folder = folder
        self._partitions: int = options.partitions
        self._states: int = options.states
        self._tries: int = options.tries
        self._limit_s: float = options.limit
        self._draw = random.Random(options.seed)
        self._partition_of = KeyPartitioner()
        self._slack_ms = cluster.now_ms() - FRONTIER_MS
        self._worker: cluster.WorkerProcess | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.kill()

    def prepare(self) -> None:
        """Write the orders, and let a worker judge them once."""
        started_s = time.monotonic()
        asyncio.run(self._load())
        self._start("prepare.log")
        self._until_all_is_done(_PREPARE_S)
        self._stop()
        count = self._states * self._partitions
        say(f"{count} states written in {time.monotonic() - started_s:.0f} s")

    def tries(self) -> Iterator[Try]:
        """Kill the broker again and again."""
        for number in range(1, self._tries + 1):
            yield self._kill_once(number)

    def _kill_once(self, number: int) -> Try:
        kill_after_s = self._draw.uniform(*KILL_AFTER_S)
        worker = self._start(f"worker-{number:03}.log")
        give_up_s = time.monotonic() + _START_S
        while "assigned stage=orders" not in worker.log:
            if time.monotonic() > give_up_s or worker.process.poll() is not None:
                raise BenchError(f"the worker did not get its partitions: {worker.log_path}")
            time.sleep(0.01)
        time.sleep(kill_after_s)
        self._broker.kill()
        killed_s = time.monotonic()
        restored_before = len(cluster.restored(worker.log))
        time.sleep(AWAY_S)
        self._broker.start()
        back_s = time.monotonic()
        missing = asyncio.run(self._until_back(number, back_s + self._limit_s))
        ready_s = None if missing else time.monotonic() - back_s
        told = trouble.told(missing, [worker.log_path])
        self._stop(kill=bool(missing))
        return Try(kill_after_s, restored_before, back_s - killed_s, ready_s, told)

    # --- the worker

    def _start(self, log_name: str) -> cluster.WorkerProcess:
        self._worker = cluster.WorkerProcess(
            self._connection, self._folder / log_name,
            "--policy", trouble.POLICY, "--idle-slack", str(self._slack_ms),
        )  # fmt: skip
        return self._worker

    def _stop(self, *, kill: bool = False) -> None:
        worker, self._worker = self._worker, None
        assert worker is not None
        if kill:
            worker.kill()
        elif (code := worker.stop(30)) != 0:
            raise BenchError(f"the worker stopped with exit code {code}: {worker.log_path}")

    def _until_all_is_done(self, patience_s: float) -> None:
        async def wait() -> None:
            give_up_s = time.monotonic() + patience_s
            while time.monotonic() < give_up_s:
                found = await trouble.reached(self._broker.bootstrap)
                orders = [reach for place, reach in found.items() if place.stage == "orders"]
                if all(reach.committed >= reach.end for reach in orders):
                    return
                await asyncio.sleep(_POLL_S)
            raise BenchError(f"the states were not judged within {patience_s:.0f} s")

        asyncio.run(wait())

    # --- what it has to do

    async def _load(self) -> None:
        await ensure_topics(self._connection, self._partitions)
        await cluster.load(self._connection, self._orders())

    def _orders(self) -> Iterator[cluster.LogRecord]:
        for number in range(self._states * self._partitions):
            key = b"%012d" % number
            placed_at = workload.START_MS - number * 7919 % PLACED_WITHIN_MS
            value = PAID % (key, b"s%d" % (number % workload.SHOPS), placed_at, placed_at)
            partition = self._partition_of(key, self._partitions)
            at = workload.START_MS
            yield cluster.LogRecord(INPUT_TOPICS[ORDER_PAID], partition, at, key, value)

    async def _until_back(self, number: int, give_up_s: float) -> list[Place]:
        """Send each partition something to do; return the ones that have not done it in time."""
        before = await self._asked(give_up_s)
        if before is None:
            raise BenchError("the broker does not answer")
        while not await self._sent(number):
            await asyncio.sleep(_POLL_S)
        missing = list(before)
        while missing and time.monotonic() < give_up_s:
            if (now := await self._asked(give_up_s)) is not None:
                missing = [
                    place
                    for place, reach in now.items()
                    if (reach.committed < reach.end and place.stage == "orders")
                    or reach.committed <= before[place].committed
                ]
            await asyncio.sleep(_POLL_S)
        return sorted(missing)

    async def _asked(self, give_up_s: float) -> dict[Place, Reach] | None:
        """Ask how far everybody has come, until the broker says it or time is up."""
        while time.monotonic() < give_up_s:
            try:
                async with asyncio.timeout(_ASK_S):
                    return await trouble.reached(self._broker.bootstrap)
            except _TROUBLE:
                await asyncio.sleep(_POLL_S)
        return None

    async def _sent(self, number: int) -> bool:
        """Send an overdue order to each order partition, and so its timeout to each of the shops'.

        Returns whether that is known to be in the log.
        """
        at = FRONTIER_MS - OVERDUE_MS
        producer = AIOKafkaProducer(bootstrap_servers=self._broker.bootstrap)
        try:
            async with asyncio.timeout(_ASK_S):
                await producer.start()
                for partition in range(self._partitions):
                    key = self._key(f"T{number}-", partition)
                    shop = self._key("shop", partition)
                    await producer.send_and_wait(
                        INPUT_TOPICS[ORDER_PAID], PAID % (key, shop, at, at), key, partition,
                        FRONTIER_MS,
                    )  # fmt: skip
        except _TROUBLE:
            return False
        else:
            return True
        finally:
            await producer.stop()

    def _key(self, prefix: str, partition: int) -> bytes:
        """Return a key that belongs to a partition."""
        keys = (f"{prefix}{number}".encode() for number in itertools.count())
        return next(k for k in keys if self._partition_of(k, self._partitions) == partition)


def line_of(number: int, one: Try) -> str:
    """Say a try in a line, and what is missing below."""
    ready = "never" if one.ready_s is None else f"{one.ready_s:.1f} s"
    line = (
        f"try {number:3}  killed after {one.kill_after_s:.2f} s with {one.restored_before:2} "
        f"restored, broker back after {one.broker_s:4.1f} s, all ready after {ready}"
    )
    return "\n".join([line, *(f"         {what}" for what in one.missing)])


def report(tries: list[Try], options: argparse.Namespace) -> None:
    """Print a summary and write the result."""
    times = sorted(one.ready_s for one in tries if one.ready_s is not None)
    failed = len(tries) - len(times)
    summary: dict[str, Any] = {"tries": len(tries), "failed": failed}
    if times:
        summary |= {"median_s": round(median(times), 1), "max_s": round(times[-1], 1)}
    print(
        f"{len(tries)} tries, {failed} failed"
        + (f"; all ready after: median {median(times):.1f} s, max {times[-1]:.1f} s" * bool(times))
    )
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": compare.machine(),
        "python": platform.python_version(),
        "partitions_of_both_stages": 2 * options.partitions,
        "states_a_partition": options.states,
        "busy": options.busy,
        "seed": options.seed,
        "limit_s": options.limit,
        **summary,
        "runs": [rounded(one) for one in tries],
    }
    print(json.dumps(summary))
    options.results.mkdir(parents=True, exist_ok=True)
    compare.write(options.results / "restore_kills.json", result)


def rounded(one: Try) -> dict[str, Any]:
    """Return a try for the result file."""
    found = one._asdict()
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()}


def say(line: str) -> None:
    """Tell progress, beside the result."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
