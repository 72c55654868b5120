"""The orders stage of one partition: merge by time, judge, checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter

from streams.codec.decode import Decoder, Refused
from streams.codec.encode import encode_value
from streams.codec.state import unpack_order
from streams.codec.states.checkpoint import VERSION, OrdersMeta, Progress, encode_meta
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.rules.book import Rulebook
from streams.core.stages.orders import OrdersStage, Record
from streams.core.time.frontier import Frontier
from streams.engine.bulk import Bulk
from streams.engine.compiled import new_store
from streams.engine.held import Held, Lane
from streams.engine.marks import mark_record
from streams.engine.orders_changelog import (
    EXEMPTION_KEY,
    FIRST_ORDER_KEY,
    check_counts,
    in_parts,
    read_exemption,
    read_meta,
    timers_of,
)
from streams.engine.records import (
    META_KEY,
    ORDERS_CHANGELOG,
    UNREADABLE,
    Checkpoint,
    Columns,
    CorruptChangelog,
    item_record,
    out_record,
    unreadable,
)
from streams.engine.task import PartitionTask

_RANKS = {topic: rank for rank, topic in enumerate(INPUT_TOPICS)}
_EFFECTIVE = itemgetter(0)
# Records, timers and log time of a window that is taken whole: some 0.1 s of work, and at worst a
# second. No usual order has a timer due so soon after its payment.
_WINDOW_RECORDS, _WINDOW_TIMERS, _WINDOW_MS = 16_384, 4_096, 6 * 3_600_000
# What of a window that is not is done in one go; outputs and records bound it, too.
_STATES_MAX = 20_000
_NO_LIMIT = 2**62
_MINUTE_MS = 60_000
# Orders an exemption is applied to between two looks at these bounds.
_SWEEP_ORDERS = 100


class OrdersTask(PartitionTask):
    """Orders of one partition, from offered records to checkpoints.

    Call order: `restore`* then `restored`; from then on `offer`, `complete`, `work` and
    `checkpoint` at will.

    Args:
        partition: Number of the co-partitioned input partition.
        live: Apply the live rules to timestamps; replays leave them out.
        app_id: Whose changelog this is; another's is refused.
        partitions: How many the inputs have; a state of another number is refused. 0: not known.
    """

    def __init__(
        self,
        partition: int,
        rulebook: Rulebook,
        live: bool,
        app_id: str = "",
        partitions: int = 0,
    ) -> None:
        self.partition = partition
        self._rulebook = rulebook
        self._grace = rulebook.processing.grace
        self._app_id = app_id
        self._partitions = partitions
        self._live = live
        self._store = new_store()
        self._stage = OrdersStage(partition, rulebook, self._store)
        self._bulk = Bulk(rulebook, self._stage, self._store)
        self._decoder = Decoder(rulebook)
        self._policy_digest = rulebook.digest
        self._frontier = Frontier(len(INPUT_TOPICS))
        self._processed_ms = [0] * len(INPUT_TOPICS)
        self._offsets = [0] * len(INPUT_TOPICS)
        self.topic_ids = {}
        self._held = Held(len(INPUT_TOPICS))
        self._window: list[Lane] = []
        """What is being worked off."""
        self._below_ms = 0
        """Where the window ends."""
        self._whole = True
        """The window is taken in one go."""
        self._ready: list[Record] = []
        """Records of the window that are taken one by one, and which of them comes next."""
        self._next = 0
        self._amid_timers = False
        self._advanced: dict[int, None] = {}
        """Ranks of the topics whose offsets the next checkpoint moves."""
        self._more = False
        self._meta: OrdersMeta | None = None

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
            stage.exemptions.add(read_exemption(number, key, value))
        check_counts(number, meta, len(packed), len(stage.exemptions))
        self._meta = meta
        if meta is not None:
            self._frontier.reached_ms = self._below_ms = meta.reached_ms
            progress = [meta.progress(topic) for topic in INPUT_TOPICS]
            self._frontier.last_ms = [each.last_ms for each in progress]
            self._processed_ms = [each.last_ms for each in progress]
            self._offsets = [each.offset for each in progress]
            self.topic_ids = {
                topic: each.topic_id for topic, each in meta.topics.items() if each.topic_id
            }
            self._bulk.usual.judged_after_ms = (
                meta.policy_since_ms
                if meta.policy_digest == self._policy_digest
                else meta.reached_ms
            )
            if meta.sweep is not None:
                exemption_id, log_time, last = meta.sweep
                exemption = stage.exemptions.get(exemption_id)
                if exemption is None:
                    raise CorruptChangelog(
                        f"orders-changelog[{number}] was in the middle of exemption "
                        f"{exemption_id}, which it does not hold"
                    )
                stage.resume_sweep(exemption, log_time, last)
                self._whole = False
        for orders in in_parts(packed.items()):
            stage.timers.add_all(timers_of(number, orders, stage.retention.add, packed.__setitem__))
            yield

    @property
    def policy(self) -> str:
        """The policy judged by, `name@version`."""
        return self._rulebook.label

    @property
    def restored_policy(self) -> str | None:
        """Policy of the last checkpoint, `name@version`; `None` without one."""
        return None if self._meta is None else self._meta.policy

    @property
    def policy_changed(self) -> bool:
        """The last checkpoint was made under other rules, also if name and version stayed."""
        return self._meta is not None and (
            self._meta.policy != self.policy
            or self._meta.policy_digest not in ("", self._policy_digest)
        )

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
    def mark_ms(self) -> int:
        """No item with a log time below it will follow."""
        return self._frontier.reached_ms - self._grace - self._amid_timers

    @property
    def waits_for_ms(self) -> int:
        """The effective timestamp of the first held record, or when the first timer fires."""
        return min(self._held.earliest_ms, self._stage.timers.earliest_ms + self._grace)

    @property
    def states(self) -> int:
        """Orders whose state is kept."""
        return len(self._store.packed)

    @property
    def buffered(self) -> int:
        """Records held back until the frontier passes them."""
        return sum(map(self.held, INPUT_TOPICS)) + len(self._ready) - self._next

    def held(self, topic: str) -> int:
        """Count the records of one topic held back until the frontier passes them."""
        return self._held.count(_RANKS[topic])

    def adopt(self, offsets: Mapping[str, int], topic_ids: Mapping[str, str]) -> None:
        """Take what the runtime found about the inputs; the next checkpoint commits all of it."""
        self._offsets = [offsets[topic] for topic in INPUT_TOPICS]
        self.topic_ids = topic_ids
        self._advanced = dict.fromkeys(range(len(INPUT_TOPICS)))

    # Feed

    def offer(self, topic: str, records: Columns, now_ms: int) -> None:
        """Take the next records of one topic.

        Args:
            now_ms: The machine's clock, for the live rules.
        """
        rank = _RANKS[topic]
        if self._live:
            effective = self._frontier.effective_live(rank, records.timestamps, now_ms)
            # What is being worked off is below this, even where a step stopped amid it.
            below = self._below_ms
            if below > self._frontier.reached_ms:
                effective = [max(below, at) for at in effective]
        else:
            effective = self._frontier.effective(rank, records.timestamps)
        self._held.add(rank, effective, records)

    def complete(self, topic: str, as_of_ms: int) -> None:
        """Note that a topic has been read to the end it had at an instant."""
        self._frontier.complete(_RANKS[topic], as_of_ms)

    def drain(self) -> None:
        """When all below the frontier is done: let every timer fire, and keep states for good."""
        self._stage.forgetting = False
        for topic in INPUT_TOPICS:
            self.complete(topic, END_OF_TIME_MS)

    # Work

    @property
    def pending(self) -> int:
        """Outputs and states that wait for the next checkpoint; not what came and went since."""
        return len(self._stage.outputs) + len(self._store.changed)

    def work(self, outputs_max: int) -> bool:
        """Process a window of what lies below the frontier, or as much of it as the bound allows.

        Raises:
            CorruptChangelog: An order's restored state turned out to be none.
        """
        try:
            self._more = self._work(outputs_max)
        except Exception as exc:
            self._blame(exc)
            raise
        return self._more

    def _blame(self, exc: Exception) -> None:
        """Raise CorruptChangelog if a step failed at an order whose state cannot be read."""
        key = self._store.last_got
        packed = self._store.packed.get(key)
        if packed is not None:
            try:
                unpack_order(packed)
            except UNREADABLE as why:
                raise unreadable(ORDERS_CHANGELOG, self.partition, key, why) from exc
        exc.add_note(f"in orders[{self.partition}], at or after order {key!r}")

    def _work(self, outputs_max: int) -> bool:
        if self._below_ms <= self._frontier.reached_ms and self._stage.sweep is None:
            self._open_window()
        self._amid_timers = False
        if self._whole:
            self._pass_window(_NO_LIMIT, _NO_LIMIT, _NO_LIMIT)
            self._note_lanes()
            done = True
        else:
            first = self._next
            done = self._pass_window(
                len(self._stage.outputs) + outputs_max,
                len(self._store.changed) + _STATES_MAX,
                _WINDOW_RECORDS,
            )
            self._note_records(first)
        if done:
            self._window = []
            done = not self._stage.forgetting or self._forget()
        return not done or self._frontier.reached_ms < self._frontier.value()

    def _open_window(self) -> None:
        """Cut off what is worked off next, and take what is usual of it."""
        self._below_ms, self._whole = self._next_window()
        self._window = self._held.cut(self._below_ms)
        if self._whole:
            self._ready = self._bulk.take(self._window)
        else:
            self._ready = [record for lane in self._window for record in lane.records()]
        self._ready.sort(key=_EFFECTIVE)
        self._next = 0

    def _next_window(self) -> tuple[int, bool]:
        """Say where the next window ends, and whether it is taken whole.

        It is where records and timers are few enough for one step and nothing concerns all orders;
        elsewhere, and where one instant has too many records, the work may stop after each.
        """
        reached, grace = self._frontier.reached_ms, self._grace
        held, timers = self._held, self._stage.timers
        begin = max(reached, min(held.earliest_ms, timers.earliest_ms + grace))
        below = min(self._frontier.value(), begin + _WINDOW_MS)
        granted = held.first_ms(EXEMPTION_GRANTED)
        if granted <= reached:
            return held.few_before(min(below, reached + 1), _WINDOW_RECORDS), False
        below = min(below, granted)
        few = timers.few_before(below - grace, _WINDOW_TIMERS) + grace
        if few <= reached:
            return held.few_before(min(below, reached + _MINUTE_MS), _WINDOW_RECORDS), False
        below = held.few_before(min(below, few), _WINDOW_RECORDS)
        return below, held.count_before(below) <= _WINDOW_RECORDS

    def _note_lanes(self) -> None:
        """Keep offsets and log time of a window's last record of each topic."""
        for lane in self._window:
            self._processed_ms[lane.rank] = lane.effective[-1]
            self._offsets[lane.rank] = lane.offsets[-1] + 1
            self._advanced[lane.rank] = None

    def _note_records(self, first: int) -> None:
        """Keep offsets and log time of the last record taken one by one of each topic."""
        noted: dict[int, None] = {}
        for effective, rank, offset, *_ in reversed(self._ready[first : self._next]):
            if rank in noted:
                continue
            noted[rank] = None
            self._processed_ms[rank] = effective
            self._offsets[rank] = offset + 1
            if len(noted) == len(self._window):
                break
        self._advanced |= noted

    def _pass_window(self, outputs_max: int, states_max: int, records_max: int) -> bool:
        """Take records and timers in order; False if a bound was reached first."""
        if not self._sweep(outputs_max, states_max):
            return False
        timers, grace = self._stage.timers, self._grace
        begin = self._next
        for index in range(begin, len(self._ready)):
            record = self._ready[index]
            effective = record[0]
            self._next = index
            if timers.earliest_ms < effective - grace and not self._fire(
                effective - grace - 1, outputs_max, states_max
            ):
                return False
            if index - begin >= records_max:
                self._reach(effective)
                return False
            if not self._take(record, outputs_max, states_max):
                # An exemption is taken again, and known, once its sweep is over.
                self._next = index if self._stage.sweep is not None else index + 1
                self._reach(effective)
                return False
        self._next = len(self._ready)
        if not self._fire(self._below_ms - grace - 1, outputs_max, states_max):
            return False
        self._reach(self._below_ms)
        return True

    def _reach(self, instant: int) -> None:
        self._frontier.reached_ms = max(self._frontier.reached_ms, instant)

    def _take(self, record: Record, outputs_max: int, states_max: int) -> bool:
        """Take a record the long way; False if a bound was reached or a sweep goes on."""
        effective, rank, _, timestamp, key, value = record
        stage, store = self._stage, self._store
        over = effective - self._grace - 1
        try:
            event = self._decoder.decode(rank, key, value, timestamp)
        except Refused as refused:
            stage.refuse(record, refused.reason, refused.detail)
        else:
            if rank == EXEMPTION_GRANTED:
                store.forget(stage.retention.keys(over), over)
            elif key is not None:
                store.forget([key], over)
            stage.process(record, event)
            if rank == EXEMPTION_GRANTED and not self._sweep(outputs_max, states_max):
                return False
        return len(stage.outputs) < outputs_max and len(store.changed) < states_max

    def _forget(self) -> bool:
        """Forget what has rested for its minute; False if that was more than a step may change."""
        over = self._below_ms - self._grace - 1
        keys = self._stage.retention.pop(over, _STATES_MAX)
        self._store.forget(keys, over)
        return len(keys) < _STATES_MAX

    def _sweep(self, outputs_max: int, states_max: int) -> bool:
        """Apply the exemption at hand; False if a bound was reached first."""
        stage, changed, visited = self._stage, self._store.changed, 0
        while not stage.sweep_on(_SWEEP_ORDERS):
            visited += _SWEEP_ORDERS
            if (
                len(stage.outputs) >= outputs_max
                or len(changed) >= states_max
                or visited >= _STATES_MAX
            ):
                return False
        return True

    def _fire(self, limit: int, outputs_max: int, states_max: int) -> bool:
        """Fire timers up to an instant; False if a bound was reached first."""
        stage, timers, changed = self._stage, self._stage.timers, self._store.changed
        while timers.earliest_ms <= limit:
            timer = timers.pop(limit)
            if timer is None:
                break
            stage.fire(*timer)
            if len(stage.outputs) >= outputs_max or len(changed) >= states_max:
                # All records up to the timer's instant and its grace have been processed, and
                # none may come there any more; but timers of that very instant are left.
                self._amid_timers = True
                self._reach(timer[0] + self._grace + 1)
                return False
        return True

    # What a checkpoint holds

    def checkpoint(self, mark: bool) -> Checkpoint | None:
        """Gather what was done since the last checkpoint.

        Args:
            mark: Send a frontier mark even if no violation is sent.
        """
        stage, mark_ms = self._stage, self.mark_ms
        changelog = self._store.flush()
        items, stage.items = stage.items, []
        mark = (mark or bool(items)) and mark_ms > self.marked_ms
        if not (self._advanced or changelog or stage.outputs or items or mark):
            return None
        outputs = [*map(out_record, stage.outputs), *map(item_record, items)]
        stage.outputs.clear()
        if mark:
            self.marked_ms = mark_ms
            outputs.append(mark_record(self._app_id, self.partition, mark_ms))
        for grant in stage.granted:
            changelog[EXEMPTION_KEY + grant.exemption_id.encode()] = encode_value(grant)
        stage.granted.clear()
        changelog[META_KEY] = self._meta_value()
        offsets = [(INPUT_TOPICS[rank], self._offsets[rank]) for rank in sorted(self._advanced)]
        self._advanced.clear()
        return Checkpoint(outputs, changelog, offsets, self._more)

    def again(self) -> Checkpoint:
        """Gather the checkpoint's own record alone, when nothing was done since the last one."""
        return Checkpoint([], {META_KEY: self._meta_value()}, [], self._more)

    def _meta_value(self) -> bytes:
        progress = zip(INPUT_TOPICS, self._offsets, self._processed_ms, strict=True)
        meta = OrdersMeta(
            version=VERSION, app_id=self._app_id, policy=self._rulebook.label,
            reached_ms=self._frontier.reached_ms,
            topics={
                topic: Progress(offset, last_ms, self.topic_ids.get(topic, ""))
                for topic, offset, last_ms in progress
            },
            orders=len(self._store.packed), exemptions=len(self._stage.exemptions),
            policy_digest=self._policy_digest, policy_since_ms=self._bulk.usual.judged_after_ms,
            sweep=self._stage.sweep, partitions=self._partitions,
        )  # fmt: skip
        return encode_meta(meta)
