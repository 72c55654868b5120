"""Usual events taken in bulk, without unpacking an order's state.

Nearly every order is paid, uploaded, scanned in time and forgotten. Each of these steps puts
nothing out and leaves a state that follows from the bytes of the last one. So of a window (all
records between two instants) the usual ones are taken first, a topic at a time; all others, and the
timers, then go through `streams.core.orders` one by one and in order, which can take every record.

Why the outcome is the same. What a usual event does concerns its own order only. If one record of
an order goes the long way, all that follow it within the window do; if records of an order do not
come in the order of their topics, none is taken here. And nothing is taken whose order has a timer
that would have fired before it: `due_ms` is the next instant at which anything can happen to an
order. So for every order the sequence of records and timers is the one it would be without this
module. A property test plays logs both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, repeat
from operator import gt
from struct import Struct
from typing import Any, get_args

import msgspec

from streams.codec.decode import decode_all, has_sound_identifiers, surely_identifiers
from streams.codec.state import (
    ARRAY,
    BEHIND_DUE,
    HEAD,
    MODE_FLAG,
    RETIRING,
    SCANNED,
    STATE_VERSION,
    UPLOADED,
    PackedOrders,
    encode_part,
)
from streams.core.clock import END_OF_TIME_MS, NEVER_MS
from streams.core.events import (
    FIRST_SCAN,
    ORDER_PAID,
    TRACKING_NUMBER_UPLOADED,
    FirstScan,
    OrderPaid,
    ShippingMode,
    TrackingNumberUploaded,
)
from streams.core.orders import OrdersStage, Record
from streams.core.policy import DeadlineRule, KindRules, Policy
from streams.engine.held import Lane

# Keys of which the window has a record that goes the long way.
Blocked = dict[Any, None]

# Of a state's head.
_VERSION_DUE = Struct(">Bq")
_DUE_PLACED = Struct(">xqq")
_DUE_PLACED_PAID = Struct(">xqqq")


class Bulk:
    """The usual events of one partition.

    Attributes:
        judged_after_ms: States last changed at or before it may have been judged by another policy,
            and go the long way.
    """

    def __init__(self, policy: Policy, stage: OrdersStage, store: PackedOrders) -> None:
        self.judged_after_ms = -1
        self._stage = stage
        self._store = store
        self._grace = policy.grace
        self._wait_for_order = policy.input.wait_for_order
        self._clean = policy.retention.clean
        self._earliest = policy.input.earliest
        self._future_tolerance = policy.input.future_tolerance
        self._closure = END_OF_TIME_MS if policy.closure is None else policy.closure.after_placed
        self._paid = msgspec.json.Decoder(OrderPaid)
        self._uploads = msgspec.json.Decoder(TrackingNumberUploaded)
        self._scans = msgspec.json.Decoder(FirstScan)
        # For a mode, when anything is due first after placing, and the flags of what is just paid.
        self._after_payment: dict[ShippingMode, tuple[int, int]] = {}
        # For flags of a state that an upload or a scan is usual for, those of the state it leaves.
        self._after_upload: dict[int, int] = {}
        self._after_scan: dict[int, int] = {}
        for mode in get_args(ShippingMode):
            self._learn_mode(mode, policy)

    def _learn_mode(self, mode: ShippingMode, policy: Policy) -> None:
        """Find out which events of a shipping mode are usual under a policy."""
        flag = MODE_FLAG[mode]
        running = [
            (rules, rules.deadline[mode])
            for rules in policy.violations.values()
            if mode in rules.deadline
        ]
        self._after_payment[mode] = self._first_due(running), flag
        if not any(
            rule.start == "uploaded" or "tracking-number-uploaded" in rules.stopped_by
            for rules, rule in running
        ):
            self._after_upload[flag] = UPLOADED | flag
        if all("first-scan" in rules.stopped_by for rules, _ in running):
            self._after_scan[UPLOADED | flag] = SCANNED | RETIRING | flag

    def _first_due(self, running: list[tuple[KindRules, DeadlineRule]]) -> int:
        """How long after its placing anything of an order is due first."""
        dues = [self._closure]
        for rules, rule in running:
            if rule.start == "placed":
                leads = [lead for lead in rules.warn_before if lead < rule.limit]
                dues.append(rule.limit - max(leads, default=0))
        return min(dues)

    def take(self, window: Sequence[Lane]) -> list[Record]:
        """Take the usual records of a window, given by rank; return the others, in no order."""
        # Made anew: a task that referred to itself would outlive its partition (`gc.freeze`).
        ways = {
            ORDER_PAID: self._pay,
            TRACKING_NUMBER_UPLOADED: self._upload,
            FIRST_SCAN: self._scan,
        }
        blocked: Blocked = {}
        last_ms: dict[Any, int] = {}
        for lane in window:
            if lane.rank in ways:
                _block_disorder(lane, last_ms, blocked)
            else:
                blocked |= dict.fromkeys(lane.keys)
        others: list[Record] = []
        for lane in window:
            left: Iterable[int] = range(len(lane.keys))
            if lane.rank in ways:
                left = ways[lane.rank](lane, blocked)
            others += map(lane.record, left)
        return others

    # What becomes of the orders: each returns the places of the records that it leaves to the long
    # way, which says what is wrong with them, if anything; their keys it blocks at once.

    def _pay(self, lane: Lane, blocked: Blocked) -> list[int]:
        """Take the first that is heard of an order: it waits for what is due first."""
        events = decode_all(self._paid, lane.values)
        names = [
            f"{event.order_id}{event.shop_id}{''.join(event.product_ids)}"
            f"{event.region or ''}{event.ship_from_region or ''}"
            for event in events
            if event is not None
        ]
        _block_unsound(lane, events, names, blocked)
        packed, after, exemptions = self._store.packed, self._after_payment, self._stage.exemptions
        grace, wait = self._grace, self._wait_for_order
        earliest, tolerance = self._earliest, self._future_tolerance
        pack_head, encode = HEAD.pack, encode_part
        left: list[int] = []
        taken: list[bytes] = []
        dues: list[int] = []
        for place, event, key, effective, timestamp in zip(
            count(), events, lane.keys, lane.effective, lane.timestamps, strict=False
        ):
            if (
                event is None
                or key in blocked
                or key in packed
                or event.order_id.encode() != key
                or event.shipping_mode not in after
            ):
                left.append(place)
                blocked[key] = None
                continue
            first_due, flags = after[event.shipping_mode]
            placed, paid, products = event.placed_at, event.paid_at, event.product_ids
            due, latest = placed + first_due, timestamp + tolerance
            if (
                not earliest <= placed <= latest
                or not earliest <= paid <= latest
                or paid < effective - wait
                or not effective - grace <= due < NEVER_MS
                or event.promised_ship_by is not None
                or (len(products) > 1 and len(dict.fromkeys(products)) < len(products))
                or (exemptions and not exemptions.spare(event))
            ):
                left.append(place)
                blocked[key] = None
                continue
            packed[key] = pack_head(STATE_VERSION, due, placed, paid, ARRAY, 1) + encode(
                (
                    event.shop_id, products, event.paid_amount, event.currency, event.region,
                    event.ship_from_region, effective, flags,
                )
            )  # fmt: skip
            taken.append(key)
            dues.append(due)
        self._store.note(taken, new=True)
        self._stage.timers.add_all(zip(dues, taken, strict=True))
        return left

    def _upload(self, lane: Lane, blocked: Blocked) -> list[int]:
        """Note an upload where no clock or stop hangs on it, nor the closure that is due next."""
        events = decode_all(self._uploads, lane.values)
        _block_unsound(lane, events, _names_of_parcels(events), blocked)
        packed = self._store.packed
        after, grace, closure = self._after_upload, self._grace, self._closure
        earliest, tolerance = self._earliest, self._future_tolerance
        unpack, encode = _DUE_PLACED.unpack_from, encode_part
        left: list[int] = []
        taken: list[bytes] = []
        for place, event, key, effective, timestamp, state in zip(
            count(), events, lane.keys, lane.effective, lane.timestamps, self._states(lane.keys),
            strict=False,
        ):  # fmt: skip
            if (
                event is None
                or state is None
                or (flags := after.get(state[-1])) is None
                or key in blocked
                or event.order_id.encode() != key
                or event.replaces is not None
            ):
                left.append(place)
                blocked[key] = None
                continue
            due, placed = unpack(state)
            at = event.uploaded_at
            if (
                not earliest <= at <= timestamp + tolerance
                or due < effective - grace
                or due == placed + closure
            ):
                left.append(place)
                blocked[key] = None
                continue
            packed[key] = state + encode(
                (
                    TRACKING_NUMBER_UPLOADED, event.tracking_number, event.carrier, at, None,
                    effective, flags,
                )
            )  # fmt: skip
            taken.append(key)
        self._store.note(taken, new=False)
        return left

    def _scan(self, lane: Lane, blocked: Blocked) -> list[int]:
        """Let an order retire whose parcel was uploaded, and scanned before anything was due."""
        events = decode_all(self._scans, lane.values)
        _block_unsound(lane, events, _names_of_parcels(events), blocked)
        packed = self._store.packed
        after, grace = self._after_scan, self._grace
        clean, wait = self._clean, self._wait_for_order
        earliest, tolerance = self._earliest, self._future_tolerance
        unpack, pack, encode = _DUE_PLACED_PAID.unpack_from, _VERSION_DUE.pack, encode_part
        left: list[int] = []
        taken: list[bytes] = []
        dues: list[int] = []
        for place, event, key, effective, timestamp, state in zip(
            count(), events, lane.keys, lane.effective, lane.timestamps, self._states(lane.keys),
            strict=False,
        ):  # fmt: skip
            if (
                event is None
                or state is None
                or (flags := after.get(state[-1])) is None
                or key in blocked
                or event.order_id.encode() != key
            ):
                left.append(place)
                blocked[key] = None
                continue
            due, _, paid = unpack(state)
            at = event.scanned_at
            if not earliest <= at <= timestamp + tolerance or not at < due >= effective - grace:
                left.append(place)
                blocked[key] = None
                continue
            over = max(effective + clean, paid + wait)
            packed[key] = (
                pack(STATE_VERSION, over)
                + state[BEHIND_DUE:]
                + encode((FIRST_SCAN, event.tracking_number, event.carrier, at, effective, flags))
            )
            taken.append(key)
            dues.append(over)
        self._store.note(taken, new=False)
        self._stage.retention.add_all(zip(dues, taken, strict=True))
        return left

    def _states(self, keys: Sequence[Any]) -> Iterable[bytes | None]:
        """Give the state of each key, `None` for those that another policy may have judged."""
        if self.judged_after_ms < 0:
            return map(self._store.packed.get, keys)
        return map(self._judged_since, keys)

    def _judged_since(self, key: Any) -> bytes | None:
        state = self._store.get(key)
        if state is None or state.last_change_ms <= self.judged_after_ms:
            return None
        return self._store.packed[key]


def _block_disorder(lane: Lane, last_ms: dict[Any, int], blocked: Blocked) -> None:
    """Block keys with a record in a lane that lies before one of an earlier topic.

    Args:
        last_ms: The last effective timestamp of each key in the earlier lanes; the own are added.
    """
    keys, effective = lane.keys, lane.effective
    if any(map(gt, map(last_ms.get, keys, repeat(0)), effective)):
        blocked |= dict.fromkeys(
            key for key, at in zip(keys, effective, strict=True) if last_ms.get(key, 0) > at
        )
    last_ms |= zip(keys, effective, strict=True)


def _names_of_parcels(events: list[Any]) -> list[str]:
    return [
        event.order_id + event.tracking_number + event.carrier
        for event in events
        if event is not None
    ]


def _block_unsound(lane: Lane, events: list[Any], names: list[str], blocked: Blocked) -> None:
    """Block the keys of events with an identifier that has a character it must not have.

    Args:
        names: The identifiers of all events, in any order and division.
    """
    if not surely_identifiers("".join(names)):
        blocked |= dict.fromkeys(
            key
            for key, event in zip(lane.keys, events, strict=True)
            if event is not None and not has_sound_identifiers(event)
        )
