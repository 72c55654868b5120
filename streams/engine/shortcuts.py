"""Events that change nothing but what is remembered, taken without unpacking the order's state.

Nearly every order is paid, uploaded, scanned in time and forgotten. Each of these steps leaves a
state that follows from the head of the last one, so it is written straight away; whatever is not
certain here goes the long way through `streams.core.orders`, which takes every event. Both give the
same bytes: a property test plays logs with and without this module.

All of it rests on one promise of the long way: `due_ms` is the next instant at which anything can
happen to an order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import msgspec
from msgspec.structs import astuple

from streams.codec.decode import plain
from streams.codec.state import (
    ARRAY,
    EVENTFUL,
    HEAD,
    MODE_FLAG,
    NOT_YET,
    RETIRING,
    STATE_VERSION,
    PackedOrders,
)
from streams.core.clock import END_OF_TIME_MS, NEVER_MS
from streams.core.events import (
    FIRST_SCAN,
    INPUT_TOPICS,
    ORDER_PAID,
    TRACKING_NUMBER_UPLOADED,
    FirstScan,
    OrderPaid,
    ShippingMode,
    TrackingNumberUploaded,
)
from streams.core.order import encode_fact
from streams.core.orders import FACTS_MAX, OrdersStage, Record
from streams.core.policy import DeadlineRule, KindRules, Policy

# Whether the record has been taken.
Shortcut = Callable[[Record], bool]

_HEAD_BYTES = HEAD.size
# No JSON, of another shape, or nested too deeply.
_UNREADABLE = (ValueError, RecursionError)


def _nothing(record: Record) -> bool:  # noqa: ARG001
    """Take no record of a topic."""
    return False


class Shortcuts:
    """The short ways of one partition.

    Attributes:
        judged_after_ms: States last changed at or before it may have been judged by another policy,
            and go the long way.
    """

    def __init__(self, policy: Policy, stage: OrdersStage, store: PackedOrders) -> None:
        self.judged_after_ms = -1
        self._stage = stage
        self._timers = stage.timers
        self._retention = stage.retention
        self._packed = store.packed
        self._changes = store.changes
        self._grace = policy.grace
        self._wait_for_order = policy.input.wait_for_order
        self._clean = policy.retention.clean
        self._earliest = policy.input.earliest
        self._future_tolerance = policy.input.future_tolerance
        self._decode_paid = msgspec.json.Decoder(OrderPaid).decode
        self._decode_uploaded = msgspec.json.Decoder(TrackingNumberUploaded).decode
        self._decode_scan = msgspec.json.Decoder(FirstScan).decode
        self._closure = END_OF_TIME_MS if policy.closure is None else policy.closure.after_placed
        self._first_due: dict[ShippingMode, int | None] = {}
        self._upload_free: dict[int, None] = {}
        self._scan_ends: dict[int, None] = {}
        for mode in get_args(ShippingMode):
            running = [
                (rules, rules.deadline[mode])
                for rules in policy.violations.values()
                if mode in rules.deadline
            ]
            self._first_due[mode] = self._first_due_after_placing(running)
            if not any(
                rule.start == "uploaded" or "tracking-number-uploaded" in rules.stopped_by
                for rules, rule in running
            ):
                self._upload_free[MODE_FLAG[mode]] = None
            if all("first-scan" in rules.stopped_by for rules, _ in running):
                self._scan_ends[MODE_FLAG[mode]] = None

    @property
    def take(self) -> list[Shortcut]:
        """By the rank of a topic, what takes its records.

        Not kept: restored states are frozen (`gc.freeze`), so a task that referred to itself would
        stay in memory after its partition has gone.
        """
        take: list[Shortcut] = [_nothing] * len(INPUT_TOPICS)
        take[ORDER_PAID] = self._pay
        take[TRACKING_NUMBER_UPLOADED] = self._upload
        take[FIRST_SCAN] = self._scan
        return take

    def _first_due_after_placing(self, running: list[tuple[KindRules, DeadlineRule]]) -> int | None:
        """When anything is due first, from placing on; `None` if that hangs on the order itself."""
        if any(rule.start == "promised" for _, rule in running):
            return None
        dues = [self._closure]
        for rules, rule in running:
            if rule.start == "placed":
                leads = [lead for lead in rules.warn_before if lead < rule.limit]
                dues.append(rule.limit - max(leads, default=0))
        return min(dues)

    def _pay(self, record: Record) -> bool:
        """Take the first that is heard of an order: it waits for what is due first."""
        effective, _, _, timestamp, key, value = record
        if key is None or value is None or key in self._packed or self._stage.exemptions:
            return False
        try:
            event = self._decode_paid(value)
        except _UNREADABLE:
            return False
        first = self._first_due.get(event.shipping_mode)
        paid_at, placed_at, products = event.paid_at, event.placed_at, event.product_ids
        latest = timestamp + self._future_tolerance
        if (
            first is None
            or event.order_id.encode() != key
            or not (self._earliest <= paid_at <= latest and self._earliest <= placed_at <= latest)
            or paid_at < effective - self._wait_for_order
            or (len(products) > 1 and len(dict.fromkeys(products)) < len(products))
            or event.promised_ship_by is not None
            or ":" in (event.region or "")
            or ":" in (event.ship_from_region or "")
            or not plain(value, event.order_id + event.shop_id + "".join(products))
        ):
            return False
        due = placed_at + first
        if not effective - self._grace <= due < NEVER_MS:
            return False
        order = astuple(event)[1:]
        rest = (order, None, None, None, (), (), False, False, ())
        head = HEAD.pack(
            STATE_VERSION, due, effective, MODE_FLAG[event.shipping_mode], placed_at, paid_at,
            NOT_YET, NOT_YET, ARRAY, 1,
        )  # fmt: skip
        self._changes[key] = self._packed[key] = head + encode_fact(rest)
        self._timers.add(due, key)
        return True

    def _upload(self, record: Record) -> bool:
        """Note an upload where no clock or stop hangs on it, nor the closure that is due next."""
        effective, _, _, timestamp, key, value = record
        if key is None or value is None or (packed := self._packed.get(key)) is None:
            return False
        _, due, changed, flags, placed, paid, uploaded, scanned, _, size = HEAD.unpack_from(packed)
        if (
            flags & ~EVENTFUL not in self._upload_free
            or due == placed + self._closure
            or size > FACTS_MAX
            or changed <= self.judged_after_ms
        ):
            return False
        try:
            event = self._decode_uploaded(value)
        except _UNREADABLE:
            return False
        at, tracking_number, carrier = event.uploaded_at, event.tracking_number, event.carrier
        if (
            event.order_id.encode() != key
            or not self._earliest <= at <= timestamp + self._future_tolerance
            or event.replaces is not None
            or not plain(value, tracking_number + carrier)
        ):
            return False
        fact = encode_fact((TRACKING_NUMBER_UPLOADED, tracking_number, carrier, at, None))
        # A chance hit is no harm: the long way compares fact by fact.
        if size > 1 and packed.find(fact) >= 0:
            return False
        if uploaded == NOT_YET or at < uploaded:
            uploaded = at
        head = HEAD.pack(
            STATE_VERSION, due, effective, flags, placed, paid, uploaded, scanned, ARRAY, size + 1
        )
        self._changes[key] = self._packed[key] = head + packed[_HEAD_BYTES:] + fact
        return True

    def _scan(self, record: Record) -> bool:
        """Let an order retire whose parcel was scanned before anything was due."""
        effective, _, _, timestamp, key, value = record
        if key is None or value is None or (packed := self._packed.get(key)) is None:
            return False
        _, due, changed, flags, placed, paid, uploaded, scanned, _, size = HEAD.unpack_from(packed)
        # By its flags nothing more than facts is kept, and something is still due.
        if (
            flags not in self._scan_ends
            or scanned != NOT_YET
            or size > FACTS_MAX
            or changed <= self.judged_after_ms
        ):
            return False
        try:
            event = self._decode_scan(value)
        except _UNREADABLE:
            return False
        at, tracking_number, carrier = event.scanned_at, event.tracking_number, event.carrier
        if (
            at >= due
            or event.order_id.encode() != key
            or not self._earliest <= at <= timestamp + self._future_tolerance
            or not plain(value, tracking_number + carrier)
        ):
            return False
        fact = encode_fact((FIRST_SCAN, tracking_number, carrier, at))
        if size > 1 and packed.find(fact) >= 0:
            return False
        due = max(effective + self._clean, paid + self._wait_for_order)
        if due >= NEVER_MS:
            return False
        head = HEAD.pack(
            STATE_VERSION, due, effective, flags | RETIRING, placed, paid, uploaded, at, ARRAY,
            size + 1,
        )  # fmt: skip
        self._changes[key] = self._packed[key] = head + packed[_HEAD_BYTES:] + fact
        self._retention.add(due, key)
        return True
