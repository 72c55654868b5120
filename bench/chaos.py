"""Disturb workers and broker while orders are loaded, and compare every record with a simulation.

Run: python bench/chaos.py [--orders N] [--workers N] [--partitions N] [--disturbances N] [--seed N]
     [--busy N] [--standstill S] [--security scram-tls]

Workers are killed, paused and paused for longer than their session; the broker is killed and
started again on its data; and while a worker restores partitions, it or the broker is killed or
paused. `--busy` programs eat the cores meanwhile. Then all heals, and the outputs (key, value and
headers, as a multiset) and the shops' ledger must be those that a simulation gives for the log that
the broker holds. A partition that has something to do and does not move for `--standstill` seconds
ends the run at once, with what the workers said last of it. With `--security scram-tls` the
workers log in over TLS and have the rights that `shipclock topics acls` lists, and no more.
Prints duplicates and losses by topic, the disturbances, and a JSON line; exits 1 unless all are 0.
The evidence of a failed run stays in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import trouble
import workload
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from trouble import POLICY, Busy, Place, Standstill

from streams.broker import BrokerError, EmbeddedBroker
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.engine.records import BETWEEN_STAGES, InRecord
from streams.engine.simulate import judge_log
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.rulebook import load_rulebook
from streams.runtime.batches import KeyPartitioner
from streams.runtime.publish import InputEvent, targets
from streams.runtime.rights import rights_of
from streams.testing import cluster
from streams.testing.secured import SecuredBroker

GROUP = f"{trouble.APP_ID}-orders"
# In these shares; every kind within any six.
KINDS = (
    "kill-worker", "restart-broker", "pause-worker", "kill-worker", "outsleep-session",
    "strike-restore",
)  # fmt: skip
# How long a kind lasts, seconds. The session of a worker is 10 s.
LASTS_S = {
    "kill-worker": (0.0, 4.0),
    "restart-broker": (0.0, 3.0),
    "pause-worker": (0.5, 5.0),
    "outsleep-session": (12.0, 20.0),
    "strike-restore": (0.0, 4.0),
}
# What strikes while a worker restores, and how soon after it has been assigned its partitions.
STRIKES = ("kill-broker", "pause-broker", "kill-worker", "pause-worker")
STRIKE_AFTER_S = (0.2, 1.5)
# The load is this many chunks for each disturbance, and so many before the first and after the
# last; it stays at most LEAD chunks ahead of what is judged, so that the work lasts to the end.
CHUNKS, LEAD = 4, 3
DONE_TIMEOUT_S = 600.0
SAY_S = 10.0
_ASSIGNED_S = 60.0
_TRY_S = 20.0
_LOOK_S = 3.0
_POLL_S = 0.25
_TROUBLE = (KafkaError, OSError, TimeoutError)

Written = Counter[tuple[str, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]
Ledger = dict[str, Counter[str]]


class Disturbance(NamedTuple):
    """What was done, when since the load began, to which worker, and for how long."""

    at_s: float
    kind: str
    worker: int | None
    lasts_s: float
    behind: int
    """Input records not judged yet at that time."""


class Outcome(NamedTuple):
    """What a run left in the topics."""

    log: list[cluster.LogRecord]
    outputs: list[cluster.LogRecord]
    until_ms: int
    disturbances: list[Disturbance]


class FailedRunError(Exception):
    """A run that came to no end to compare, or a worker that gave up."""


def main() -> None:
    """Run once and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--disturbances", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--busy", type=int, default=0, help="programs beside it that eat a core")
    parser.add_argument("--security", choices=("none", "scram-tls"), default="none")
    # Longer than any disturbance with the recovery from it, and than a worker keeps its counsel.
    parser.add_argument("--standstill", type=float, default=90.0, metavar="S")
    options = parser.parse_args()
    # The client tells every lost connection and abandoned request; here that is on purpose.
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="shipclock-chaos-"))
    passed = interrupted = False
    try:
        say(f"chaos: seed {options.seed}, in {folder}")
        started_s = time.monotonic()
        with Busy(options.busy):
            outcome = asyncio.run(run(folder, options))
        passed = report(outcome, folder, options, time.monotonic() - started_s)
    except (BrokerError, FailedRunError) as failure:
        say(f"error: {failure}")
    except KeyboardInterrupt:
        say("interrupted")
        interrupted = True
    finally:
        if passed or interrupted:
            shutil.rmtree(folder)
        else:
            say(f"evidence (broker data, logs of broker and workers, differences): {folder}")
    sys.exit(130 if interrupted else not passed)


def broker_of(folder: Path, options: argparse.Namespace) -> EmbeddedBroker:
    """Make the broker; of a secured one the bench uses the listener that is open."""
    return EmbeddedBroker(folder) if options.security == "none" else SecuredBroker(folder)


async def run(folder: Path, options: argparse.Namespace) -> Outcome:
    """Load and disturb at once, heal, wait until all is judged, read the topics."""
    chunks = chunked(options)
    with broker_of(folder / "broker", options) as broker:
        await ensure_topics(Connection(broker.bootstrap), options.partitions)
        if isinstance(broker, SecuredBroker):
            await broker.grant(rights_of("worker", broker.scram, "shipclock", ""))
        loader = Loader(broker.bootstrap, chunks)
        crew = Crew(broker, folder, options)
        watch = Watch(broker.bootstrap, folder, options)
        watching = asyncio.create_task(watch.run(loader))
        tasks: list[asyncio.Task[Any]] = [watching]
        try:
            # While the past is loaded, the end of a topic must tell nothing about the present.
            crew.start(idle_slack_ms=cluster.now_ms() - workload.START_MS)
            loading = asyncio.create_task(loader.load())
            disturbing = asyncio.create_task(crew.disturb(loader))
            tasks += loading, disturbing
            await unless(watching, asyncio.gather(loading, disturbing))
            say(f"{loader.elapsed_s():6.1f} s  all is loaded and healed")
            crew.stop()
            watch.all_loaded()
            crew.start(idle_slack_ms=500)
            until_ms = cluster.now_ms()
            log = await cluster.read(Connection(broker.bootstrap), INPUT_TOPICS)
            require_loaded(chunks, log)
            await unless(watching, wait_until_done(broker.bootstrap, until_ms))
            crew.stop()
            say(f"{loader.elapsed_s():6.1f} s  all is judged")
            outputs = await cluster.read(Connection(broker.bootstrap), cluster.OUTPUT_TOPICS)
            return Outcome(log, outputs, until_ms, disturbing.result())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            crew.kill()


async def unless(watching: asyncio.Task[Any], work: Awaitable[Any]) -> None:
    """Wait for some work; raise what the watch raises if it does so before."""
    working = asyncio.ensure_future(work)
    await asyncio.wait([watching, working], return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        working.cancel()
        watching.result()
    await working


class Watch:
    """Fails the run when a partition stands still though it has something to do."""

    def __init__(self, bootstrap: str, folder: Path, options: argparse.Namespace) -> None:
        self._bootstrap = bootstrap
        self._folder = folder
        self._patience_s = options.standstill
        self._standstill = Standstill(options.standstill)
        self._all_loaded = False

    def all_loaded(self) -> None:
        """From now on everybody can do all there is."""
        self._standstill.forgive()
        self._all_loaded = True

    async def run(self, loader: Loader) -> None:
        """Look again and again; raise FailedRunError for a standstill."""
        while True:
            await asyncio.sleep(_LOOK_S)
            loaded = loader.loaded
            try:
                async with asyncio.timeout(_TRY_S):
                    found = await trouble.reached(self._bootstrap)
            except _TROUBLE:
                continue
            self._standstill.look(found, loaded)
            # Log time goes on with the load: before its end the last records wait for more of it.
            still = self._standstill.still(0 if self._all_loaded else LEAD + 2)
            if not still and not loader.done and self._standstill.all_still("orders"):
                still = self._standstill.still(0)
            if still:
                raise FailedRunError("\n  ".join(self._described(still)))

    def _described(self, still: list[Place]) -> list[str]:
        logs = sorted(self._folder.glob("worker-*.log"))
        return [
            f"{len(still)} partitions stand still for {self._patience_s:.0f} s; said last of them:",
            *trouble.told(still, logs),
        ]


# ── the load ──────────────────────────────────────────────────────────────────────────────────────


def chunked(options: argparse.Namespace) -> list[list[cluster.LogRecord]]:
    """Cut a job by time; each chunk ends with a piece of garbage in every topic partition.

    The garbage lets log time pass in topics that have nothing else to say.
    """
    topics, _ = workload.make(options.orders, options.seed)
    events = [*workload.merged(topics), *workload.disputes(options.orders, options.seed)]
    events.sort()
    count = CHUNKS * (options.disturbances + 2)
    size = -(-len(events) // count)
    partitions = range(options.partitions)
    partition_of = KeyPartitioner()
    chunks = []
    for start in range(0, len(events), size):
        some = events[start : start + size]
        chunk = [
            cluster.LogRecord(event.topic, partition, event.timestamp, event.key, event.value)
            for event in some
            for partition in targets(placed(event), options.partitions, partition_of)
        ]
        chunk += [
            cluster.LogRecord(topic, partition, some[-1].timestamp, b"", b"garbage %d" % start)
            for topic in INPUT_TOPICS
            for partition in partitions
        ]
        chunks.append(chunk)
    return chunks


def placed(event: workload.Event) -> InputEvent:
    """Say what decides to which partitions an event goes."""
    named = None
    if event.topic == INPUT_TOPICS[EXEMPTION_GRANTED]:
        order_ids = json.loads(event.value)["scope"].get("order_ids")
        named = None if order_ids is None else tuple(order_ids)
    return InputEvent(event.topic, event.key, event.value, event.timestamp, named)


class Loader:
    """Loads the chunks one after the other, at most LEAD ahead of what is judged."""

    def __init__(self, bootstrap: str, chunks: list[list[cluster.LogRecord]]) -> None:
        self._bootstrap = bootstrap
        self._chunks = chunks
        self._ends: Counter[TopicPartition] = Counter()
        self._started_s = time.monotonic()
        self.loaded = 0
        """Chunks in the log."""

    def elapsed_s(self) -> float:
        """Tell the time since the load began."""
        return time.monotonic() - self._started_s

    @property
    def done(self) -> bool:
        """Whether all is in the log."""
        return self.loaded == len(self._chunks)

    async def load(self) -> None:
        """Load all; a chunk without an answer is written again, as any producer would do."""
        ahead_max = LEAD * len(self._chunks[0])
        for chunk in self._chunks:
            await self._wait_for_judges(ahead_max)
            while not await self._written(chunk):
                await asyncio.sleep(_POLL_S)
            self.loaded += 1

    async def _wait_for_judges(self, ahead_max: int) -> None:
        """Return once few enough records are behind."""
        said_s = time.monotonic()
        while (behind := await self.behind()) is None or behind > ahead_max:
            now_s = time.monotonic()
            if now_s - said_s > SAY_S:
                said_s = now_s
                chunks = f"{self.loaded} of {len(self._chunks)} chunks loaded"
                say(f"{self.elapsed_s():6.1f} s  {chunks}, {behind} records behind")
            await asyncio.sleep(_POLL_S)

    async def behind(self) -> int | None:
        """Count the input records that are in the log and not judged; None if nobody answers."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            async with asyncio.timeout(_TRY_S):
                await admin.start()
                found = await cluster.committed(admin, GROUP)
        except _TROUBLE:
            return None
        finally:
            await closed(admin.close())
        judged = sum(max(0, int(offset.offset)) for offset in found.values())
        return self._ends.total() - judged

    async def _written(self, chunk: list[cluster.LogRecord]) -> bool:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, enable_idempotence=True)
        try:
            async with asyncio.timeout(_TRY_S):
                await producer.start()
                sent = [
                    await producer.send(
                        record.topic, record.value, record.key, record.partition, record.timestamp
                    )
                    for record in chunk
                ]
                for metadata in await asyncio.gather(*sent):
                    tp = TopicPartition(metadata.topic, metadata.partition)
                    self._ends[tp] = max(self._ends[tp], metadata.offset + 1)
        except _TROUBLE:
            return False
        else:
            return True
        finally:
            await closed(producer.stop())


async def closed(closing: Coroutine[Any, Any, None]) -> None:
    """Wait for a client to disconnect, but not long: the broker may be away."""
    with contextlib.suppress(*_TROUBLE):
        async with asyncio.timeout(2):
            await closing


def require_loaded(chunks: list[list[cluster.LogRecord]], log: list[cluster.LogRecord]) -> None:
    """Raise FailedRunError unless the log has every record that was to be loaded."""
    missing = Counter(record[:5] for chunk in chunks for record in chunk)
    missing.subtract(record[:5] for record in log)
    if lost := +missing:
        raise FailedRunError(f"the input topics lack {lost.total()} records, as {next(iter(lost))}")


# ── the disturbances ──────────────────────────────────────────────────────────────────────────────


class Crew:
    """The broker and the workers, and what is done to them."""

    def __init__(self, broker: EmbeddedBroker, folder: Path, options: argparse.Namespace) -> None:
        draw = random.Random(options.seed)
        kinds = [KINDS[number % len(KINDS)] for number in range(options.disturbances)]
        draw.shuffle(kinds)
        self._draw = draw
        self._plan = [
            (kind, draw.randrange(options.workers), draw.uniform(*LASTS_S[kind])) for kind in kinds
        ]
        self._broker = broker
        self._folder = folder
        self._count = options.workers
        self._workers: list[cluster.WorkerProcess] = []
        self._restarts: list[asyncio.Task[None]] = []
        self._disturbed: set[int | None] = set()
        """Numbers of workers; None is the broker."""

    def start(self, idle_slack_ms: int) -> None:
        """Start all workers."""
        self._options = ("--policy", POLICY, "--idle-slack", str(idle_slack_ms))
        self._workers = [self._worker(number) for number in range(self._count)]

    def stop(self) -> None:
        """Stop all workers; raise FailedRunError if one does not end well."""
        self._require_alive()
        try:
            codes = [worker.stop() for worker in self._workers]
        except subprocess.TimeoutExpired:
            raise FailedRunError("a worker asked to stop did not") from None
        # One that was started just now does not hear the signal yet, and ends by it.
        if set(codes) - {0, -signal.SIGTERM}:
            raise FailedRunError(f"workers stopped with exit codes {codes}")

    def kill(self) -> None:
        """Kill the workers that live, stopped ones too."""
        for worker in self._workers:
            worker.kill()

    async def disturb(self, loader: Loader) -> list[Disturbance]:
        """Strike as planned, each time a share of the load is in the log; return when all heals.

        What lasts is not waited for, so disturbances overlap.
        """
        done: list[Disturbance] = []
        healing: list[asyncio.Task[None]] = []
        try:
            for number, (kind, drawn, lasts_s) in enumerate(self._plan):
                while loader.loaded < CHUNKS * (number + 1):
                    await self._poll(healing)
                while (behind := await loader.behind()) is None:
                    await self._poll(healing)
                while (target := self._target(kind, drawn)) in self._disturbed:
                    await self._poll(healing)
                self._disturbed.add(target)
                healing.append(asyncio.create_task(self._strike(kind, target, lasts_s)))
                done.append(Disturbance(loader.elapsed_s(), kind, target, lasts_s, behind))
                say(described(done[-1]))
            while not all(task.done() for task in healing):
                await self._poll(healing)
            await asyncio.gather(*healing)
        finally:
            for task in healing:
                task.cancel()
            # A thread cannot be cancelled, and a broker half started cannot be stopped.
            await asyncio.gather(*healing, *self._restarts, return_exceptions=True)
        return done

    async def _poll(self, healing: list[asyncio.Task[None]]) -> None:
        """Wait a little; raise what went wrong meanwhile."""
        for task in healing:
            if task.done():
                task.result()
        self._require_alive()
        await asyncio.sleep(_POLL_S)

    def _target(self, kind: str, drawn: int) -> int | None:
        """Return the worker drawn, or the next one that is well."""
        if kind == "restart-broker":
            return None
        others = ((drawn + step) % self._count for step in range(self._count))
        return next((number for number in others if number not in self._disturbed), drawn)

    async def _strike(self, kind: str, target: int | None, lasts_s: float) -> None:
        if target is None:
            restart = asyncio.create_task(asyncio.to_thread(self._restart_broker, lasts_s))
            self._restarts.append(restart)
            await asyncio.shield(restart)
        elif kind == "kill-worker":
            await self._kill_worker(target, lasts_s)
        elif kind == "strike-restore":
            await self._strike_restore(target, lasts_s)
        else:
            await self._pause_worker(target, lasts_s)
        self._disturbed.discard(target)

    async def _kill_worker(self, target: int, lasts_s: float) -> None:
        self._workers[target].kill()
        await asyncio.sleep(lasts_s)
        self._workers[target] = self._worker(target)

    async def _pause_worker(self, target: int, lasts_s: float) -> None:
        process = self._workers[target].process
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(lasts_s)
        process.send_signal(signal.SIGCONT)

    async def _strike_restore(self, target: int, lasts_s: float) -> None:
        """Start a worker, and strike soon after it has been assigned partitions to restore."""
        what, wait_s = self._draw.choice(STRIKES), self._draw.uniform(*STRIKE_AFTER_S)
        log = self._workers[target].log_path
        begin = log.stat().st_size
        await self._kill_worker(target, 0.0)
        give_up_s = time.monotonic() + _ASSIGNED_S
        while b"assigned stage=orders" not in log.read_bytes()[begin:]:
            if time.monotonic() > give_up_s:
                # The broker is away meanwhile, or another worker asleep.
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(wait_s)
        say(f"          {what} {wait_s:.1f} s after worker {target} was assigned its partitions")
        if what == "kill-worker":
            await self._kill_worker(target, lasts_s)
        elif what == "pause-worker":
            await self._pause_worker(target, lasts_s)
        else:
            while None in self._disturbed:
                await asyncio.sleep(_POLL_S)
            self._disturbed.add(None)
            if what == "kill-broker":
                await self._strike("restart-broker", None, lasts_s)
            else:
                await self._pause_broker(lasts_s)
            self._disturbed.discard(None)

    async def _pause_broker(self, lasts_s: float) -> None:
        java = trouble.java_of(self._broker)
        java.suspend()
        try:
            await asyncio.sleep(lasts_s)
        finally:
            java.resume()

    def _restart_broker(self, lasts_s: float) -> None:
        self._broker.kill()
        time.sleep(lasts_s)
        self._broker.start()

    def _worker(self, number: int) -> cluster.WorkerProcess:
        log_path = self._folder / f"worker-{number}.log"
        broker = self._broker
        connection = Connection(broker.bootstrap)
        if isinstance(broker, SecuredBroker):
            connection = broker.scram
        return cluster.WorkerProcess(connection, log_path, *self._options)

    def _require_alive(self) -> None:
        for number, worker in enumerate(self._workers):
            code = worker.process.poll()
            if code is not None and number not in self._disturbed:
                raise FailedRunError(f"worker {number} ended by itself with exit code {code}")


def described(done: Disturbance) -> str:
    """Tell a disturbance in a line."""
    whom = "" if done.worker is None else f" {done.worker}"
    return (
        f"{done.at_s:6.1f} s  {done.kind}{whom} for {done.lasts_s:.1f} s, "
        f"{done.behind} records behind"
    )


async def wait_until_done(bootstrap: str, until_ms: int) -> None:
    """Wait until all of the log is judged; raise FailedRunError if that does not come."""
    try:
        await cluster.wait_until_done(Connection(bootstrap), until_ms, timeout_s=DONE_TIMEOUT_S)
    except TimeoutError:
        raise FailedRunError(f"not done {DONE_TIMEOUT_S:.0f} s after all was healed") from None


# ── the comparison ────────────────────────────────────────────────────────────────────────────────


def report(outcome: Outcome, folder: Path, options: argparse.Namespace, elapsed_s: float) -> bool:
    """Print what differs by topic and for the ledger; return whether nothing does."""
    say("simulating the same log ...")
    wanted = simulated(outcome)
    expected, found = as_written(wanted), as_written(outcome.outputs)
    twice, lost = found - expected, expected - found
    print(f"{'topic':18} {'expected':>9} {'written':>9} {'duplicates':>11} {'lost':>6}")
    for topic in cluster.OUTPUT_TOPICS:
        counts = [
            sum(count for record, count in some.items() if record[0] == topic)
            for some in (expected, found, twice, lost)
        ]
        print("{:18} {:9} {:9} {:11} {:6}".format(topic, *counts))
    ledgers = ledger(wanted), ledger(outcome.outputs)
    differing = sorted(
        f"{account} {place}: {standing[place]}, expected {wanted_of[place]}"
        for account in ledgers[0]
        for wanted_of, standing in [(ledgers[0][account], ledgers[1][account])]
        for place in wanted_of.keys() | standing.keys()
        if wanted_of[place] != standing[place]
    )
    sums = {account: sum(standing.values()) for account, standing in ledgers[1].items()}
    print(f"ledger: {sums}, {len(differing)} shops or products differ")
    kinds = Counter(done.kind for done in outcome.disturbances)
    print(f"disturbances: {dict(kinds)}")
    for done in outcome.disturbances:
        print(described(done))
    print(f"duplicates {twice.total()}, lost {lost.total()}")
    result = {
        "seed": options.seed,
        "orders": options.orders,
        "events": len(outcome.log),
        "workers": options.workers,
        "partitions": options.partitions,
        "busy": options.busy,
        "disturbances": dict(kinds),
        "seconds": round(elapsed_s),
        "records_expected": expected.total(),
        "records_written": found.total(),
        "duplicates": twice.total(),
        "lost": lost.total(),
        "ledger_differences": len(differing),
    }
    print(json.dumps(result))
    if twice or lost or differing:
        keep_differences(folder / "differences.jsonl", twice, lost, differing)
        return False
    return True


def simulated(outcome: Outcome) -> list[cluster.LogRecord]:
    """Judge the log that the broker holds, without a broker."""
    log: dict[tuple[str, int], list[InRecord]] = defaultdict(list)
    for record in outcome.log:
        log[record.topic, record.partition].append(
            InRecord(record.offset, record.timestamp, record.key, record.value)
        )
    return [
        cluster.LogRecord(made.topic, -1, made.log_time_ms, made.key, made.value, made.headers)
        for _, _, checkpoint in judge_log(log, load_rulebook([POLICY]), outcome.until_ms)
        for made in checkpoint.outputs
        if made.topic not in BETWEEN_STAGES
    ]


def as_written(records: Iterable[cluster.LogRecord]) -> Written:
    """Count records by all that must be equal: topic, key, value and headers."""
    return Counter((record.topic, record.key, record.value, record.headers) for record in records)


def ledger(records: Iterable[cluster.LogRecord]) -> Ledger:
    """Fold penalties and bans, in the order they were written, into what each shop owes."""
    folded: Ledger = {"points": Counter(), "deposit": Counter(), "bans": Counter()}
    for record in records:
        if record.topic not in ("penalty", "product-ban"):
            continue
        value = json.loads(record.value or b"")
        shop_id = value["shop_id"]
        if record.topic == "penalty":
            folded[value["account"]][shop_id] += value["amount"]
        else:
            banned = value["type"] == "product-ban.imposed"
            folded["bans"][f"{shop_id}:{value['product_id']}"] = int(banned)
    return folded


def keep_differences(path: Path, twice: Written, lost: Written, differing: list[str]) -> None:
    """Write each record that is too many or missing, then the ledger's differences."""
    with path.open("w") as file:
        for side, some in (("duplicate", twice), ("lost", lost)):
            for (topic, key, value, headers), count in some.items():
                line = {
                    "side": side,
                    "times": count,
                    "topic": topic,
                    "key": text(key),
                    "value": text(value),
                    "headers": {name: text(of) for name, of in headers},
                }
                file.write(json.dumps(line) + "\n")
        for what in differing:
            file.write(json.dumps({"side": "ledger", "what": what}) + "\n")


def text(some: bytes | None) -> str | None:
    """Show bytes that are most likely text."""
    return None if some is None else some.decode("utf-8", "replace")


def say(line: str) -> None:
    """Tell progress, beside the result."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
