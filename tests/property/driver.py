"""Runs both stages over in-memory logs: batches of any size, crashes, lost commits, restores."""

from __future__ import annotations

import json
import random
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.rules.book import Rulebook
from streams.engine.marks import Marks
from streams.engine.orders_task import OrdersTask
from streams.engine.records import (
    BETWEEN_STAGES,
    FRONTIER_MARKS,
    SHOP_VIOLATIONS,
    Checkpoint,
    InRecord,
    OutRecord,
    columns,
)
from streams.engine.shops_task import ShopsTask
from tests.auditor.fold import Output
from tests.auditor.naive import DAY_MS, Event, by_partition

LONG_AFTER_MS = 500 * DAY_MS
IDLE_SLACK_MS = 500
NOW_MS = 4_000_000_000_000
EVERYTHING = 1_000_000
Task = TypeVar("Task", OrdersTask, ShopsTask)
Entry = tuple[bytes, bytes | None]
Log = dict[int, dict[str, list[InRecord]]]


def records_of(events: list[Event]) -> Log:
    """Return the input log by partition and topic, in offset order; partitions without a gap."""
    log: Log = {}
    sequences = by_partition(events)
    for partition in range(max(sequences, default=0) + 1):
        sequence = sequences.get(partition, [])
        topics: dict[str, list[InRecord]] = {topic: [] for topic in INPUT_TOPICS}
        for record in sorted(sequence, key=lambda record: record.offset):
            event = events[record.line]
            key = None
            if "value" in event:
                raw = json.dumps(event["value"]).encode()
                if record.topic != "exemption-granted":
                    key = event["value"]["order_id"].encode()
            else:
                raw = event["raw"].encode()
            topics[record.topic].append(InRecord(record.offset, record.timestamp, key, raw))
        log[partition] = topics
    return log


@dataclass
class Chaos:
    """How roughly a run is handled; the default is one batch and no accident."""

    rng: random.Random
    batch_max: int = EVERYTHING
    outputs_max: int = EVERYTHING
    crash: float = 0.0
    lost_commit: float = 0.0
    mark: float = 1.0
    live: bool = False


@dataclass
class Committed:
    """What the transactions of one task have left in the log."""

    outputs: list[OutRecord] = field(default_factory=list)
    changelog: list[Entry] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)

    def commit(self, checkpoint: Checkpoint) -> None:
        self.outputs += checkpoint.outputs
        # Within a transaction their order says nothing.
        self.changelog += sorted(checkpoint.changelog.items(), key=itemgetter(0))
        self.offsets.update(checkpoint.offsets)

    def restore(self, task: OrdersTask | ShopsTask, rng: random.Random) -> None:
        """Restore a task from the changelog, as written or compacted, in chunks."""
        entries = self.changelog
        if rng.random() < 0.5:
            entries = compacted(entries, rng)
        while entries:
            size = rng.randrange(1, len(entries) + 1)
            task.restore(entries[:size])
            entries = entries[size:]
        task.restored()
        stored = {topic: task.next_offsets[topic] for topic in self.offsets}
        if stored != self.offsets:
            raise AssertionError(f"restored offsets {stored}, committed {self.offsets}")


def compacted(entries: list[Entry], rng: random.Random) -> list[Entry]:
    """Return the changelog after the broker's cleaner has been over its head."""
    head, tail = entries[: (cut := rng.randrange(len(entries) + 1))], entries[cut:]
    last = {key: position for position, (key, _) in enumerate(head)}
    return [entry for position, entry in enumerate(head) if last[entry[0]] == position] + tail


class Machine(Generic[Task]):
    """One stage of one partition with its input, crashes included."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos = chaos
        self.committed = Committed()
        self.task: Task = self.start()

    def make(self) -> Task:
        raise NotImplementedError

    def start(self) -> Task:
        task = self.make()
        self.committed.restore(task, self.chaos.rng)
        return task

    def take(self, topic: str, records: list[InRecord], position: int) -> int:
        """Offer the next batch of a topic; return the position after it."""
        batch = records[position : position + self.chaos.rng.randrange(self.chaos.batch_max) + 1]
        self.task.offer(topic, columns(batch), NOW_MS)
        return position + len(batch)

    def step(self) -> bool:
        """Step and commit, or lose the commit and restart; return whether work is left."""
        rng = self.chaos.rng
        outputs = rng.randrange(self.chaos.outputs_max) + 1
        checkpoint = self.task.step(outputs, rng.random() < self.chaos.mark)
        if checkpoint is None:
            return False
        if rng.random() < self.chaos.lost_commit:
            self.task = self.start()
            return True
        self.committed.commit(checkpoint)
        if rng.random() < self.chaos.crash:
            self.task = self.start()
            return True
        more: bool = checkpoint.more
        return more


class OrdersMachine(Machine[OrdersTask]):
    """The orders stage of one partition."""

    def __init__(
        self,
        partition: int,
        topics: dict[str, list[InRecord]],
        policy: Rulebook,
        end_ms: int,
        chaos: Chaos,
    ) -> None:
        self.partition, self.topics = partition, topics
        self.policy = policy
        self.end_ms = end_ms
        super().__init__(chaos)

    def make(self) -> OrdersTask:
        return OrdersTask(self.partition, self.policy, self.chaos.live)

    def run(self) -> None:
        """Read in random batches, to the end, and let every timer fire."""
        task: OrdersTask | None = None
        position: dict[str, int] = {}
        while True:
            if task is not self.task:
                task = self.task
                position = task.next_offsets
            unread = [
                topic for topic, records in self.topics.items() if position[topic] < len(records)
            ]
            if not unread:
                if self.finish():
                    return
                continue
            for topic in self.topics.keys() - set(unread):
                task.complete(topic, self.end_ms)
            topic = self.chaos.rng.choice(unread)
            position[topic] = self.take(topic, self.topics[topic], position[topic])
            if self.chaos.rng.random() < 0.5:
                self.step()

    def run_live(self, delay_max: int) -> None:
        """Read each record some time after its timestamp, quiet topics counting as up to date."""
        rng = self.chaos.rng
        arrivals: dict[str, list[int]] = {}
        for topic, records in self.topics.items():
            times = [record.timestamp + rng.randrange(delay_max) for record in records]
            arrivals[topic] = list(accumulate(times, max))
        task: OrdersTask | None = None
        position: dict[str, int] = {}
        clock = iter(sorted({time for times in arrivals.values() for time in times}))
        while True:
            now = next(clock, self.end_ms)
            if task is not self.task:
                task = self.task
                position = task.next_offsets
            for topic, records in self.topics.items():
                there = bisect_right(arrivals[topic], now)
                task.offer(topic, columns(records[position[topic] : there]), now)
                position[topic] = there
            if now == self.end_ms:
                if self.finish():
                    return
                continue
            if rng.random() < 0.7:
                for topic in INPUT_TOPICS:
                    task.complete(topic, now - IDLE_SLACK_MS)
            if rng.random() < 0.8:
                self.step()

    def finish(self) -> bool:
        """Work off everything up to the end; False if an accident came between."""
        task = self.task
        for topic in INPUT_TOPICS:
            task.complete(topic, self.end_ms)
        while self.step():
            if self.task is not task:
                return False
        if self.task is not task:
            return False
        if last := task.step(EVERYTHING, mark=True):
            self.committed.commit(last)
        return True


class ShopsMachine(Machine[ShopsTask]):
    """The shops stage of one partition."""

    def __init__(
        self, partition: int, between: Between, policy: Rulebook, sources: int, chaos: Chaos
    ) -> None:
        self.partition, self.records = partition, between.items[partition]
        self.marks = [(record, ends[partition]) for record, ends in between.marks]
        self.policy, self.sources = policy, sources
        super().__init__(chaos)

    def make(self) -> ShopsTask:
        return ShopsTask(self.partition, self.policy, self.sources)

    def run(self) -> None:
        """Read all marks and items in random batches and work them off.

        Marks count once the items have been read to an end that was asked for after them.
        """
        rng, task, marks = self.chaos.rng, None, Marks("")
        position = marks_read = 0
        asked: tuple[int, int] | None = None
        while True:
            if task is not self.task:
                task, marks, asked = self.task, Marks(""), None
                position, marks_read = task.next_offsets[SHOP_VIOLATIONS], 0
            unread = position < len(self.records)
            if marks_read < len(self.marks) and (not unread or rng.random() < 0.3):
                begin, marks_read = marks_read, rng.randrange(marks_read, len(self.marks)) + 1
                for record, _ in self.marks[begin:marks_read]:
                    marks.take(record.key, record.value)
                least = self.marks[marks_read - 1][1]
                asked = marks.frontier_ms(self.sources), rng.randint(least, len(self.records))
            elif unread:
                position = self.take(SHOP_VIOLATIONS, self.records, position)
            elif not self.step() and task is self.task:
                return
            if asked is not None and position >= asked[1]:
                task.complete(SHOP_VIOLATIONS, asked[0])
                asked = None
            if rng.random() < 0.5:
                self.step()


@dataclass
class Result:
    """What a run wrote: outputs by stage and partition, in order."""

    orders: dict[int, list[OutRecord]]
    shops: dict[int, list[OutRecord]]

    def outputs(self) -> list[Output]:
        """Return all output records as `simulate` shows them; no order between partitions."""
        return [
            {
                "topic": record.topic,
                "key": None if record.key is None else record.key.decode(),
                "value": json.loads(record.value),
            }
            for stage in (self.orders, self.shops)
            for records in stage.values()
            for record in records
        ]


def play(
    events: list[Event],
    policy: Rulebook,
    chaos: Chaos,
    shop_partitions: int = 2,
    live_delay_max: int | None = None,
) -> Result:
    """Run both stages over the events, every timer included.

    With `live_delay_max` the orders stage runs against a clock: each record comes up to that many
    milliseconds after its timestamp.
    """
    log = records_of(events)
    end_ms = LONG_AFTER_MS + max(
        (r.timestamp for topics in log.values() for records in topics.values() for r in records),
        default=0,
    )
    machines = [
        OrdersMachine(partition, topics, policy, end_ms, chaos) for partition, topics in log.items()
    ]
    written: list[list[OutRecord]] = []
    orders: dict[int, list[OutRecord]] = {}
    for machine in machines:
        if live_delay_max is None:
            machine.run()
        else:
            machine.run_live(live_delay_max)
        outputs = machine.committed.outputs
        orders[machine.partition] = public(outputs)
        written.append(outputs)
    between = repartitioned(written, shop_partitions, chaos.rng)
    shops: dict[int, list[OutRecord]] = {}
    for partition in range(shop_partitions):
        shop = ShopsMachine(partition, between, policy, len(machines), chaos)
        shop.run()
        shops[partition] = public(shop.committed.outputs)
    return Result(orders, shops)


def public(outputs: list[OutRecord]) -> list[OutRecord]:
    """Leave out what the stages say to each other."""
    return [record for record in outputs if record.topic not in BETWEEN_STAGES]


class Between(NamedTuple):
    """What the order partitions wrote for the shops."""

    items: dict[int, list[InRecord]]
    """By shop partition."""
    marks: list[tuple[OutRecord, list[int]]]
    """Each with the ends that the shop partitions' items had when it was written."""


def repartitioned(
    written: list[list[OutRecord]], shop_partitions: int, rng: random.Random
) -> Between:
    """Mix what the order partitions wrote, each one's order kept, and split it by shop."""
    queues = [
        [record for record in reversed(records) if record.topic in BETWEEN_STAGES]
        for records in written
    ]
    found = Between({partition: [] for partition in range(shop_partitions)}, [])
    while any(queues):
        record = rng.choice([queue for queue in queues if queue]).pop()
        if record.topic == FRONTIER_MARKS:
            found.marks.append((record, [len(items) for items in found.items.values()]))
            continue
        items = found.items[zlib.crc32(record.key or b"") % shop_partitions]
        items.append(InRecord(len(items), NOW_MS, record.key, record.value))
    return found
