"""One simulated run: brokers, workers, producers and accidents, from a plan to rest."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from aiokafka import TopicPartition

import streams.engine.orders_task
import streams.kafka.waiting
import streams.runtime.partition
import streams.runtime.session
import streams.runtime.source
from streams.codec.states.checkpoint import decode_head
from streams.engine.marks import MARKS_PARTITION, request_record
from streams.engine.records import FRONTIER_MARKS, META_KEY
from streams.kafka.connection import Connection
from streams.runtime.agent import agent
from streams.runtime.clock import TrustedClock
from streams.runtime.errors import WorkerError
from streams.runtime.marks import MarksReader
from streams.runtime.reach import Reach
from streams.runtime.source import Source
from streams.runtime.stage import Stage
from streams.runtime.stages import product_stages
from tests.simulation.clients import (
    Faults,
    MemoryAdmin,
    MemoryConsumer,
    MemoryProducer,
    Network,
)
from tests.simulation.groups import Group
from tests.simulation.hangs import HangRates, Hangs
from tests.simulation.loop import PROCESS, Process, VirtualLoop
from tests.simulation.memory_kafka import MemoryKafka, Row
from tests.simulation.plan import Arrival, Plan, settings_of
from tests.unit.samples import DEFAULT

APP_ID = "simulated"

_MARKS = TopicPartition(FRONTIER_MARKS, MARKS_PARTITION)
_EPOCH_NS = 1_800_000_000_000_000_000
_REST_S_MAX = 300.0
_QUIET_S = 4.0
_JUMP_S = 2.0
_RESTORE_S = 0.5
_STOP_S_MAX = 10.0
_TOMBSTONES_KEPT_MS = 60_000
_CHANNEL_BATCHES_MAX = 64
_TEAR_DOWN_ROUNDS = 20


class EventClock:
    """The clock of the events: stands, or runs faster than the simulation's own time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._from_ms = self._to_ms = 0
        self._start_s = self._speed = 0.0

    def run(self, from_ms: int, to_ms: int, seconds: float) -> None:
        """Go from one instant to another, and stand there."""
        self._from_ms, self._to_ms = from_ms, to_ms
        self._start_s = self._loop.time()
        self._speed = (to_ms - from_ms) / seconds

    def now_ms(self) -> int:
        elapsed_s = self._loop.time() - self._start_s
        return min(self._to_ms, self._from_ms + int(elapsed_s * self._speed))

    def seconds_until(self, instant_ms: int) -> float:
        """Return how long to sleep until the clock shows an instant, at least."""
        return (instant_ms - self.now_ms() + 1) / self._speed if self._speed else 0.0


class World:
    """The run of one plan. `play` returns when all has come to rest, or says that it does not."""

    def __init__(self, plan: Plan, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.failures: list[str] = []
        self.stands_still = False
        """Whether it never came to rest."""
        self._trace = trace
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(lambda *_: None)
        self._rng = random.Random(f"run-{plan.seed}")
        self.kafka = MemoryKafka()
        self.hangs = Hangs(self.loop, random.Random(f"hangs-of-{plan.seed}"), self.note)
        dice = random.Random(f"net-{plan.seed}")
        self.network = Network(self.loop, self.kafka, dice, self, self.hangs)
        self.clock = EventClock(self.loop)
        trusted = TrustedClock(wall_ms=self.clock.now_ms, steady_ms=self.clock.now_ms)
        self.settings = settings_of(plan, app_id=APP_ID, clock=trusted)
        self.stages = product_stages(DEFAULT, APP_ID)
        self._workers: dict[str, tuple[Process, asyncio.Event]] = {}
        self._stopping: dict[str, Process] = {}
        """Workers that were told to stop and have not yet."""
        self._started = 0
        self._calm = False
        self._inputs_open = 0
        self._written, self._written_s = -1, 0.0

    @property
    def counts(self) -> dict[str, int]:
        """Partitions of each topic."""
        orders, shops = self.stages
        of_orders = dict.fromkeys((*orders.inputs, orders.changelog), self.plan.partitions)
        of_orders[FRONTIER_MARKS] = 1
        others = (*orders.outputs, *shops.inputs, *shops.outputs, shops.changelog)
        return dict.fromkeys(others, self.plan.shop_partitions) | of_orders

    # --- what is said

    def note(self, text: str, *details: object) -> None:
        if self._trace is not None:
            parts = " ".join(map(str, details))
            self._trace(f"{self.loop.time():9.4f} {text} {parts}")

    def fail(self, text: str) -> None:
        """Note what must never happen; the run goes on, and fails."""
        if self.network.closed:
            return
        self.note("FAIL", text)
        self.failures.append(text)

    def killed(self, process: Process) -> None:
        self.note("killed", process.name)
        self._workers.pop(process.name, None)
        if not self._calm:
            self.loop.call_later(self._rng.random() * 4.0, self._start_worker)
        elif not self._workers:
            # The accident was on its way when they all ended.
            self._start_worker()

    # --- the run

    def play(self) -> None:
        """Run to the end."""
        self.note("plan", self.plan.describe())
        try:
            with in_memory(self):
                asyncio.set_event_loop(self.loop)
                self.loop.run_until_complete(self._direct())
                self._tear_down()
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _direct(self) -> None:
        plan = self.plan
        self._make_topics()
        waiting = self._load_backlog()
        self.network.slow_topics = set(plan.slow_topics)
        ticking = asyncio.create_task(self._tick())
        self.clock.run(plan.backlog_until_ms, plan.last_arrival_ms, plan.play_s)
        for _ in range(plan.workers):
            self._start_worker()
        self._disturb_begins()
        disturbing = asyncio.create_task(self._disturb())
        cutting = asyncio.create_task(self._cut_connections())
        await self._send(waiting)
        await asyncio.sleep(self._rng.random() * 2.0)
        if not plan.punctual:
            # Log time must not jump before everything has got its place in it.
            disturbing.cancel()
            self._heal()
            await self._until(self._inputs_done, "all inputs to be processed", self._move_on)
            self._disturb_begins()
            disturbing = asyncio.create_task(self._disturb())
        self.clock.run(self.clock.now_ms(), plan.end_ms, _JUMP_S)
        await asyncio.sleep(_JUMP_S + self._rng.random() * plan.play_s)
        disturbing.cancel()
        self._heal()
        # Order partitions for whose marks nobody waits may take a minute to mark.
        last = request_record(APP_ID, "rest", self.frontier_end_ms - DEFAULT.processing.grace - 1)
        self.kafka.logs[_MARKS].append([Row(0, last.key, last.value)])
        await self._until(self._at_rest, "rest")
        await asyncio.gather(*(self._stop_worker(name) for name in list(self._workers)))
        await asyncio.sleep(_STOP_S_MAX)
        for name, process in self._stopping.items():
            if not process.frozen:
                self.fail(f"{name} does not stop")
        ticking.cancel()
        cutting.cancel()

    def _make_topics(self) -> None:
        for topic, partitions in self.counts.items():
            self.kafka.create_topic(topic, partitions)
        for stage in self.stages:
            self.network.groups[group_of(stage)] = Group(
                self.counts[stage.inputs[0]],
                self.settings.session_timeout_ms / 1000,
                self.settings.rebalance_timeout_ms / 1000,
            )

    def _load_backlog(self) -> list[Arrival]:
        backlog = [a for a in self.plan.arrivals if a.at_ms <= self.plan.backlog_until_ms]
        for arrival in backlog:
            self._arrive(arrival)
        return self.plan.arrivals[len(backlog) :]

    async def _send(self, arrivals: list[Arrival]) -> None:
        """Bring each record when its time has come."""
        for arrival in arrivals:
            while self.clock.now_ms() < arrival.at_ms:
                await asyncio.sleep(self.clock.seconds_until(arrival.at_ms))
            self._arrive(arrival)
        while self.clock.now_ms() < self.plan.last_arrival_ms:
            await asyncio.sleep(self.clock.seconds_until(self.plan.last_arrival_ms))

    def _arrive(self, arrival: Arrival) -> None:
        """Write a record plainly, in a transaction that ends later, or after an aborted one."""
        log = self.kafka.logs[TopicPartition(arrival.topic, arrival.partition)]
        draw = self._rng.random()
        self.note("arrives", arrival.topic, arrival.partition, "at", log.end)
        if draw > 0.1:
            log.append([arrival.row])
            return
        self._inputs_open += 1
        transaction = -self._inputs_open
        if draw < 0.05:
            log.append([Row(0, b"nobody", b"never committed")], transaction)
            log.append([arrival.row])
        else:
            log.append([arrival.row], transaction)
        end = partial(log.finish, transaction, commit=draw >= 0.05)
        self.loop.call_later(self._rng.random() * 0.5, end)

    # --- workers

    def _start_worker(self) -> None:
        if self.network.closed:
            return
        self._started += 1
        process = Process(f"w{self._started}")
        stop = asyncio.Event()
        self._workers[process.name] = process, stop
        self.note("start", process.name)
        self.loop.start(process, self._worker(process, stop))

    async def _worker(self, process: Process, stop: asyncio.Event) -> None:
        """Do what the app does: an agent and a source for each stage."""
        marks = MarksReader(self.settings, self._on_fatal, loop=self.loop)
        await marks.on_started()
        sources = []
        reach = Reach("memory")
        for stage in self.stages:
            channel: asyncio.Queue[Any] = asyncio.Queue(_CHANNEL_BATCHES_MAX)
            source = Source(
                self.settings, stage, channel, marks, self._on_fatal, reach, loop=self.loop
            )
            asyncio.create_task(agent(_batches(channel)))  # noqa: RUF006 - the process keeps it
            await source.on_started()
            sources.append(source)
        await stop.wait()
        await asyncio.gather(*(service.on_stop() for service in (marks, *sources)))
        self._stopping.pop(process.name, None)
        # The process ends with it, and whatever it has left running.
        self.note("ended", process.name)
        self.loop.kill(process)

    async def _stop_worker(self, name: str) -> None:
        """Stop a worker as SIGTERM would; one that sleeps is killed instead."""
        process, stop = self._workers.pop(name)
        self.note("stop", name)
        if process.frozen:
            self.loop.kill(process)
            return
        self._stopping[name] = process
        stop.set()

    def _on_fatal(self, exc: WorkerError) -> None:
        if self.network.closed:
            return
        self.fail(f"a worker cannot work: {exc}")

    # --- accidents

    def _disturb_begins(self) -> None:
        self._calm = False
        self.network.faults = self.plan.faults
        self.hangs.rates = self.plan.hangs

    async def _disturb(self) -> None:
        """Now and then do something to somebody."""
        rng, plan = self._rng, self.plan
        while True:
            await asyncio.sleep(rng.expovariate(1 / plan.disturb_every_s))
            names = list(self._workers)
            victim = self._workers[rng.choice(names)][0] if names else None
            what = rng.choice(("kill", "freeze", "freeze", "restart", "join", "rebalance",
                               "outage", "compact", "compact"))  # fmt: skip
            self.note("disturb", what, victim.name if victim else "-")
            if what == "kill" and victim is not None:
                self.loop.kill(victim)
                self.killed(victim)
            elif what == "freeze" and victim is not None:
                self.network.freeze(victim)
            elif what == "restart" and victim is not None:
                await self._stop_worker(victim.name)
                self.loop.call_later(rng.random() * 2.0, self._start_worker)
            elif what == "join" and len(names) < 3:
                self._start_worker()
            elif what == "rebalance":
                for group in self.network.groups.values():
                    group.rebalance(self.loop.time())
            elif what == "outage":
                self.network.down_until_s = self.loop.time() + rng.random() * 3.0
            elif what == "compact":
                self._compact()

    async def _cut_connections(self) -> None:
        """Now and then let the connections of a worker stay open and carry nothing."""
        dice, every_s = self.hangs.rng, self.plan.hangs.half_open_every_s
        while every_s:
            await asyncio.sleep(dice.expovariate(1 / every_s))
            if self._workers and not self._calm:
                self.hangs.half_open(self._workers[dice.choice(list(self._workers))][0])

    def assigned(self) -> None:
        """Strike at times a worker that has been assigned partitions, while it restores them."""
        process, dice = PROCESS.get(), self.hangs.rng
        if process is not None and dice.random() < self.hangs.rates.restores:
            self.loop.call_later(dice.random() * _RESTORE_S, self.hangs.half_open, process)

    def _compact(self) -> None:
        compacted = {FRONTIER_MARKS, *(stage.changelog for stage in self.stages)}
        for tp, log in self.kafka.logs.items():
            if tp.topic in compacted:
                log.compact(self._rng, self.wall_ns() // 1_000_000 - _TOMBSTONES_KEPT_MS)

    def _heal(self) -> None:
        """End all accidents; whoever sleeps wakes up."""
        self.note("heal")
        self._calm = True
        self.network.faults = Faults(delay_s=0.005)
        self.hangs.rates = HangRates()
        self.network.down_until_s = 0.0
        self.network.slow_topics = set()
        for process, _ in self._workers.values():
            if process.frozen:
                self.loop.thaw(process)
        if not self._workers:
            self._start_worker()

    async def _tick(self) -> None:
        """Keep the broker's own time: sessions, rebalances, transactions left open."""
        timeout_s = self.settings.transaction_timeout_ms / 1000
        while True:
            await asyncio.sleep(0.1)
            now_s = self.loop.time()
            for group in self.network.groups.values():
                group.tick(now_s)
            self.kafka.expire(now_s, timeout_s)

    # --- rest

    def _move_on(self) -> None:
        """Let the frontier pass what has arrived by now."""
        now_ms = self.clock.now_ms()
        self.clock.run(now_ms, now_ms + self.settings.idle_slack_ms + 1_000, 0.4)

    async def _until(
        self, reached: Callable[[], bool], what: str, meanwhile: Callable[[], None] | None = None
    ) -> None:
        give_up_s = self.loop.time() + _REST_S_MAX
        for round_ in count():
            if reached():
                return
            if meanwhile is not None and round_ % 10 == 0:
                meanwhile()
            if self.loop.time() > give_up_s:
                self.stands_still = True
                still = ", ".join(self._standing_still()) or "its frontier is missing"
                self.fail(
                    f"stands still for ever ({_REST_S_MAX:.0f} s of waiting for {what}): {still}"
                )
                return
            await asyncio.sleep(0.5)

    def _standing_still(self) -> list[str]:
        """Name the partitions that have left something undone, and how many records."""
        left: Counter[str] = Counter()
        for stage in self.stages:
            for tp in self._inputs_of(stage):
                left[f"{stage.name}[{tp.partition}]"] += self.unread(stage, tp)
        return [f"{where} has {count} records to process" for where, count in (+left).items()]

    def _inputs_done(self) -> bool:
        """Tell whether the orders stage has committed all that stands in the inputs."""
        return all(self.unread(self.stages[0], tp) == 0 for tp in self._inputs_of(self.stages[0]))

    def _at_rest(self) -> bool:
        """Tell whether all is processed and nobody has written for a while."""
        written = sum(log.end for log in self.kafka.logs.values())
        if written != self._written or self.kafka.undecided:
            self._written, self._written_s = written, self.loop.time()
        if self.loop.time() - self._written_s < _QUIET_S:
            return False
        unread = [self.unread(stage, tp) for stage in self.stages for tp in self._inputs_of(stage)]
        return not any(unread) and self._shops_done()

    def _shops_done(self) -> bool:
        """Tell whether every shop partition has committed that it has come to the last instant."""
        changelog = self.stages[1].changelog
        return all(
            self._reached_ms(TopicPartition(changelog, partition))
            >= self.frontier_end_ms - DEFAULT.processing.grace
            for partition in range(self.plan.shop_partitions)
        )

    def _reached_ms(self, tp: TopicPartition) -> int:
        for _, row in reversed(self.kafka.logs[tp].committed_rows()):
            if row.key == META_KEY:
                return decode_head(row.value or b"").reached_ms
        return 0

    @property
    def frontier_end_ms(self) -> int:
        """Where every frontier comes to stand."""
        return self.plan.end_ms - self.settings.idle_slack_ms

    def _inputs_of(self, stage: Stage) -> list[TopicPartition]:
        return [tp for tp in self.kafka.logs if tp.topic in stage.inputs]

    def unread(self, stage: Stage, tp: TopicPartition) -> int:
        """Count the visible records that a stage's group has not committed yet."""
        committed = self.kafka.committed.get((group_of(stage), tp), 0)
        log = self.kafka.logs[tp]
        if committed >= log.end:
            return 0
        return sum(offset >= committed for offset, _ in log.committed_rows()) + (
            log.stable_end < log.end
        )

    def wall_ns(self) -> int:
        """Return the machine's clock, which has nothing to do with the events'."""
        return _EPOCH_NS + int(self.loop.time() * 1e9)

    def _tear_down(self) -> None:
        """Let every task end, those of killed workers too; nothing of it reaches the log."""
        self.network.closed = True
        for _ in range(_TEAR_DOWN_ROUNDS):
            # A worker that ends meanwhile takes its process with it, as it does in truth.
            for process in self.loop.processes:
                self.loop.thaw(process)
            # First let begin what was only just made.
            self.loop.run_until_complete(asyncio.sleep(0.1))
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=30))
        raise RuntimeError(f"tasks that do not end: {tasks}")


async def _batches(channel: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while True:
        yield await channel.get()


def group_of(stage: Stage) -> str:
    """Return the consumer group of a stage."""
    return f"{APP_ID}-{stage.name}"


class _Log(logging.Handler):
    """Hears what the runtime logs; some of it must never be said."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        if text.startswith(("broken", "records-lost", "refused")):
            self._world.fail(text)
        else:
            self._world.note("log", text)
        if text.startswith("assigned"):
            self._world.assigned()


async def _nothing_found(connection: Connection) -> None:
    """Find nothing wrong with a connection."""


@contextmanager
def in_memory(world: World) -> Iterator[None]:
    """Put the fakes, the virtual time and the log handler into the runtime's modules."""
    network, loop = world.network, world.loop
    virtual_time = SimpleNamespace(
        monotonic=loop.time, time_ns=world.wall_ns, time=lambda: world.wall_ns() / 1e9
    )
    clients = {"consumer": MemoryConsumer, "producer": MemoryProducer, "admin": MemoryAdmin}
    log, handler = logging.getLogger("streams"), _Log(world)
    propagate, level = log.propagate, log.level
    with ExitStack() as stack:
        for name, fake in clients.items():
            # A partial is not bound to the connection, which says nothing of a network in memory.
            stack.enter_context(patch.object(Connection, name, partial(fake, network)))
        for name, module in list(sys.modules.items()):
            if name.startswith("streams.runtime.") and getattr(module, "time", None) is time:
                stack.enter_context(patch.object(module, "time", virtual_time))
        stack.enter_context(
            patch.object(streams.kafka.waiting, "_draw", random.Random(f"pause-{world.plan.seed}"))
        )
        # It would look for a broker outside.
        stack.enter_context(patch.object(streams.runtime.source, "diagnose", _nothing_found))
        # So that the few records of a run are many.
        stack.enter_context(patch.object(streams.runtime.session, "_SHARE_MIN", 1))
        for name, most in zip(
            ("_WINDOW_RECORDS", "_WINDOW_TIMERS"), world.plan.window, strict=True
        ):
            stack.enter_context(patch.object(streams.engine.orders_task, name, most))
        # Sets of partitions are walked in the order of their hashes, else those of addresses.
        stack.enter_context(
            patch.object(streams.runtime.partition.Partition, "__hash__", lambda self: self.number)
        )
        log.addHandler(handler)
        log.propagate = False
        log.setLevel(logging.INFO)
        stack.callback(log.setLevel, level)
        stack.callback(setattr, log, "propagate", propagate)
        stack.callback(log.removeHandler, handler)
        yield
