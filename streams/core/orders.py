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

from bisect import insort
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple, Protocol

from msgspec.structs import astuple

from streams.core import announce
from streams.core.clock import NEVER_MS, Clock, covers, exempted_deadline, running_clock
from streams.core.events import (
    INPUT_TOPICS,
    AppealDecided,
    Event,
    ExemptionGranted,
    LaterFact,
    OrderPaid,
)
from streams.core.judging import CLOSURE, WARNING, Due, judge
from streams.core.order import (
    Fact,
    Occurrence,
    Order,
    OrderState,
    Waiting,
    fact_of,
    find_occurrence,
    learn,
    own_time,
    subject_of,
)
from streams.core.outputs import (
    DeadLetterReason,
    Determined,
    Output,
    Released,
    RevocationReason,
    Revoked,
    ShopItem,
)
from streams.core.policy import Policy
from streams.core.timers import Timers


class Record(NamedTuple):
    """A Kafka record with its place in the partition's one sequence."""

    effective: int
    rank: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class OrderStore(Protocol):
    """Keyed state by order key; a state must be put back after a change."""

    def get(self, key: bytes) -> OrderState | None:
        """State of a key."""

    def put(self, key: bytes, state: OrderState) -> None:
        """Keep a changed state."""

    def remove(self, key: bytes) -> None:
        """Forget a key."""

    def due_ms(self, key: bytes) -> int:
        """Due time of a key's timer, `END_OF_TIME_MS` if it has no state."""

    def keys(self) -> list[bytes]:
        """All keys, sorted."""


class Cause(NamedTuple):
    """Why an order is reconciled: what a revocation says of it."""

    reason: RevocationReason
    cause: str


_BY_TOPIC = tuple(Cause("late-evidence", topic) for topic in INPUT_TOPICS)
# A timer revokes nothing; the cause is never told.
_BY_TIMER = Cause("late-evidence", "timer")


class OrdersStage:
    """The orders of one partition.

    `process` takes records in order, `fire` timers up to an instant; the engine interleaves them.
    Results gather in `outputs` and `items` until the engine takes them.
    """

    def __init__(self, partition: int, policy: Policy, store: OrderStore) -> None:
        self.outputs: list[Output] = []
        self.items: list[ShopItem] = []
        self.exemptions: dict[str, ExemptionGranted] = {}
        self.granted: list[ExemptionGranted] = []
        """Exemptions accepted since the last checkpoint."""
        self.timers = Timers(store.due_ms)
        self.forgetting = True
        """Whether states past their horizon go; a drain keeps them."""
        self._partition = partition
        self._policy = policy
        self._store = store
        self._wide: list[ExemptionGranted] = []
        self._of_order: dict[str, list[ExemptionGranted]] = {}

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
        self.outputs.append(
            announce.dead_letter(
                self._partition, record.rank, record.offset, record.timestamp, record.key,
                record.value, reason, detail, record.effective,
            )
        )  # fmt: skip

    def restore_exemption(self, exemption: ExemptionGranted) -> None:
        """Put back an exemption granted before a restart."""
        self.exemptions[exemption.exemption_id] = exemption
        order_ids = exemption.scope.order_ids
        if order_ids is None:
            insort(self._wide, exemption, key=_GRANT_ORDER)
            return
        for order_id in dict.fromkeys(order_ids):
            insort(self._of_order.setdefault(order_id, []), exemption, key=_GRANT_ORDER)

    def _pay(self, record: Record, event: OrderPaid) -> None:
        key = event.order_id.encode()
        order = Order(*astuple(event)[1:])
        state = self._store.get(key)
        if state is not None and state.order is not None:
            if state.order != order:
                self.refuse(record, "conflict", "another order-paid of this order stands")
            return
        if self._too_late(record, event.paid_at):
            return
        if state is None:
            state = OrderState()
        state.order = order
        state.last_change_ms = record.effective
        waiting, state.waiting = state.waiting, []
        for entry in waiting:
            learn(state, entry.fact)
        self._reconcile(key, state, order, record.effective, None, _BY_TOPIC[record.rank])

    def _learn(self, record: Record, event: LaterFact) -> None:
        key = event.order_id.encode()
        fact = fact_of(record.rank, event)
        state = self._store.get(key)
        if state is None or state.order is None:
            self._wait(record, key, state, fact)
            return
        if fact in state.facts:
            return
        learn(state, fact)
        state.last_change_ms = record.effective
        cause = (
            Cause("appeal", event.appeal_id)
            if isinstance(event, AppealDecided)
            else _BY_TOPIC[record.rank]
        )
        self._reconcile(key, state, state.order, record.effective, None, cause)

    def _too_late(self, record: Record, at: int) -> bool:
        """Refuse a fact so old that its order may have been known and forgotten."""
        oldest = record.effective - self._policy.input.wait_for_order
        if at >= oldest:
            return False
        self.refuse(record, "too-late", f"the order is not known and {at} lies before {oldest}")
        return True

    def _wait(self, record: Record, key: bytes, state: OrderState | None, fact: Fact) -> None:
        if state is not None and any(entry.fact == fact for entry in state.waiting):
            return
        if self._too_late(record, own_time(fact)):
            return
        if state is None:
            state = OrderState()
        expires_at = record.effective + self._policy.input.wait_for_order
        state.waiting.append(
            Waiting(
                expires_at, record.rank, record.offset, record.timestamp, record.value or b"", fact
            )
        )
        self._store.put(key, state)
        self._set_timer(key, state, state.waiting[0].expires_at)

    def _grant(self, record: Record, exemption: ExemptionGranted) -> None:
        known = self.exemptions.get(exemption.exemption_id)
        if known is not None:
            if known != exemption:
                self.refuse(record, "conflict", "another exemption of this id stands")
            return
        self.restore_exemption(exemption)
        self.granted.append(exemption)
        order_ids = exemption.scope.order_ids
        keys: Iterable[bytes] = (
            self._store.keys()
            if order_ids is None
            else sorted(order_id.encode() for order_id in dict.fromkeys(order_ids))
        )
        cause = Cause("exemption", exemption.exemption_id)
        for key in keys:
            state = self._store.get(key)
            if state is None or state.order is None:
                continue
            if self._concerns(exemption, key.decode(), state, state.order):
                self._reconcile(key, state, state.order, record.effective, None, cause)

    def _concerns(
        self, exemption: ExemptionGranted, order_id: str, state: OrderState, order: Order
    ) -> bool:
        subject = subject_of(order_id, order)
        for kind, rules in self._policy.violations.items():
            clock = running_clock(
                rules.deadline.get(order.shipping_mode),
                order.placed_at,
                order.promised_ship_by,
                state.uploaded_at,
            )
            if clock is not None and covers(exemption, kind, subject, clock.deadline):
                return True
        return False

    # Timers

    def fire(self, limit_ms: int) -> int | None:
        """Fire the first timer due at or before an instant; returns its due time."""
        timer = self.timers.pop(limit_ms)
        if timer is None:
            return None
        due, key = timer
        state = self._store.get(key)
        if state is not None:
            if state.order is not None:
                self._reconcile(key, state, state.order, due, due, _BY_TIMER)
            elif self.forgetting:
                self._give_up_waiting(key, state, due)
        return due

    def _give_up_waiting(self, key: bytes, state: OrderState, due: int) -> None:
        for entry in state.waiting:
            if entry.expires_at <= due:
                self.outputs.append(
                    announce.dead_letter(
                        self._partition, entry.rank, entry.offset, entry.timestamp, key, entry.raw,
                        "no-order", "its order did not come in time", due,
                    )
                )  # fmt: skip
        state.waiting = [entry for entry in state.waiting if entry.expires_at > due]
        if state.waiting:
            self._store.put(key, state)
            self._set_timer(key, state, state.waiting[0].expires_at)
        else:
            self._store.remove(key)

    def _set_timer(self, key: bytes, state: OrderState, due: int) -> None:
        if state.due_ms != due:
            state.due_ms = due
            self.timers.add(due, key)

    # Reconciling

    def _reconcile(
        self, key: bytes, state: OrderState, order: Order, log_time: int, fired: int | None,
        cause: Cause,
    ) -> None:  # fmt: skip
        """Make an order's determinations, closure and timer follow from its facts.

        Args:
            log_time: L of what is put out.
            fired: Due time of the timer that fired, `None` at a record.
            cause: What a revocation says.
        """
        limit = log_time - self._policy.grace - 1 if fired is None else fired
        order_id = key.decode()

        def deadline_of(kind: str, clock: Clock) -> int | None:
            return self._exempted(kind, clock, order_id, order)

        verdict = judge(self._policy, state, order, order_id, limit, fired, deadline_of)
        for occurrence in verdict.revoked:
            self._revoke(order_id, order, state, occurrence, log_time, cause)
        for due in verdict.due_now:
            self._bring_about(order_id, order, state, due, log_time)
        if (
            state.closed_original
            and state.refund_failed_at is not None
            and not state.closed_alternative
        ):
            state.closed_alternative = True
            state.last_change_ms = log_time
            self.outputs += announce.closure(
                order_id, order, state.refund_failed_at, "alternative", log_time
            )
        next_due = verdict.next_due
        if next_due >= NEVER_MS:
            next_due = state.last_change_ms + self._horizon(state)
            if next_due <= limit and self.forgetting:
                self._forget(key, state, order, log_time)
                return
        self._store.put(key, state)
        self._set_timer(key, state, next_due)

    def _exempted(self, kind: str, clock: Clock, order_id: str, order: Order) -> int | None:
        """Apply the exemptions to a deadline; `None` where the kind is waived."""
        exemptions = self._wide
        if self._of_order:
            own = self._of_order.get(order_id)
            if own is not None:
                exemptions = sorted([*self._wide, *own], key=_GRANT_ORDER)
        if not exemptions:
            return clock.deadline
        subject = subject_of(order_id, order)
        return exempted_deadline(
            clock.deadline,
            [grant for grant in exemptions if covers(grant, kind, subject, clock.deadline)],
        )

    def _bring_about(
        self, order_id: str, order: Order, state: OrderState, due: Due, log_time: int
    ) -> None:
        """Make what is due: a warning, a closure or a determination."""
        if due.timer == WARNING:
            self.outputs += announce.warning(order_id, order, due.kind, due.deadline, due.due)
            return
        state.last_change_ms = log_time
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
        self.outputs += announce.determined(
            order_id, order, occurrence, self._policy.label, log_time
        )
        self.items.append(
            Determined(
                determined_at=due.due,
                kind=due.kind,
                log_time_ms=log_time,
                occurrence=due.number,
                order_id=order_id,
                product_ids=order.product_ids,
                revision=occurrence.revision,
                shop_id=order.shop_id,
                violation_id=announce.violation_id(order_id, occurrence),
            )
        )

    def _revoke(
        self, order_id: str, order: Order, state: OrderState, occurrence: Occurrence,
        log_time: int, cause: Cause,
    ) -> None:  # fmt: skip
        occurrence.standing = False
        state.last_change_ms = log_time
        self.outputs += announce.revoked(
            order_id, order, occurrence, self._policy.label, log_time, cause.reason, cause.cause
        )
        self.items.append(
            Revoked(
                determined_at=occurrence.determined_at,
                log_time_ms=log_time,
                order_id=order_id,
                revision=occurrence.revision,
                shop_id=order.shop_id,
                violation_id=announce.violation_id(order_id, occurrence),
            )
        )

    def _horizon(self, state: OrderState) -> int:
        retention = self._policy.retention
        return retention.violated if state.occurrences or state.closed_original else retention.clean

    def _forget(self, key: bytes, state: OrderState, order: Order, log_time: int) -> None:
        self._store.remove(key)
        if state.occurrences:
            self.items.append(
                Released(log_time_ms=log_time, order_id=key.decode(), shop_id=order.shop_id)
            )


_GRANT_ORDER = attrgetter("granted_at", "exemption_id")
