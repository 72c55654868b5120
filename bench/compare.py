"""The same job by shipclock and by the engines it stands beside, in alternation on one machine.

Run: python bench/compare.py [--orders N] [--partitions N] [--rounds N] [--only NAME ...]
     python bench/compare.py --duties [--orders N] [--partitions N] [--rounds N]
     python bench/compare.py --packs [--orders N] [--partitions N] [--rounds N]

The job: an order without a carrier's scan within 72 hours of its placing gets a `timeout`. Every
run has a fresh broker, loaded anew and read once by the client library alone, so that all engines
meet the same log in the same state; that reading is the machine's speed at the moment. The clock
runs from `ready` to the instant a read_committed consumer has seen the whole answer, which follows
from the events alone. A record too many, too few or twice fails the command.

`--duties` runs shipclock alone and adds the duties of the default policy one after the other.

`--packs` runs whole packs with two workers, all their outputs included: `default`
(douyin-first-scan) and `two-kinds` (douyin-2022, with some late uploads), each beside a Flink that
emits the first timeouts alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import plots
import psutil
import workload
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from throughput import keep_from_collector, read_alone

from streams.broker import EmbeddedBroker, broker_status
from streams.broker.jars import KAFKA_VERSION
from streams.broker.java import find_java
from streams.engine.compiled import NOT_COMPILED_WHY
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.testing import cluster

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
POLICIES = HERE / "policies"
JOB_POLICY = POLICIES / "first-scan-72h.toml"
DUTIES: dict[str, Path | str] = {
    "first timeout": JOB_POLICY,
    "+ repeats": POLICIES / "duties-2-repeats.toml",
    "+ warnings": POLICIES / "duties-3-warnings.toml",
    "+ points, deposit, ban": POLICIES / "duties-4-account.toml",
    "+ closure, retention, all modes": "douyin-first-scan",
}

FAUST_ORDERS = 6_000
"""Faust does about a thousand events a second: the whole job would take it half an hour."""
READY_TIMEOUT_S = 120.0
SETTLE_S = 2.0
STOP_TIMEOUT_S = 20.0
WATCH_S = 0.05
SAMPLE_S = 0.2
FAMILY_S = 1.0
FIGURES = (
    "events_per_s", "events_per_cpu_s", "rss_peak_mb", "rss_high_water_mb", "wall_s", "cpu_s",
    "start_cpu_s", "events_per_cpu_s_with_start", "broker_cpu_s", "ready_s",
    "reading_alone_per_cpu_s", "of_reading",
)  # fmt: skip


class WrongAnswerError(Exception):
    """An engine wrote what the events do not say."""


class SkippedError(Exception):
    """An engine that cannot run here, and why."""


class Job(NamedTuple):
    """What is in the topics, and what must come of it."""

    orders: int
    records: list[cluster.LogRecord]
    timeouts: set[tuple[str, int]]
    """(order_id, deadline) of every order without a scan in time."""
    answer: workload.Answer


class Pack(NamedTuple):
    """A job of a whole pack."""

    policy: str
    clocks: tuple[workload.Clock, ...]


PACKS = {
    "default": Pack("douyin-first-scan", (workload.LATE_SCAN,)),
    "two-kinds": Pack("douyin-2022", (workload.LATE_SHIP, workload.LATE_SCAN)),
}


class Engine(NamedTuple):
    """A way to do the job, as a command."""

    name: str
    label: str
    command: Callable[[str, Path], list[str]]
    """From the broker's address and a folder of its own."""
    ready: re.Pattern[bytes]
    """What it prints once it works."""
    guarantee: str
    orders_max: int | None = None


def main() -> None:
    """Run all engines in alternation, print a table, write results and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=500_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES, help=" ".join(NAMES))
    parser.add_argument("--duties", action="store_true", help="what each duty costs shipclock")
    parser.add_argument("--packs", action="store_true", help="whole packs beside Flink")
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="of one run")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args()
    prepare()
    try:
        if options.packs:
            run_packs(options)
        else:
            (run_duties if options.duties else run_engines)(options)
    except WrongAnswerError as error:
        sys.exit(f"wrong answer: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def prepare() -> None:
    """Let a kill end the command as Ctrl-C does, so that nothing is left running; quiet clients."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # They complain of a topic's first moments; what fails for good is raised.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if NOT_COMPILED_WHY:
        say(f"shipclock takes usual events the plain way, which is slower: {NOT_COMPILED_WHY}")


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


# --- the engines


def ours(workers: int, policy: Path | str = JOB_POLICY) -> Callable[[str, Path], list[str]]:
    """Return the command of the whole product."""

    def command(bootstrap: str, folder: Path) -> list[str]:  # noqa: ARG001
        return [
            sys.executable, "-m", "streams", "worker", "--bootstrap", bootstrap,
            "--policy", str(policy), "--workers", str(workers),
        ]  # fmt: skip

    return command


def jvm(peer: str, state: str, *more: str) -> Callable[[str, Path], list[str]]:
    """Return the command of a peer on the JVM: two threads, as many as there are cores."""

    def command(bootstrap: str, folder: Path) -> list[str]:
        home = PEERS / peer
        lines = (home / "jvm.options").read_text().splitlines()
        options = [line.strip() for line in lines if line.strip() and line.lstrip()[0] != "#"]
        return [
            java(), *options, "-jar", str(built_jar(peer)), "--bootstrap", bootstrap,
            "--state", state, "--parallelism", "2", "--dir", str(folder), *more,
        ]  # fmt: skip

    return command


def faust(guarantee: str) -> Callable[[str, Path], list[str]]:
    """Return the command of Faust as its documentation has it."""

    def command(bootstrap: str, folder: Path) -> list[str]:
        return [
            sys.executable, str(PEERS / "faust_table.py"), "--bootstrap", bootstrap,
            "--dir", str(folder), "--guarantee", guarantee,
        ]  # fmt: skip

    return command


READY = re.compile(rb"^READY\b", re.MULTILINE)
# Its clock runs from the assignment: what it takes to begin with the partitions is in it.
ASSIGNED = re.compile(rb" assigned +stage=orders ")
ENGINES = (
    Engine("shipclock-1", "shipclock, 1 worker", ours(1), ASSIGNED, "exactly once"),
    Engine("shipclock-2", "shipclock, 2 workers", ours(2), ASSIGNED, "exactly once"),
    Engine("flink-heap", "Flink, heap", jvm("flink", "heap"), READY, "exactly once"),
    Engine("flink-rocksdb", "Flink, RocksDB", jvm("flink", "rocksdb"), READY, "exactly once"),
    Engine("kstreams-memory", "Kafka Streams, in memory", jvm("kafka-streams", "memory"), READY,
           "exactly once"),
    Engine("kstreams-rocksdb", "Kafka Streams, RocksDB", jvm("kafka-streams", "rocksdb"), READY,
           "exactly once"),
    Engine("faust-exactly-once", "Faust, Table, exactly_once", faust("exactly_once"), READY,
           "exactly once but for its outputs", FAUST_ORDERS),
    Engine("faust-at-least-once", "Faust, Table, its default", faust("at_least_once"), READY,
           "at least once", FAUST_ORDERS),
)  # fmt: skip
NAMES = tuple(engine.name for engine in ENGINES)
OURS = ("shipclock-1", "shipclock-2")
JVM_PEERS = {
    "flink": ("flink-heap", "flink-rocksdb"),
    "kafka-streams": ("kstreams-memory", "kstreams-rocksdb"),
}


def java() -> str:
    """Return the Java that peers run on: the one Maven would build with."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        raise SkippedError("no java")
    return found


def build(peer: str) -> None:
    """Build a peer with Maven.

    Raises:
        SkippedError: There is no JDK, no Maven, no such peer, or the build fails.
    """
    home = PEERS / peer
    if not (home / "pom.xml").exists():
        raise SkippedError(f"{home.relative_to(HERE.parent)} has no pom.xml")
    java()
    for tool in ("mvn", "javac"):
        if shutil.which(tool) is None:
            raise SkippedError(f"no {tool} here: install a JDK of 17 or newer, and Maven")
    say(f"building {peer}")
    command = ["mvn", "-q", "-B", "-DskipTests", "package"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SkippedError(f"its build failed:\n{(done.stdout + done.stderr)[-2000:]}")
    built_jar(peer)


def built_jar(peer: str) -> Path:
    """Return the jar that runs alone: the largest there is."""
    jars = sorted((PEERS / peer / "target").glob("*.jar"), key=lambda jar: jar.stat().st_size)
    if not jars:
        raise SkippedError("its build left no jar")
    return jars[-1]


def available(names: Sequence[str]) -> tuple[list[Engine], dict[str, str]]:
    """Build what is asked for; return the engines that can run, and why the others cannot."""
    skipped: dict[str, str] = {}
    for peer, variants in JVM_PEERS.items():
        asked = [name for name in variants if name in names]
        if not asked:
            continue
        try:
            build(peer)
        except SkippedError as reason:
            say(f"\n*** SKIPPED: {', '.join(asked)}: {reason} ***\n")
            skipped |= dict.fromkeys(asked, str(reason))
    return [e for e in ENGINES if e.name in names and e.name not in skipped], skipped


# --- a run


def make_job(
    orders: int, partitions: int, clocks: tuple[workload.Clock, ...] = (workload.LATE_SCAN,)
) -> Job:
    """Make the records of a job, partitioned, and closing ones for every partition."""
    topics, _ = workload.make(orders, late_uploads=len(clocks) > 1)
    missed, answer = workload.answer_of(topics, clocks)
    partition, numbers = DefaultPartitioner(), list(range(partitions))
    places = {event.key: partition(event.key, numbers, numbers) for event in topics[0]}
    placed = [(places[event.key], event) for event in workload.merged(topics)]
    records = [
        cluster.LogRecord(event.topic, number, event.timestamp, event.key, event.value)
        for number, event in [*placed, *workload.closing(partitions)]
    ]
    return Job(orders, records, missed, answer)


class Meter:
    """CPU and memory of a process and all that it starts."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._family: dict[int, psutil.Process] = {}
        self._cpu_s: dict[int, float] = {}
        self._high_water: dict[int, int] = {}
        self._look_again_s = 0.0
        self.rss_peak = 0
        """Bytes: the largest sum of the family's at one instant."""

    @property
    def cpu_s(self) -> float:
        """Seconds used so far in user and system mode; what has ended counts, too."""
        self.sample()
        return sum(self._cpu_s.values())

    @property
    def high_water(self) -> int:
        """Bytes: the sum of what each of the family held at most, at different instants maybe."""
        self.sample()
        return sum(self._high_water.values())

    def sample(self) -> None:
        """Look at every process once."""
        # To find new children means to read all processes of the machine.
        if time.monotonic() >= self._look_again_s:
            self._look_again_s = time.monotonic() + FAMILY_S
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in (self._root, *self._root.children(recursive=True)):
                    self._family.setdefault(process.pid, process)
        rss = 0
        for pid, process in self._family.items():
            with contextlib.suppress(psutil.NoSuchProcess, OSError):
                self._cpu_s[pid] = sum(process.cpu_times()[:2])
                rss += process.memory_info().rss
                self._high_water[pid] = high_water(pid) or self._high_water.get(pid, 0)
        self.rss_peak = max(self.rss_peak, rss)

    async def keep_sampling(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    def kill(self) -> None:
        """End whatever is left of the family."""
        for process in self._family.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def high_water(pid: int) -> int | None:
    """Return the most a process ever held, in bytes; None where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


class Answers:
    """What a read_committed consumer has seen on `timeout` so far."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.values: list[bytes] = []

    async def look(self) -> int:
        """Take what has come; return how many there are."""
        for records in (await self._consumer.getmany(timeout_ms=0)).values():
            self.values += [record.value for record in records]
        return len(self.values)

    async def settle(self, quiet_s: float) -> None:
        """Take what comes until nothing has come for so long."""
        count, since_s = len(self.values), time.monotonic()
        while time.monotonic() < since_s + quiet_s:
            await asyncio.sleep(WATCH_S)
            if await self.look() > count:
                count, since_s = len(self.values), time.monotonic()


@contextlib.asynccontextmanager
async def watched(bootstrap: str, partitions: int) -> AsyncIterator[Answers]:
    """Watch `timeout` without taking much of the cores: a fetch every 50 ms at most."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False,
        fetch_min_bytes=2**20, fetch_max_wait_ms=int(WATCH_S * 1000),
    )  # fmt: skip
    await consumer.start()
    try:
        places = [TopicPartition("timeout", number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        yield Answers(consumer)
    finally:
        await consumer.stop()


class Judge:
    """When the job is done, and whether its answer is right: first timeouts alone."""

    def __init__(self, job: Job) -> None:
        self.job = job

    async def finished(self, bootstrap: str, answers: Answers) -> None:  # noqa: ARG002
        """Return when a consumer has seen the whole answer."""
        while await answers.look() < len(self.job.timeouts):
            await asyncio.sleep(WATCH_S)

    async def check(self, bootstrap: str, answers: Answers) -> dict[str, int]:  # noqa: ARG002
        """Compare what was written with what the events say; return what was found.

        Raises:
            WrongAnswerError: Something is missing, too much, or there twice.
        """
        records = [json.loads(value) for value in answers.values]
        return self.compare((record["order_id"], record["deadline"]) for record in records)

    def compare(self, found: Iterable[tuple[str, int]]) -> dict[str, int]:
        """Compare (order_id, deadline) as multisets."""
        counted, wanted = Counter(found), Counter(self.job.timeouts)
        if counted != wanted:
            twice = sum(count - 1 for count in counted.values())
            missing, extra = wanted - counted, counted.keys() - wanted.keys()
            raise WrongAnswerError(
                f"{counted.total()} timeouts, wanted {wanted.total()}: {missing.total()} missing, "
                f"{len(extra)} not wanted, {twice} twice; for instance "
                f"{[*missing][:3]}, {[*extra][:3]}"
            )
        return {"timeouts": counted.total()}


class DutiesJudge(Judge):
    """The same for all duties: done is when both stages have worked off everything."""

    def __init__(self, job: Job, rank: int) -> None:
        super().__init__(job)
        answer = job.answer
        self._wanted = {
            "timeout": answer.determinations if rank >= 1 else len(job.timeouts),
            "deadline-warning": answer.warnings if rank >= 2 else 0,
            "order-closure": 0,
            "dead-letter": 0,
        }
        self._charging = rank >= 3
        self._started_ms = cluster.now_ms()

    async def finished(self, bootstrap: str, answers: Answers) -> None:  # noqa: ARG002
        await cluster.wait_until_done(
            Connection(bootstrap), self._started_ms, timeout_s=READY_TIMEOUT_S * 10
        )

    async def check(self, bootstrap: str, answers: Answers) -> dict[str, int]:
        records = [json.loads(value) for value in answers.values]
        self.compare((r["order_id"], r["deadline"]) for r in records if r["occurrence"] == 1)
        written = await cluster.read(Connection(bootstrap), cluster.OUTPUT_TOPICS)
        found = Counter(record.topic for record in written)
        if any(found[topic] != count for topic, count in self._wanted.items()):
            raise WrongAnswerError(f"{dict(found)}, wanted {self._wanted}")
        if bool(found["penalty"]) != self._charging:
            raise WrongAnswerError(f"{found['penalty']} penalties")
        return {topic: found[topic] for topic in cluster.OUTPUT_TOPICS}


@contextlib.contextmanager
def fresh_broker() -> Iterator[tuple[str, Meter, Path]]:
    """Run a broker in a folder of its own; yields its address, a meter, and room for others."""
    with (
        tempfile.TemporaryDirectory(prefix="shipclock-bench-") as folder,
        EmbeddedBroker(Path(folder) / "broker") as broker,
    ):
        status = broker_status(broker.data_dir)
        assert status is not None
        room = Path(folder) / "engine"
        room.mkdir()
        yield broker.bootstrap, Meter(status.pid), room


class EngineProcess:
    """An engine's processes while they run; what they print goes to a file."""

    def __init__(self, command: Sequence[str], ready: re.Pattern[bytes], folder: Path) -> None:
        self._ready = ready
        self.log_path = folder / "engine.log"
        self.started_s = time.monotonic()
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )  # fmt: skip
        self.meter = Meter(self._process.pid)

    def check(self) -> None:
        """Raise WrongAnswerError if it has ended by itself."""
        if self._process.poll() is not None:
            raise WrongAnswerError(f"it ended with code {self._process.returncode}\n{self.tail()}")

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log_path.read_text(errors="replace")[-3000:]

    async def ready(self) -> None:
        """Return once it works."""
        while not self._ready.search(self.log_path.read_bytes()):
            self.check()
            if time.monotonic() > self.started_s + READY_TIMEOUT_S:
                raise WrongAnswerError(f"not ready in {READY_TIMEOUT_S:.0f} s\n{self.tail()}")
            await asyncio.sleep(0.02)

    async def until(self, finished: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """Wait for what it should bring about, and sample its use of the machine meanwhile."""
        sampling = asyncio.create_task(self.meter.keep_sampling())
        waiting = asyncio.create_task(finished)
        try:
            async with asyncio.timeout(timeout_s):
                while not waiting.done():
                    self.check()
                    await asyncio.wait([waiting], timeout=1)
            await waiting
        except TimeoutError:
            raise WrongAnswerError(f"no answer in {timeout_s:.0f} s\n{self.tail()}") from None
        finally:
            sampling.cancel()
            waiting.cancel()
            await asyncio.wait([sampling, waiting])

    def stop(self) -> None:
        """Ask it to end, and make sure that nothing of it is left."""
        self.meter.sample()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.meter.kill()


async def run(
    engine: Engine, job: Job, partitions: int, timeout_s: float, judge: Judge
) -> dict[str, Any]:
    """Let one engine do the job on a broker of its own, and check what it wrote.

    Raises:
        WrongAnswerError: It ended, took too long, or wrote anything but the answer.
    """
    say(f"  {engine.label}: {len(job.records)} events")
    with fresh_broker() as (bootstrap, broker, folder):
        await ensure_topics(Connection(bootstrap), partitions)
        loaded = await cluster.load(Connection(bootstrap), job.records)
        reading = await read_alone(bootstrap, partitions, loaded)
        async with watched(bootstrap, partitions) as answers:
            process = EngineProcess(engine.command(bootstrap, folder), engine.ready, folder)
            try:
                await process.ready()
                ready_s = time.monotonic() - process.started_s
                early = await answers.look()
                meters = (process.meter, broker)
                before = [meter.cpu_s for meter in meters]
                own_s, busy_s = time.process_time(), machine_busy_s()
                started_s = time.monotonic()
                await process.until(judge.finished(bootstrap, answers), timeout_s)
                wall_s = time.monotonic() - started_s
                cpu_s, broker_s = (m.cpu_s - b for m, b in zip(meters, before, strict=True))
                own_s = time.process_time() - own_s
                busy_s = machine_busy_s() - busy_s
                # A duplicate would come now, or with the last commit of one that is stopped.
                await answers.settle(SETTLE_S)
                process.check()
            finally:
                process.stop()
            await answers.settle(SETTLE_S)
            found = await judge.check(bootstrap, answers)
    result = {
        "engine": engine.name,
        "orders": job.orders,
        "events": loaded,
        "found": found,
        "found_when_ready": early,
        "ready_s": round(ready_s, 2),
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "start_cpu_s": round(before[0], 2),
        "broker_cpu_s": round(broker_s, 2),
        "harness_cpu_s": round(own_s, 2),
        "others_cpu_s": round(max(0.0, busy_s - cpu_s - broker_s - own_s), 2),
        "events_per_s": round(loaded / wall_s),
        "events_per_cpu_s": round(loaded / cpu_s),
        "events_per_cpu_s_with_start": round(loaded / (before[0] + cpu_s)),
        "rss_peak_mb": round(process.meter.rss_peak / 2**20),
        "rss_high_water_mb": round(process.meter.high_water / 2**20),
        "reading_alone_per_cpu_s": round(reading),
        "of_reading": round(loaded / cpu_s / reading, 3),
    }
    say(
        f"    {wall_s:.1f} s, {result['events_per_s']} events/s, "
        f"{result['events_per_cpu_s']} per CPU-second ({result['of_reading']} of reading alone), "
        f"{result['rss_peak_mb']} MB, exact answer"
    )
    return result


def machine_busy_s() -> float:
    """Return the CPU-seconds all cores have worked so far, for whomever."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq")
    return float(sum(getattr(times, name, 0.0) for name in names))


# --- many runs


def run_engines(options: argparse.Namespace) -> None:
    """Compare the engines."""
    engines, skipped = available(options.only or NAMES)
    if not engines:
        sys.exit("nothing to run")
    say(f"making {options.orders} orders")
    sizes = {min(options.orders, engine.orders_max or options.orders) for engine in engines}
    jobs = {size: make_job(size, options.partitions) for size in sizes}
    keep_from_collector()
    runs = []
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        for engine in engines:
            job = jobs[min(options.orders, engine.orders_max or options.orders)]
            try:
                found = asyncio.run(
                    run(engine, job, options.partitions, options.timeout, Judge(job))
                )
            except WrongAnswerError as error:
                raise WrongAnswerError(f"{engine.label}: {error}") from None
            runs.append({"round": number, **found})
    medians = medians_of(runs, "engine")
    result = {
        **circumstances(options),
        "job": {
            "orders": options.orders,
            "events": len(jobs[max(sizes)].records),
            "timeouts": len(jobs[max(sizes)].timeouts),
            "partitions": options.partitions,
        },
        "engines": {e.name: {"label": e.label, "guarantee": e.guarantee} for e in engines},
        "medians": medians,
        "ratios": ratios(medians),
        "skipped": skipped,
        "runs": runs,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    write(options.results / "compare.json", result)
    plots.compare(result, options.results / "compare.svg")
    labels = {engine.name: engine.label for engine in engines}
    print(table(medians, labels))
    print()
    print(ratio_table(result["ratios"], labels))
    for name, reason in skipped.items():
        print(f"skipped: {name}: {reason.splitlines()[0]}")


def run_duties(options: argparse.Namespace) -> None:
    """Measure what each duty adds, with one worker."""
    job = make_job(options.orders, options.partitions)
    keep_from_collector()
    runs = []
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        for step, policy in DUTIES.items():
            engine = Engine(step, step, ours(1, policy), ASSIGNED, "exactly once")
            judge = DutiesJudge(job, [*DUTIES].index(step))
            found = asyncio.run(run(engine, job, options.partitions, options.timeout, judge))
            runs.append({"round": number, **found})
    medians = medians_of(runs, "engine")
    bare = medians["first timeout"]["cpu_s"]
    for figures in medians.values():
        figures["cpu_of_bare"] = round(figures["cpu_s"] / bare, 2)
        figures["us_per_event"] = round(1e6 / figures["events_per_cpu_s"], 1)
    result = {**circumstances(options), "medians": medians, "runs": runs}
    options.results.mkdir(parents=True, exist_ok=True)
    write(options.results / "duties.json", result)
    print(f"{'duties':34}{'us/event':>10}{'of bare':>10}{'events/s':>10}{'MB':>8}")
    for step, figures in medians.items():
        print(
            f"{step:34}{figures['us_per_event']:>10}{figures['cpu_of_bare']:>10}"
            f"{figures['events_per_s']:>10.0f}{figures['rss_peak_mb']:>8.0f}"
        )


def run_packs(options: argparse.Namespace) -> None:
    """Run whole packs, two workers, each beside Flink with the first timeouts of its kinds."""
    try:
        build("flink")
        with_flink = True
    except SkippedError as reason:
        say(f"\n*** SKIPPED: Flink: {reason} ***\n")
        with_flink = False
    jobs = {
        name: make_job(options.orders, options.partitions, pack.clocks)
        for name, pack in PACKS.items()
    }
    keep_from_collector()
    runs = []
    for number in range(1, options.rounds + 1):
        say(f"round {number} of {options.rounds}")
        for name, pack in PACKS.items():
            job = jobs[name]
            kinds = str(len(pack.clocks))
            flink = jvm("flink", "heap", "--kinds", kinds)
            engines = [
                (Engine(name, name, ours(2, pack.policy), ASSIGNED, "exactly once"),
                 DutiesJudge(job, len(DUTIES) - 1)),
                *([(Engine(f"{name} flink", f"Flink, {kinds}", flink, READY, "exactly once"),
                    Judge(job))] if with_flink else []),
            ]  # fmt: skip
            for engine, judge in engines:
                found = asyncio.run(run(engine, job, options.partitions, options.timeout, judge))
                runs.append({"round": number, **found})
    medians = medians_of(runs, "engine")
    for figures in medians.values():
        figures["us_per_event"] = round(1e6 / figures["events_per_cpu_s"], 2)
    result = {**circumstances(options), "medians": medians, "runs": runs}
    options.results.mkdir(parents=True, exist_ok=True)
    write(options.results / "packs.json", result)
    print(f"{'job':34}{'us/event':>10}{'events/s':>10}{'MB':>8}")
    for name, figures in medians.items():
        print(
            f"{name:34}{figures['us_per_event']:>10}{figures['events_per_s']:>10.0f}"
            f"{figures['rss_peak_mb']:>8.0f}"
        )
    ratio = medians["two-kinds"]["us_per_event"] / medians["default"]["us_per_event"]
    print(f"two-kinds / default, CPU an event: {ratio:.2f}")


def medians_of(runs: Sequence[Mapping[str, Any]], by: str) -> dict[str, dict[str, float]]:
    """Return the median of every figure for each engine, in the order of the runs."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for one in runs:
        grouped.setdefault(one[by], []).append(one)
    return {
        name: {figure: round(median(one[figure] for one in group), 3) for figure in FIGURES}
        for name, group in grouped.items()
    }


def ratios(medians: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Divide our medians by each peer's."""
    figures = {
        "wall": "events_per_s", "cpu": "events_per_cpu_s",
        "cpu_with_start": "events_per_cpu_s_with_start", "memory": "rss_peak_mb",
    }  # fmt: skip
    return {
        mine: {
            peer: {
                short: round(medians[mine][figure] / medians[peer][figure], 2)
                for short, figure in figures.items()
            }
            for peer in medians
            if peer not in OURS
        }
        for mine in OURS
        if mine in medians
    }


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    """Tell when, on what, with what."""
    return {
        "date": today(),
        "rounds": options.rounds,
        "machine": machine(),
        "versions": versions(),
    }


def today() -> str:
    """Return the date."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def machine() -> dict[str, Any]:
    """Describe the machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(ln.partition(":")[2].strip() for ln in lines if ln.startswith("model name"))
    system = platform.system()
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "os": f"{system}, {platform.system()} {platform.release()}",
    }


def versions(peers: Iterable[str] = JVM_PEERS) -> dict[str, str]:
    """Tell the versions of all that takes part."""
    found = {"python": platform.python_version(), "kafka of the broker": KAFKA_VERSION}
    found |= {name: version(name) for name in ("shipclock", "aiokafka", "faust-streaming")}
    found["usual events"] = "plain: no C compiler was there" if NOT_COMPILED_WHY else "compiled"
    found["java of the broker"] = java_release(str(find_java()))
    for peer in peers:
        with contextlib.suppress(SkippedError):
            found["java of the peers"] = java_release(java())
        pom = PEERS / peer / "pom.xml"
        text = pom.read_text() if pom.exists() else ""
        if said := re.search(r"<(?:flink|kafka)\.version>([^<]+)<", text):
            found[peer] = said[1]
    return found


def java_release(path: str) -> str:
    """Return the first line a Java tells of itself."""
    told = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    return told.partition("\n")[0]


def write(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result for people and programs."""
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    say(f"wrote {path}")


def table(medians: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> str:
    """Lay the medians out for a terminal."""
    heads = ("events/s", "per CPU-s", "with start", "of reading", "MB", "broker CPU-s")
    widths = (10, 11, 12, 12, 7, 14)
    titles = "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    lines = [f"{'median':28}{titles}"]
    lines += [
        f"{labels[name]:28}{f['events_per_s']:>10.0f}{f['events_per_cpu_s']:>11.0f}"
        f"{f['events_per_cpu_s_with_start']:>12.0f}{f['of_reading']:>12.2f}"
        f"{f['rss_peak_mb']:>7.0f}{f['broker_cpu_s']:>14.1f}"
        for name, f in medians.items()
    ]
    return "\n".join(lines)


def ratio_table(
    found: Mapping[str, Mapping[str, Mapping[str, float]]], labels: Mapping[str, str]
) -> str:
    """Lay out how many times the peers' figures ours are."""
    lines = []
    for mine, peers in found.items():
        if peers:
            lines.append(
                f"{labels[mine] + ' :':28}{'events/s':>10}{'per CPU-s':>11}{'with start':>12}"
                f"{'MB':>8}"
            )
        lines += [
            f"  {labels[peer]:26}{r['wall']:>10.2f}{r['cpu']:>11.2f}{r['cpu_with_start']:>12.2f}"
            f"{r['memory']:>8.2f}"
            for peer, r in peers.items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
