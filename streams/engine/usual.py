"""What is usual of an order's events under a rulebook, and the plain way to take such events.

Each of `pay`, `upload` and `scan` takes the usual records of a lane and leaves the others to the
long way, which says what is wrong with them, if anything. `streams.engine.native` has the same
three, compiled; here they are complete, and need no compiler. Why that comes to what
`streams.core.stages.orders` does stands in `streams.engine.bulk`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from streams.codec.decode import (
    decode_all,
    has_sound_identifiers,
    identifiers,
    surely_identifiers,
)
from streams.codec.state import (
    EXEMPT,
    PAID_AT,
    PARTS_AT,
    PHASE,
    PLACED_AT,
    PLAN_AT,
    RETIRING,
    SCANNED,
    SHOP_NOTIFIED,
    TAIL,
    UPLOADED,
    PackedOrders,
    bought_part,
    due_of,
    encode_part,
    pack_head,
    with_due,
)
from streams.core.facts.events import FirstScan, OrderPaid, TrackingNumberUploaded
from streams.core.facts.inputs import FIRST_SCAN, INPUTS, ORDER_PAID, TRACKING_NUMBER_UPLOADED
from streams.core.facts.instants import END_OF_TIME_MS, NEVER_MS
from streams.core.facts.order import subject_of
from streams.core.rules.book import Rulebook
from streams.core.rules.exemptions import Exemptions, paid_window, reaches
from streams.core.rules.plan import ASK, KEEP, LONG, NOW, RETIRE, Plan
from streams.core.time.key_buckets import Runs, runs_of
from streams.engine.held import Lane

# Keys of which the window has a record that goes the long way.
Blocked = dict[Any, None]


class Taken(NamedTuple):
    """What has been taken of a lane."""

    left: list[int]
    """Places of the records that are left."""
    timers: Runs
    """Keys by the minute of the timer they have now, where it has changed."""
    retention: Runs
    """Keys by the minute their order may be forgotten."""


# Of a state that only facts were put into, and that has a timer.
_NOT_USUAL = RETIRING | SHOP_NOTIFIED | PHASE
# An upload's own time, where it ends the last fact: a MessagePack integer of 8 bytes, of which an
# instant has two zero bytes in front, and no text has any.
_TAIL_BYTES = TAIL.size
_UPLOAD = INPUTS[TRACKING_NUMBER_UPLOADED].id
_SCAN = INPUTS[FIRST_SCAN].id
_PACKED_INSTANT_HEAD = b"\xcf\0\0"
_PACKED_INSTANT_BYTES = 9

_PAID = msgspec.json.Decoder(OrderPaid)
_UPLOADS = msgspec.json.Decoder(TrackingNumberUploaded)
_SCANS = msgspec.json.Decoder(FirstScan)


class Usual:
    """What is usual under a rulebook.

    Attributes:
        plans: By the number that states carry; the first is none.
        compiled: What `streams.engine.native` makes of the plans, in the same places.
        judged_after_ms: States last changed at or before it may have been judged by other rules,
            and go the long way.
    """

    def __init__(self, rulebook: Rulebook, exemptions: Exemptions) -> None:
        self.judged_after_ms = -1
        self.rulebook = rulebook
        self.exemptions = exemptions
        processing = rulebook.processing
        self.grace = processing.grace
        self.late_payment = processing.late_payment
        self.earliest = processing.earliest
        self.future_tolerance = processing.future_tolerance
        plans = {
            terms.number: Plan(terms)
            for versions in rulebook.versions.values()
            for version in versions
            for _, terms in version.all_terms
            if terms.number
        }
        self.plans: list[Plan | None] = [plans.get(n) for n in range(max(plans, default=0) + 1)]
        self.compiled: list[Any] = [None] * len(self.plans)
        self.doors = [tuple(door) for door in _doors(rulebook)]
        """Where payments lead, each as a `Door`."""
        self.tells_apart = any(
            version.shop_levels or version.categories
            for versions in rulebook.versions.values()
            for version in versions
        )
        """Whether any rule differs by shop level or category."""

    def plan_for(self, event: OrderPaid) -> Plan | None:
        """Return the plan of an order that nothing exempts; `None` if it goes the long way."""
        version = self.rulebook.version_of(event.platform, event.placed_at, event.paid_at)
        if version is None:
            return None
        number = version.terms(event.shipping_mode, event.shop_level, event.category).number
        plan = self.plans[number]
        if plan is None or not (
            plan.asks or (event.promised_ship_by is None and event.agreed_ship_by is None)
        ):
            return None
        own = version.policy.exemptions
        if own or self.exemptions:
            subject = subject_of(event.order_id, event, version.policy.platform)
            if not self.exemptions.none_concern(subject) or any(
                reaches(each.scope, subject) for each in own
            ):
                return None
        return plan


class Door(NamedTuple):
    """Where a payment of one platform and mode leads, for the compiled way."""

    platform: bytes | None
    """As the event names it; `None` if it names none."""
    mode: bytes
    ways: list[tuple[bool, int, int, list[tuple[int, int]]]]
    """Versions, the latest first: whether they start by payment, from when on, the plan's number (0
    where the mode is not one of the version's), and the times of payment for which an exemption of
    the policy may change it."""


def _doors(rulebook: Rulebook) -> Iterable[Door]:
    for name in (None, *rulebook.versions):
        found = rulebook.platform_of(name)
        if found is None:
            continue
        versions = rulebook.versions[found]
        for mode in dict.fromkeys(mode for version in versions for mode in version.modes):
            ways = []
            for version in versions:
                policy = version.policy
                since = -1 if policy.effective_from is None else policy.effective_from
                odd = [paid_window(each.scope) for each in policy.exemptions]
                number = version.terms(mode, None, None).number
                ways.append((policy.effective_by == "paid", since, number, odd))
            yield Door(None if name is None else name.encode(), mode.encode(), ways)


def pay(lane: Lane, usual: Usual, store: PackedOrders, blocked: Blocked) -> Taken:
    """Take the first that is heard of an order: it waits for what is due first."""
    events = decode_all(_PAID, lane.values)
    _block_unsound(lane, events, blocked)
    packed, plan_for = store.packed, usual.plan_for
    grace, late_payment = usual.grace, usual.late_payment
    earliest, tolerance = usual.earliest, usual.future_tolerance
    left: list[int] = []
    taken: list[bytes] = []
    dues: list[int] = []
    for place, event, key, effective, timestamp in zip(
        range(len(lane.keys)), events, lane.keys, lane.effective, lane.timestamps, strict=True
    ):
        if event is None or key in blocked or key in packed or event.order_id.encode() != key:
            left.append(place)
            blocked[key] = None
            continue
        placed, paid, products = event.placed_at, event.paid_at, event.product_ids
        latest = timestamp + tolerance
        plan, due = None, NOW
        if (
            earliest <= placed <= latest
            and earliest <= paid <= latest
            and paid >= effective - late_payment
            and (len(products) == 1 or len(dict.fromkeys(products)) == len(products))
        ):
            plan = plan_for(event)
        if plan is not None:
            due = plan.next_due(placed, paid, END_OF_TIME_MS, END_OF_TIME_MS, effective - grace - 1)
        if plan is None or not 0 <= due < NEVER_MS:
            left.append(place)
            blocked[key] = None
            continue
        packed[key] = (
            pack_head(due, placed, paid, plan.number) + bought_part(event) + TAIL.pack(effective, 0)
        )
        taken.append(key)
        dues.append(due)
    store.note(taken, new=True)
    return Taken(left, runs_of(zip(dues, taken, strict=True)), {})


def upload(lane: Lane, usual: Usual, store: PackedOrders, blocked: Blocked) -> Taken:
    """Note an upload; if a clock, a stop or the closure depends on it, anything is due anew."""
    events = decode_all(_UPLOADS, lane.values)
    _block_unsound(lane, events, blocked)
    step = _Step(lane, usual, store, blocked)
    for place, event, key, effective, timestamp, state in step.records(events):
        plan = usual.plans[int.from_bytes(state[PLAN_AT:PARTS_AT])]
        at, flags = event.uploaded_at, state[-1]
        if plan is None or flags & _NOT_USUAL or event.replaces or not step.in_time(at, timestamp):
            step.leave(place, key)
            continue
        new_due = due_of(state)
        placed = _placed(state)
        action = plan.on_upload
        if action == KEEP and new_due == placed + plan.closure:
            action = ASK if plan.asks else LONG
        if action != KEEP:
            new_due = NOW
            if action == ASK and not flags & EXEMPT:
                new_due = plan.next_due(
                    placed, _paid(state), at, END_OF_TIME_MS, effective - usual.grace - 1
                )
        fact = encode_part((_UPLOAD, event.tracking_number, event.carrier, at))
        step.put(place, key, state, plan, new_due, fact, flags | UPLOADED)
    return step.taken()


def scan(lane: Lane, usual: Usual, store: PackedOrders, blocked: Blocked) -> Taken:
    """Note a scan; the order ends if it came before anything was due and stops all clocks."""
    events = decode_all(_SCANS, lane.values)
    _block_unsound(lane, events, blocked)
    step = _Step(lane, usual, store, blocked)
    for place, event, key, effective, timestamp, state in step.records(events):
        plan = usual.plans[int.from_bytes(state[PLAN_AT:PARTS_AT])]
        at, flags = event.scanned_at, state[-1]
        if plan is None or flags & (_NOT_USUAL & ~UPLOADED) or not step.in_time(at, timestamp):
            step.leave(place, key)
            continue
        new_due = NOW
        if plan.on_scan == RETIRE:
            new_due = NEVER_MS if at < due_of(state) else NOW
        elif plan.on_scan == ASK and not flags & EXEMPT:
            uploaded = _uploaded_at(state) if flags & UPLOADED else END_OF_TIME_MS
            if uploaded is not None:
                new_due = plan.next_due(
                    _placed(state), _paid(state), uploaded, at, effective - usual.grace - 1
                )
        fact = encode_part((_SCAN, event.tracking_number, event.carrier, at))
        step.put(place, key, state, plan, new_due, fact, flags | SCANNED)
    return step.taken()


class _Step:
    """A lane of facts about orders there are, being taken."""

    def __init__(self, lane: Lane, usual: Usual, store: PackedOrders, blocked: Blocked) -> None:
        self._lane, self._usual, self._store, self._blocked = lane, usual, store, blocked
        self._left: list[int] = []
        self._taken: list[bytes] = []
        self._timers: list[tuple[int, bytes]] = []
        self._retention: list[tuple[int, bytes]] = []

    def records(self, events: list[Any]) -> Iterable[tuple[int, Any, Any, int, int, bytes]]:
        """Give place, event, key, effective timestamp, timestamp and state of what may be taken."""
        lane, usual, get, blocked = self._lane, self._usual, self._store.packed.get, self._blocked
        grace, judged_after = usual.grace, usual.judged_after_ms
        for place, event, key, effective, timestamp in zip(
            range(len(lane.keys)), events, lane.keys, lane.effective, lane.timestamps, strict=True
        ):
            state = get(key)
            if (
                event is None
                or state is None
                or key in blocked
                or event.order_id.encode() != key
                or due_of(state) < effective - grace
                or (judged_after >= 0 and _changed(state) <= judged_after)
            ):
                self.leave(place, key)
            else:
                yield place, event, key, effective, timestamp, state

    def in_time(self, at: int, timestamp: int) -> bool:
        """Tell whether an event's own time is one that is not refused."""
        return self._usual.earliest <= at <= timestamp + self._usual.future_tolerance

    def leave(self, place: int, key: Any) -> None:
        """Leave a record to the long way, and all of its order that follow it."""
        self._left.append(place)
        self._blocked[key] = None

    def put(
        self, place: int, key: bytes, state: bytes, plan: Plan, due: int, fact: bytes, flags: int
    ) -> None:
        """Add a fact to a state, unless something is due already."""
        if due == NOW:
            self.leave(place, key)
            return
        effective = self._lane.effective[place]
        before = state[:-_TAIL_BYTES]
        if due >= NEVER_MS:
            flags |= RETIRING
            due = max(effective + plan.clean, _paid(state) + self._usual.late_payment)
            self._retention.append((due, key))
            before = with_due(state, due) + before[PARTS_AT:]
        elif due != due_of(state):
            self._timers.append((due, key))
            before = with_due(state, due) + before[PARTS_AT:]
        self._store.packed[key] = before + fact + TAIL.pack(effective, flags)
        self._taken.append(key)

    def taken(self) -> Taken:
        """Say what has been taken."""
        self._store.note(self._taken, new=False)
        return Taken(self._left, runs_of(self._timers), runs_of(self._retention))


Take = Callable[[Lane, Usual, PackedOrders, Blocked], Taken]
TAKE: dict[int, Take] = {ORDER_PAID: pay, TRACKING_NUMBER_UPLOADED: upload, FIRST_SCAN: scan}


def _placed(state: bytes) -> int:
    return int.from_bytes(state[PLACED_AT:PAID_AT])


def _paid(state: bytes) -> int:
    return int.from_bytes(state[PAID_AT:PLAN_AT])


def _changed(state: bytes) -> int:
    """Read the log time of a state's last change."""
    changed: int = TAIL.unpack_from(state, len(state) - _TAIL_BYTES)[0]
    return changed


def _uploaded_at(state: bytes) -> int | None:
    """Read when the last fact of a state, an upload, was made; `None` where that takes decoding."""
    end = len(state) - _TAIL_BYTES
    at = state[end - _PACKED_INSTANT_BYTES : end]
    return int.from_bytes(at[1:]) if at.startswith(_PACKED_INSTANT_HEAD) else None


def _block_unsound(lane: Lane, events: list[Any], blocked: Blocked) -> None:
    """Block the keys of events with an identifier that has a character it must not have."""
    if not surely_identifiers("".join(identifiers(event) for event in events if event is not None)):
        blocked |= dict.fromkeys(
            key
            for key, event in zip(lane.keys, events, strict=True)
            if event is not None and not has_sound_identifiers(event)
        )
