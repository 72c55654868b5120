"""One partition's orders: what each fact and each timer does to them.

What lives here: records and timers to state, outputs and items for the shops stage. What must not:
bytes, brokers, wall-clock time, the rules themselves (`judging`), the shop's account (`shops`).

Theory of operation. An order's state holds its facts and what was made of them; everything else
follows. After each fact, and when its timer comes due, an order is *reconciled*: standing
determinations that no longer hold are revoked, those due that hold and do not stand are made, and
the next instant at which anything can happen becomes its timer. "Due" has one meaning, a limit:
at a record it is just before `effective - grace`, at a timer the timer's own instant. So arrival
order, batches and restarts cannot matter: the facts and the limit decide.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

from msgspec import Struct
from msgspec.structs import astuple

from streams.core.facts.accepted import Fact
from streams.core.facts.events import Event, ExemptionGranted, LaterFact, OrderPaid
from streams.core.facts.inputs import (
    INPUT_OF_ID,
    INPUT_TOPICS,
    INPUTS,
    fact_of,
    own_time,
)
from streams.core.facts.instants import NEVER_MS
from streams.core.facts.order import (
    DeadlineTold,
    Occurrence,
    Order,
    OrderState,
    Waiting,
    find_occurrence,
    know,
    learn,
    subject_of,
)
from streams.core.facts.outputs import (
    DeadLetterReason,
    Output,
    Released,
    ShopItem,
)
from streams.core.rules.book import Rulebook, Terms
from streams.core.rules.exemptions import Exemptions, reaches, starts_at_upload
from streams.core.rules.judging import (
    CLOSURE,
    WARNING,
    Due,
    Rulings,
    concerns,
    judge,
    rulings_of,
)
from streams.core.stages import announce
from streams.core.stages.causes import reason_of
from streams.core.stages.refusals import OTHER_EXEMPTION, no_order, other_order_paid, too_late
from streams.core.time.retention import Retention
from streams.core.time.timers import Timers

# A Kafka record with its place in the partition's one sequence: effective timestamp, topic rank,
# offset, timestamp, key, value. A plain tuple: those judged one by one are sorted as such.
Record = tuple[int, int, int, int, bytes | None, bytes | None]

# Bounds on one order's state, far above any real one: its changelog record must stay writable.
FACTS_MAX = 1_000
_WAITING_BYTES_MAX = 2 * 1024 * 1024


class OrderStore(Protocol):
    """Keyed state by order key; a state must be put back after a change."""

    def get(self, key: bytes) -> OrderState | None:
        """State of a key."""

    def put(self, key: bytes, state: OrderState) -> None:
        """Keep a changed state."""

    def remove(self, key: bytes) -> None:
        """Forget a key."""

    def timed(self, run: bytes, begin_ms: int, end_ms: int) -> list[tuple[int, bytes]]:
        """Of a run of keys, those with a timer between two instants, each with its due time."""

    def keys(self) -> list[bytes]:
        """All keys, sorted."""


class Sweep(Struct):
    """An exemption being applied to the orders there are, which may be millions."""

    exemption: ExemptionGranted
    log_time: int
    keys: list[bytes]
    """Orders it may concern, sorted."""
    done: int = 0


class OrdersStage:
    """The orders of one partition.

    `process` takes records in order, `fire` a timer that is due; the engine interleaves them. An
    exemption leaves a sweep over the orders it concerns, to be ended before anything else is done.
    Results gather in `outputs` and `items` until the engine takes them.
    """

    def __init__(self, partition: int, rulebook: Rulebook, store: OrderStore) -> None:
        self.outputs: list[Output] = []
        self.items: list[ShopItem] = []
        self.exemptions = Exemptions()
        self.granted: list[ExemptionGranted] = []
        """Exemptions accepted since the last checkpoint."""
        self.timers = Timers(store.timed)
        self.retention = Retention()
        """Orders that rest; all others have a timer."""
        self.forgetting = True
        """Whether states past their horizon go; a drain keeps them."""
        self._partition = partition
        self._rulebook = rulebook
        self._processing = rulebook.processing
        self._store = store
        self._sweep: Sweep | None = None

    # Records

    def process(self, record: Record, event: Event) -> None:
        """Take one valid event; its record's effective timestamp is the log time."""
        if isinstance(event, OrderPaid):
            self._pay(record, event)
        elif isinstance(event, ExemptionGranted):
            self._grant(record, event)
        else:
            self._learn(record, event)

    def refuse(self, record: Record, reason: DeadLetterReason, detail: str) -> None:
        """Send a record to the dead letters."""
        effective, rank, offset, timestamp, key, value = record
        self.outputs.append(
            announce.dead_letter(
                self._partition,
                INPUT_TOPICS[rank],
                offset,
                timestamp,
                key,
                value,
                reason,
                detail,
                effective,
            )
        )

    def _pay(self, record: Record, event: OrderPaid) -> None:
        effective, order_id = record[0], event.order_id
        key = order_id.encode()
        order = Order(*astuple(event)[1:])
        state = self._store.get(key)
        if state is not None and state.order is not None:
            if state.order != order:
                self.refuse(record, "conflict", other_order_paid(state.order, order))
            return
        if self._too_late(record, event.paid_at, self._processing.late_payment):
            return
        if state is None:
            state = OrderState()
        know(state, order)
        state.last_change_ms = effective
        self._reconcile(key, order_id, state, effective, event)

    def _learn(self, record: Record, event: LaterFact) -> None:
        effective, order_id = record[0], event.order_id
        key = order_id.encode()
        fact = fact_of(event)
        state = self._store.get(key)
        if state is None or state.order is None:
            self._wait(record, key, state, fact)
        elif len(state.facts) >= FACTS_MAX and fact not in state.facts:
            self.refuse(record, "invalid", f"the order has {FACTS_MAX} facts already")
        elif learn(state, fact):
            state.last_change_ms = effective
            self._reconcile(key, order_id, state, effective, event)

    def _too_late(self, record: Record, at: int, wait_ms: int) -> bool:
        """Refuse a fact so old that its order may have been known and forgotten."""
        oldest = record[0] - wait_ms
        if at >= oldest:
            return False
        self.refuse(record, "too-late", too_late(at, oldest))
        return True

    def _wait(self, record: Record, key: bytes, state: OrderState | None, fact: Fact) -> None:
        if state is not None and any(entry.fact == fact for entry in state.waiting):
            return
        if self._too_late(record, own_time(fact), self._processing.facts_wait):
            return
        if state is None:
            state = OrderState()
        effective, rank, offset, timestamp, _, value = record
        size = sum(len(entry.raw) for entry in state.waiting) + len(value or b"")
        if len(state.waiting) >= FACTS_MAX or size > _WAITING_BYTES_MAX:
            self.refuse(record, "no-order", "too much waits for this order already")
            return
        expires_at = effective + self._processing.facts_wait
        state.waiting.append(
            Waiting(expires_at, INPUTS[rank].id, offset, timestamp, value or b"", fact)
        )
        self._keep(key, state, state.waiting[0].expires_at)

    def _grant(self, record: Record, exemption: ExemptionGranted) -> None:
        known = self.exemptions.get(exemption.exemption_id)
        if known is not None:
            if known != exemption:
                self.refuse(record, "conflict", OTHER_EXEMPTION)
            return
        self.exemptions.add(exemption)
        self.granted.append(exemption)
        self._sweep = Sweep(exemption, record[0], self._keys_in_scope(exemption))

    def _keys_in_scope(self, exemption: ExemptionGranted) -> list[bytes]:
        order_ids = exemption.scope.order_ids
        if order_ids is None:
            return self._store.keys()
        return sorted(order_id.encode() for order_id in dict.fromkeys(order_ids))

    @property
    def sweep(self) -> tuple[str, int, bytes] | None:
        """How far the exemption at hand has been applied: its id, log time and last key done."""
        sweep = self._sweep
        if sweep is None:
            return None
        last = sweep.keys[sweep.done - 1] if sweep.done else b""
        return sweep.exemption.exemption_id, sweep.log_time, last

    def resume_sweep(self, exemption: ExemptionGranted, log_time: int, last: bytes) -> None:
        """Go on after a restart where the last checkpoint left the exemption at hand."""
        keys = self._keys_in_scope(exemption)
        self._sweep = Sweep(exemption, log_time, keys, bisect_right(keys, last))

    def sweep_on(self, orders_max: int) -> bool:
        """Judge the next orders again under the exemption at hand; True if that was the last."""
        sweep = self._sweep
        if sweep is None:
            return True
        end = min(sweep.done + orders_max, len(sweep.keys))
        for key in sweep.keys[sweep.done : end]:
            state = self._store.get(key)
            order = None if state is None else state.order
            if state is None or order is None:
                continue
            order_id = key.decode()
            terms = self._rulebook.terms_of(order)
            if terms is None:
                continue
            subject = subject_of(order_id, order, terms.version.policy.platform)
            if concerns(sweep.exemption, terms, subject, order, state.uploaded_at):
                self._reconcile(key, order_id, state, sweep.log_time, sweep.exemption)
            elif reaches(sweep.exemption.scope, subject):
                # Its deadline may come within the scope yet.
                _note_exempt(state, sweep.exemption)
                self._store.put(key, state)
        sweep.done = end
        if end < len(sweep.keys):
            return False
        self._sweep = None
        return True

    # Timers

    def fire(self, due: int, key: bytes) -> None:
        """Let a timer that was popped do its work."""
        state = self._store.get(key)
        if state is None:
            return
        if state.retiring:
            if self.forgetting:
                self._forget(key, state, due)
        elif state.order is not None:
            self._reconcile(key, key.decode(), state, due, None)
        elif self.forgetting:
            self._give_up_waiting(key, state, due)

    def _give_up_waiting(self, key: bytes, state: OrderState, due: int) -> None:
        for entry in state.waiting:
            if entry.expires_at <= due:
                topic = INPUT_OF_ID[entry.input_id].topic
                self.outputs.append(
                    announce.dead_letter(
                        self._partition, topic, entry.offset, entry.timestamp, key, entry.raw,
                        "no-order", no_order(due), due,
                    )
                )  # fmt: skip
        state.waiting = [entry for entry in state.waiting if entry.expires_at > due]
        if state.waiting:
            self._keep(key, state, state.waiting[0].expires_at)
        else:
            self._store.remove(key)

    def _keep(self, key: bytes, state: OrderState, due: int, *, timed: bool = True) -> None:
        """Put a state back and see that its timer is set.

        Args:
            timed: A timer stands at the state's last due time, not a note in `retention`.
        """
        if state.resting:
            if timed or state.due_ms != due:
                self.retention.add(due, key)
        elif state.due_ms != due or not timed:
            self.timers.add(due, key)
        state.due_ms = due
        self._store.put(key, state)

    # Reconciling

    def _reconcile(
        self, key: bytes, order_id: str, state: OrderState, log_time: int, cause: Event | None
    ) -> None:
        """Make an order's determinations, closure and timer follow from its facts.

        Args:
            log_time: Effective timestamp of the record, or due time of the timer that fired.
            cause: The record's event, `None` if a timer fired.
        """
        order = state.order
        if order is None:
            raise ValueError(f"order {order_id} is judged before it is known")
        timed = not state.resting
        terms = self._rulebook.terms_of(order)
        if terms is None:  # Its platform has no rules any more: it stays as it is.
            self._keep(key, state, NEVER_MS, timed=timed)
            return
        limit = log_time if cause is None else log_time - self._processing.grace - 1
        rulings = self._rulings(order_id, order, state, terms)
        revoked, due_now, next_due = judge(
            terms, order, state, order_id, limit, cause is None, rulings
        )
        if rulings is not None or state.deadlines_told:
            self._tell_deadlines(order_id, order, state, terms, rulings or {}, log_time)
        if revoked or due_now or (state.closed_original and not state.closed_alternative):
            self._bring_about(
                order_id, order, state, terms, revoked, due_now, rulings or {}, log_time, cause
            )
        if state.occurrences:
            self._revise(order_id, order, state, rulings or {}, log_time)
        state.retiring = next_due >= NEVER_MS
        if state.retiring:
            # Never before a second copy of its order-paid would be too late.
            next_due = max(
                state.last_change_ms + _horizon(terms, state),
                order.paid_at + self._processing.late_payment,
            )
            if next_due <= limit and self.forgetting:
                self._forget(key, state, log_time)
                return
        self._keep(key, state, next_due, timed=timed)

    def _rulings(
        self, order_id: str, order: Order, state: OrderState, terms: Terms
    ) -> Rulings | None:
        """Apply the policy's own exemptions, then those granted; `None` if there are none."""
        own = terms.version.policy.exemptions
        granted = self.exemptions.candidates(order_id, order.shop_id) if self.exemptions else ()
        state.plan, state.exempt = terms.number, False
        if not own and not granted:
            return None
        subject = subject_of(order_id, order, terms.version.policy.platform)
        exemptions = [each for each in (*own, *granted) if reaches(each.scope, subject)]
        for exemption in exemptions:
            _note_exempt(state, exemption)
        return rulings_of(terms, order, state, subject, exemptions) if exemptions else None

    def _tell_deadlines(
        self, order_id: str, order: Order, state: OrderState, terms: Terms, rulings: Rulings,
        log_time: int,
    ) -> None:  # fmt: skip
        """Say which deadlines granted exemptions have moved since it was said last."""
        told = {each.kind: each for each in state.deadlines_told}
        for name, _, _ in terms.kinds:
            ruling, last = rulings.get(name), told.get(name)
            if ruling is None or (last is None and not ruling.moved_by):
                continue
            deadline = ruling.running and ruling.running[1]
            ids = list(ruling.moved_by)
            if last is None:
                old = ruling.by_rules and ruling.by_rules[1]
                revision = 1
            elif (last.deadline, last.exemption_ids) != (deadline, ids):
                old, revision = last.deadline, last.revision + 1
            else:
                continue
            told[name] = DeadlineTold(name, deadline, ids, revision)
            self.outputs.append(
                announce.deadline_changed(order_id, order, old, told[name], log_time)
            )
        state.deadlines_told = list(told.values())

    def _revise(
        self, order_id: str, order: Order, state: OrderState, rulings: Rulings, log_time: int
    ) -> None:
        """Tell the shop of standing violations that have begun to cost something, or ended to."""
        for occurrence in state.occurrences:
            ruling = rulings.get(occurrence.kind)
            waived = ruling is not None and ruling.penalty_waived
            if not occurrence.standing or occurrence.penalty_waived == waived:
                continue
            occurrence.penalty_waived = waived
            if state.told:
                self.items.append(announce.revised_item(order_id, order, occurrence, log_time))

    def _bring_about(
        self, order_id: str, order: Order, state: OrderState, terms: Terms,
        revoked: list[Occurrence], due_now: list[Due], rulings: Rulings, log_time: int,
        cause: Event | None,
    ) -> None:  # fmt: skip
        """Put out revocations, then what is due, then the refund's other path."""
        for occurrence in revoked:
            self._revoke(order_id, order, state, terms, occurrence, log_time, cause)
        for due in due_now:
            self._make(order_id, order, state, terms, due, rulings, log_time)
        if (
            state.closed_original
            and state.refund_failed_at is not None
            and not state.closed_alternative
        ):
            state.closed_alternative = True
            state.last_change_ms = max(state.last_change_ms, log_time)
            self.outputs += announce.closure(
                order_id, order, state.refund_failed_at, "alternative", log_time
            )

    def _make(
        self, order_id: str, order: Order, state: OrderState, terms: Terms, due: Due,
        rulings: Rulings, log_time: int,
    ) -> None:  # fmt: skip
        """Make what is due: a warning, a closure or a determination."""
        if due.timer == WARNING:
            self.outputs += announce.warning(order_id, order, due.kind, due.deadline, due.due)
            return
        state.last_change_ms = max(state.last_change_ms, log_time)
        if due.timer == CLOSURE:
            state.closed_original = True
            self.outputs += announce.closure(order_id, order, due.due, "original", log_time)
            return
        occurrence = find_occurrence(state, due.kind, due.number)
        if occurrence is None:
            occurrence = Occurrence(due.kind, due.number, 0, False, 0, 0)
            state.occurrences.append(occurrence)
        occurrence.revision += 1
        occurrence.standing = True
        occurrence.deadline = due.deadline
        occurrence.determined_at = due.due
        ruling = rulings.get(due.kind)
        occurrence.penalty_waived = ruling is not None and ruling.penalty_waived
        policy = terms.version.policy
        self.outputs += announce.determined(order_id, order, occurrence, policy.label, log_time)
        if policy.has_account:
            state.told = True
            self.items.append(announce.determined_item(order_id, order, occurrence, log_time))

    def _revoke(
        self, order_id: str, order: Order, state: OrderState, terms: Terms,
        occurrence: Occurrence, log_time: int, cause: Event | None,
    ) -> None:  # fmt: skip
        violation_id = announce.violation_id(order_id, occurrence)
        occurrence.standing = False
        state.last_change_ms = log_time
        self.outputs += announce.revoked(
            order_id,
            order,
            occurrence,
            terms.version.policy.label,
            log_time,
            *reason_of(cause, violation_id, terms),
        )
        if state.told:
            self.items.append(announce.revoked_item(order_id, order, occurrence, log_time))

    def _forget(self, key: bytes, state: OrderState, log_time: int) -> None:
        self._store.remove(key)
        order = state.order
        if state.told and order is not None:
            self.items.append(
                Released(log_time_ms=log_time, order_id=key.decode(), shop_id=order.shop_id)
            )


def _note_exempt(state: OrderState, exemption: ExemptionGranted) -> None:
    """Keep that an exemption reaches an order, for those who do not judge with all its facts."""
    state.exempt = True
    if starts_at_upload(exemption):
        state.plan = 0


def _horizon(terms: Terms, state: OrderState) -> int:
    retention = terms.version.policy.retention
    return retention.violated if state.eventful else retention.clean
