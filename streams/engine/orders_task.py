"""The orders stage of one partition: merge by time, judge, checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter

import msgspec

from streams.codec.decode import Decoder, Refused
from streams.codec.encode import encode_value
from streams.codec.state import PackedOrders, check_order
from streams.core.clock import END_OF_TIME_MS
from streams.core.events import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.core.frontier import Frontier
from streams.core.orders import OrdersStage, Record
from streams.core.outputs import FrontierMark, ShopItem
from streams.core.policy import Policy
from streams.engine.orders_changelog import (
    EXEMPTION_KEY,
    FIRST_ORDER_KEY,
    Meta,
    check_counts,
    in_parts,
    read_exemption,
    read_meta,
    timers_of,
)
from streams.engine.records import (
    META_KEY,
    META_VERSION,
    ORDERS_CHANGELOG,
    SHOP_VIOLATIONS,
    UNREADABLE,
    Checkpoint,
    CorruptChangelog,
    InRecord,
    OutRecord,
    out_record,
    unreadable,
)
from streams.engine.shortcuts import Shortcuts

_RANKS = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}
_EFFECTIVE = itemgetter(0)
# States one checkpoint changes: bounds how long a step takes, as `max_outputs` does.
_STATES_MAX = 20_000
# Orders an exemption is applied to between two looks at these bounds.
_SWEEP_ORDERS = 100


class OrdersTask:
    """Orders of one partition, from offered records to checkpoints.

    Call order: `restore`* then `restored`; from then on `offer`, `complete` and `step` at will.
    After `step` the memory is ahead of the log: commit the checkpoint or drop the task.

    Args:
        partition: Number of the co-partitioned input partition.
        shop_partitions: Partitions of `shop-violations`; each gets every frontier mark.
        live: Apply the live rules to timestamps; replays leave them out.
        app_id: Whose changelog this is; another's is refused.
        partitions: How many the inputs have; a state of another number is refused. 0: not known.
    """

    def __init__(
        self,
        partition: int,
        policy: Policy,
        shop_partitions: int,
        live: bool,
        app_id: str = "",
        partitions: int = 0,
    ) -> None:
        self.partition = partition
        self._policy = policy
        self._app_id = app_id
        self._partitions = partitions
        self._shop_partitions = shop_partitions
        self._live = live
        self._store = PackedOrders()
        self._stage = OrdersStage(partition, policy, self._store)
        self._shortcuts = Shortcuts(policy, self._stage, self._store)
        self._decoder = Decoder(policy)
        self._policy_digest = policy.digest
        self._frontier = Frontier(len(INPUT_TOPICS))
        self._processed_ms = [0] * len(INPUT_TOPICS)
        self._offsets = [0] * len(INPUT_TOPICS)
        self._held: list[list[Record]] = [[] for _ in INPUT_TOPICS]
        self._ready: list[Record] = []
        self._ready_topics = 0
        self._next = 0
        self._ready_below_ms = 0
        self._amid_timers = False
        self._marked_ms = -1
        self._meta: Meta | None = None

    # Restore

    def restore(self, entries: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take the next changelog records, in order."""
        packed = self._store.packed
        for key, value in entries:
            if value is None:
                packed.pop(key, None)
            else:
                packed[key] = value

    def restored(self) -> None:
        """Finish the restore once the changelog has been read to its end.

        Raises:
            CorruptChangelog: The changelog holds more or fewer states than its checkpoint says, or
                something that no program wrote.
            StateVersionError: A newer program wrote it.
        """
        for _ in self.restored_in_parts():
            pass

    def restored_in_parts(self) -> Iterator[None]:
        """Do what `restored` does, pausing every few milliseconds for the caller's other duties."""
        packed, stage, number = self._store.packed, self._stage, self.partition
        others: dict[bytes, bytes] = {}
        for keys in in_parts(packed):
            others |= {key: packed[key] for key in keys if key < FIRST_ORDER_KEY}
            yield
        for key in others:
            del packed[key]
        meta = None
        if META_KEY in others:
            meta = read_meta(number, others.pop(META_KEY), self._app_id, self._partitions)
        for key, value in others.items():
            stage.restore_exemption(read_exemption(number, key, value))
        check_counts(number, meta, len(packed), len(stage.exemptions))
        self._meta = meta
        if meta is not None:
            self._frontier.reached_ms = meta.reached_ms
            self._frontier.last_ms = list(meta.last_ms)
            self._processed_ms = list(meta.last_ms)
            self._offsets = list(meta.offsets)
            self._shortcuts.judged_after_ms = (
                meta.policy_since_ms
                if meta.policy_digest == self._policy_digest
                else meta.reached_ms
            )
            if meta.sweep is not None:
                if meta.sweep[0] not in stage.exemptions:
                    raise CorruptChangelog(
                        f"orders-changelog[{number}] was amid exemption {meta.sweep[0]}, "
                        "which it does not hold"
                    )
                stage.resume_sweep(*meta.sweep)
        for orders in in_parts(packed.items()):
            stage.timers.add_all(timers_of(number, orders, stage.retention.add))
            yield

    @property
    def policy(self) -> str:
        """The policy judged by, `name@version`."""
        return self._policy.label

    @property
    def restored_policy(self) -> str | None:
        """Policy of the last checkpoint, `name@version`; `None` without one."""
        return None if self._meta is None else self._meta.policy

    @property
    def next_offsets(self) -> dict[str, int]:
        """First offset not processed yet, per input topic."""
        return dict(zip(INPUT_TOPICS, self._offsets, strict=True))

    @property
    def last_ms(self) -> dict[str, int]:
        """Largest effective timestamp read, per input topic."""
        return dict(zip(INPUT_TOPICS, self._frontier.last_ms, strict=True))

    @property
    def frontier_ms(self) -> int:
        """Everything below it has been processed."""
        return self._frontier.reached_ms

    @property
    def open_orders(self) -> int:
        """Orders whose state is kept."""
        return len(self._store.packed)

    @property
    def buffered(self) -> int:
        """Records held back until the frontier passes them."""
        return sum(map(len, self._held)) + len(self._ready) - self._next

    def held(self, topic: str) -> int:
        """Count the records of one topic held back until the frontier passes them."""
        return len(self._held[_RANKS[topic]])

    # Feed

    def offer(self, topic: str, records: Sequence[InRecord], now_ms: int) -> None:
        """Take the next records of one topic, in offset order.

        Args:
            now_ms: The machine's clock, for the live rules.
        """
        if not records:
            return
        rank = _RANKS[topic]
        offsets, timestamps, keys, values = zip(*records, strict=True)
        if self._live:
            effective = self._frontier.effective_live(rank, timestamps, now_ms)
            # What is being worked off is below this, even where a step stopped amid it.
            below = self._ready_below_ms
            if below > self._frontier.reached_ms:
                effective = [max(below, at) for at in effective]
        else:
            effective = self._frontier.effective(rank, timestamps)
        self._held[rank] += zip(effective, repeat(rank), offsets, timestamps, keys, values)

    def complete(self, topic: str, as_of_ms: int) -> None:
        """Note that a topic has been read to the end it had at an instant."""
        self._frontier.complete(_RANKS[topic], as_of_ms)

    def drain(self) -> None:
        """Let every determination, warning and closure timer fire; states are kept for good."""
        self._stage.forgetting = False
        for topic in INPUT_TOPICS:
            self.complete(topic, END_OF_TIME_MS)

    # Work

    def step(self, max_outputs: int, mark: bool) -> Checkpoint | None:
        """Process what lies below the frontier, at most about `max_outputs` outputs of it.

        Args:
            mark: Send frontier marks even if no violation is sent.

        Returns:
            What to commit, or `None` if nothing changed.

        Raises:
            CorruptChangelog: An order's restored state turned out to be none.
        """
        try:
            return self._step(max_outputs, mark)
        except Exception as exc:
            self._blame(exc)
            raise

    def _blame(self, exc: Exception) -> None:
        """Raise CorruptChangelog if a step failed at an order whose state cannot be read."""
        key = self._store.last_got
        packed = self._store.packed.get(key)
        if packed is not None:
            try:
                check_order(packed)
            except UNREADABLE as why:
                raise unreadable(ORDERS_CHANGELOG, self.partition, key, why) from exc
        exc.add_note(f"in orders[{self.partition}], at or after order {key!r}")

    def _step(self, max_outputs: int, mark: bool) -> Checkpoint | None:
        stage = self._stage
        before = self._frontier.reached_ms
        first = self._next
        # Then what was offered since has not been looked at yet.
        continued = first < len(self._ready)
        if not continued:
            self._gather()
            first = 0
        self._amid_timers = False
        finished = self._work(max_outputs)
        processed = self._next - first
        advanced = self._note_processed(first)
        changelog = self._store.flush()
        reached = self._frontier.reached_ms
        items, stage.items = stage.items, []
        mark = (mark or bool(items)) and reached > self._marked_ms
        if finished and not (processed or changelog or stage.outputs or items or mark):
            return None
        outputs = [out_record(output) for output in stage.outputs]
        stage.outputs.clear()
        outputs += [_item_record(item) for item in items]
        if mark:
            self._marked_ms = reached
            outputs += self._marks(reached)
        changelog += [
            (EXEMPTION_KEY + grant.exemption_id.encode(), encode_value(grant))
            for grant in stage.granted
        ]
        stage.granted.clear()
        if processed or changelog or mark or reached > before or not finished:
            changelog.append((META_KEY, self._meta_value()))
        offsets = [(INPUT_TOPICS[rank], self._offsets[rank]) for rank in advanced]
        return Checkpoint(outputs, changelog, offsets, more=continued or not finished)

    def _note_processed(self, first: int) -> list[int]:
        """Keep offsets and log time of the last record processed of each topic; ranks of those."""
        advanced: dict[int, None] = {}
        for effective, rank, offset, *_ in reversed(self._ready[first : self._next]):
            if rank in advanced:
                continue
            advanced[rank] = None
            self._processed_ms[rank] = effective
            self._offsets[rank] = offset + 1
            if len(advanced) == self._ready_topics:
                break
        return sorted(advanced)

    def _gather(self) -> None:
        """Merge what the frontier has passed: by effective timestamp, then rank, then offset."""
        below = self._frontier.value()
        ready: list[Record] = []
        topics = 0
        for rank, held in enumerate(self._held):
            if not held or held[0][0] >= below:
                continue
            topics += 1
            if held[-1][0] < below:
                ready += held
                self._held[rank] = []
                continue
            end = _first_at(held, below)
            ready += held[:end]
            del held[:end]
        ready.sort(key=_EFFECTIVE)
        self._ready_topics = topics
        self._ready = ready
        self._next = 0
        self._ready_below_ms = below

    def _work(self, max_outputs: int) -> bool:
        """Take records and timers in order; False if `max_outputs` was reached first."""
        if not self._sweep(max_outputs):
            return False
        timers, grace = self._stage.timers, self._policy.grace
        take = self._shortcuts.take
        begin = self._next
        # A record changes one state at most.
        end = min(len(self._ready), begin + _STATES_MAX)
        for index, record in enumerate(self._ready[begin:end], begin):
            effective = record[0]
            if timers.earliest_ms < effective - grace and not self._fire(
                effective - grace - 1, max_outputs
            ):
                self._next = index
                return False
            if not take[record[1]](record) and not self._take(record, max_outputs):
                # An exemption is taken again, and known, once its sweep is over.
                self._next = index if self._stage.sweep is not None else index + 1
                self._reach(effective)
                return False
        self._next = end
        if end < len(self._ready):
            self._reach(self._ready[end - 1][0])
            return False
        over = self._ready_below_ms - grace - 1
        if not self._fire(over, max_outputs):
            return False
        self._reach(self._ready_below_ms)
        return not self._stage.forgetting or self._forget(over)

    def _reach(self, instant: int) -> None:
        self._frontier.reached_ms = max(self._frontier.reached_ms, instant)

    def _take(self, record: Record, max_outputs: int) -> bool:
        """Take a record the long way; False if `max_outputs` was reached or a sweep goes on."""
        effective, rank, _, timestamp, key, value = record
        stage = self._stage
        over = effective - self._policy.grace - 1
        try:
            event = self._decoder.decode(rank, key, value, timestamp)
        except Refused as refused:
            stage.refuse(record, refused.reason, refused.detail)
        else:
            forget = self._store.forget
            if rank == EXEMPTION_GRANTED:
                for resting in stage.retention.keys(over):
                    forget(resting, over)
            elif key is not None:
                forget(key, over)
            stage.process(record, event)
            if rank == EXEMPTION_GRANTED and not self._sweep(max_outputs):
                return False
        return len(stage.outputs) < max_outputs

    def _forget(self, over: int) -> bool:
        """Forget what has rested for its minute; False if that was more than a step may change."""
        forget, pop = self._store.forget, self._stage.retention.pop
        while keys := pop(over, _STATES_MAX):
            for key in keys:
                forget(key, over)
            if len(self._store.changes) >= _STATES_MAX:
                return False
        return True

    def _sweep(self, max_outputs: int) -> bool:
        """Apply the exemption at hand; False if `max_outputs` was reached first."""
        stage, changes, visited = self._stage, self._store.changes, 0
        while not stage.sweep_on(_SWEEP_ORDERS):
            visited += _SWEEP_ORDERS
            if len(stage.outputs) >= max_outputs or max(visited, len(changes)) >= _STATES_MAX:
                return False
        return True

    def _fire(self, limit: int, max_outputs: int) -> bool:
        """Fire timers up to an instant; False if `max_outputs` was reached first."""
        stage, timers = self._stage, self._stage.timers
        while timers.earliest_ms <= limit:
            timer = timers.pop(limit)
            if timer is None:
                break
            stage.fire(*timer)
            if len(stage.outputs) >= max_outputs or len(self._store.changes) >= _STATES_MAX:
                # All records up to the timer's instant and its grace have been processed, and
                # none may come there any more; but timers of that very instant are left.
                reached = timer[0] + self._policy.grace + 1
                self._amid_timers = True
                self._reach(reached)
                return False
        return True

    # What a checkpoint holds

    def _marks(self, reached: int) -> list[OutRecord]:
        mark = FrontierMark(
            frontier_ms=reached - self._policy.grace - self._amid_timers, source=self.partition
        )
        value = encode_value(mark)
        return [
            OutRecord(SHOP_VIOLATIONS, None, value, (), partition)
            for partition in range(self._shop_partitions)
        ]

    def _meta_value(self) -> bytes:
        return msgspec.msgpack.encode(
            Meta(
                version=META_VERSION,
                app_id=self._app_id,
                policy=self._policy.label,
                reached_ms=self._frontier.reached_ms,
                last_ms=self._processed_ms,
                offsets=self._offsets,
                orders=len(self._store.packed),
                exemptions=len(self._stage.exemptions),
                policy_digest=self._policy_digest,
                policy_since_ms=self._shortcuts.judged_after_ms,
                sweep=self._stage.sweep,
                partitions=self._partitions,
            )
        )


def _item_record(item: ShopItem) -> OutRecord:
    return OutRecord(SHOP_VIOLATIONS, item.shop_id.encode(), encode_value(item), (), None)


def _first_at(records: list[Record], instant: int) -> int:
    """Index of the first record with an effective timestamp at or after an instant."""
    low, high = 0, len(records)
    while low < high:
        middle = (low + high) // 2
        if records[middle][0] < instant:
            low = middle + 1
        else:
            high = middle
    return low
