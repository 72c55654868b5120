"""What is usual of an order's events under a policy, and the plain way to take such events.

Each of `pay`, `upload` and `scan` takes the usual records of a lane and leaves the others to the
long way, which says what is wrong with them, if anything. `streams.engine.native` has the same
three, compiled; here they are complete, and need no compiler. Why that comes to what
`streams.core.stages.orders` does stands in `streams.engine.bulk`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
from streams.core.facts.events import FirstScan, OrderPaid, ShippingMode, TrackingNumberUploaded
from streams.core.facts.inputs import FIRST_SCAN, INPUTS, ORDER_PAID, TRACKING_NUMBER_UPLOADED
from streams.core.facts.instants import END_OF_TIME_MS, NEVER_MS
from streams.core.rules.exemptions import Exemptions
from streams.core.rules.policy import DeadlineRule, KindRules, Policy
from streams.core.time.key_buckets import Runs, runs_of
from streams.engine.held import Lane

# Keys of which the window has a record that goes the long way.
Blocked = dict[Any, None]
# Places of the records that are left; of those taken whose next instant has changed, the keys by
# the minute of the new one.
Taken = tuple[list[int], Runs]

NOT_USUAL = 255

# What facts begin with.
_UPLOAD = INPUTS[TRACKING_NUMBER_UPLOADED].id
_SCAN = INPUTS[FIRST_SCAN].id

# Of a state's head.
_VERSION_DUE = Struct(">Bq")
_DUE_PLACED = Struct(">xqq")
_DUE_PLACED_PAID = Struct(">xqqq")

_PAID = msgspec.json.Decoder(OrderPaid)
_UPLOADS = msgspec.json.Decoder(TrackingNumberUploaded)
_SCANS = msgspec.json.Decoder(FirstScan)


class Usual:
    """What is usual under a policy.

    Attributes:
        after_payment: For a mode, when anything is due first after placing, and the flags of what
            is just paid.
        after_upload: For each byte that may end a state, the one that ends what an upload leaves;
            `NOT_USUAL` where that is not usual.
        after_scan: The same for a scan.
        judged_after_ms: States last changed at or before it may have been judged by another policy,
            and go the long way.
    """

    def __init__(self, policy: Policy, exemptions: Exemptions) -> None:
        self.judged_after_ms = -1
        self.exemptions = exemptions
        self.grace = policy.grace
        self.wait_for_order = policy.input.wait_for_order
        self.clean = policy.retention.clean
        self.earliest = policy.input.earliest
        self.future_tolerance = policy.input.future_tolerance
        closure = policy.closure
        self.closure = END_OF_TIME_MS if closure is None else closure.after_placed
        self.after_payment: dict[ShippingMode, tuple[int, int]] = {}
        after_upload: dict[int, int] = {}
        after_scan: dict[int, int] = {}
        for mode in get_args(ShippingMode):
            flag = MODE_FLAG[mode]
            running = [
                (rules, rules.deadline[mode])
                for rules in policy.violations.values()
                if mode in rules.deadline
            ]
            self.after_payment[mode] = self._first_due(running), flag
            if not any(
                rule.start == "uploaded" or "tracking-number-uploaded" in rules.stopped_by
                for rules, rule in running
            ):
                after_upload[flag] = UPLOADED | flag
            if all("first-scan" in rules.stopped_by for rules, _ in running):
                after_scan[UPLOADED | flag] = SCANNED | RETIRING | flag
        self.after_upload = _table(after_upload)
        self.after_scan = _table(after_scan)

    def _first_due(self, running: list[tuple[KindRules, DeadlineRule]]) -> int:
        """How long after its placing anything of an order is due first."""
        dues = [self.closure]
        for rules, rule in running:
            if rule.start == "placed":
                leads = [lead for lead in rules.warn_before if lead < rule.limit]
                dues.append(rule.limit - max(leads, default=0))
        return min(dues)


def _table(after: Mapping[int, int]) -> bytes:
    return bytes(after.get(flags, NOT_USUAL) for flags in range(256))


def pay(lane: Lane, usual: Usual, store: PackedOrders, blocked: Blocked) -> Taken:
    """Take the first that is heard of an order: it waits for what is due first."""
    events = decode_all(_PAID, lane.values)
    names = [
        f"{event.order_id}{event.shop_id}{''.join(event.product_ids)}"
        f"{event.region or ''}{event.ship_from_region or ''}"
        for event in events
        if event is not None
    ]
    _block_unsound(lane, events, names, blocked)
    packed, after, exemptions = store.packed, usual.after_payment, usual.exemptions
    grace, wait = usual.grace, usual.wait_for_order
    earliest, tolerance = usual.earliest, usual.future_tolerance
    pack_head, encode = HEAD.pack, encode_part
    left: list[int] = []
    taken: list[bytes] = []
    dues: list[int] = []
    for place, event, key, effective, timestamp in zip(
        range(len(lane.keys)), events, lane.keys, lane.effective, lane.timestamps, strict=True
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
    store.note(taken, new=True)
    return left, runs_of(zip(dues, taken, strict=True))


def upload(lane: Lane, usual: Usual, store: PackedOrders, blocked: Blocked) -> Taken:
    """Note an upload where no clock or stop hangs on it, nor the closure that is due next."""
    events = decode_all(_UPLOADS, lane.values)
    _block_unsound(lane, events, _names_of_parcels(events), blocked)
    packed, after, grace, closure = store.packed, usual.after_upload, usual.grace, usual.closure
    earliest, tolerance = usual.earliest, usual.future_tolerance
    unpack, encode = _DUE_PLACED.unpack_from, encode_part
    left: list[int] = []
    taken: list[bytes] = []
    for place, event, key, effective, timestamp, state in zip(
        range(len(lane.keys)), events, lane.keys, lane.effective, lane.timestamps,
        _states(lane, usual, store), strict=True,
    ):  # fmt: skip
        if (
            event is None
            or state is None
            or (flags := after[state[-1]]) == NOT_USUAL
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
                _UPLOAD, event.tracking_number, event.carrier, at, None,
                effective, flags,
            )
        )  # fmt: skip
        taken.append(key)
    store.note(taken, new=False)
    return left, {}


def scan(lane: Lane, usual: Usual, store: PackedOrders, blocked: Blocked) -> Taken:
    """Let an order retire whose parcel was uploaded, and scanned before anything was due."""
    events = decode_all(_SCANS, lane.values)
    _block_unsound(lane, events, _names_of_parcels(events), blocked)
    packed, after, grace = store.packed, usual.after_scan, usual.grace
    clean, wait = usual.clean, usual.wait_for_order
    earliest, tolerance = usual.earliest, usual.future_tolerance
    unpack, pack, encode = _DUE_PLACED_PAID.unpack_from, _VERSION_DUE.pack, encode_part
    left: list[int] = []
    taken: list[bytes] = []
    dues: list[int] = []
    for place, event, key, effective, timestamp, state in zip(
        range(len(lane.keys)), events, lane.keys, lane.effective, lane.timestamps,
        _states(lane, usual, store), strict=True,
    ):  # fmt: skip
        if (
            event is None
            or state is None
            or (flags := after[state[-1]]) == NOT_USUAL
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
            + encode((_SCAN, event.tracking_number, event.carrier, at, effective, flags))
        )
        taken.append(key)
        dues.append(over)
    store.note(taken, new=False)
    return left, runs_of(zip(dues, taken, strict=True))


Take = Callable[[Lane, Usual, PackedOrders, Blocked], Taken]
TAKE: dict[int, Take] = {ORDER_PAID: pay, TRACKING_NUMBER_UPLOADED: upload, FIRST_SCAN: scan}


def _states(lane: Lane, usual: Usual, store: PackedOrders) -> Iterable[bytes | None]:
    """Give the state of each key, `None` for those that another policy may have judged."""
    if usual.judged_after_ms < 0:
        return map(store.packed.get, lane.keys)
    return (_judged_since(key, usual, store) for key in lane.keys)


def _judged_since(key: Any, usual: Usual, store: PackedOrders) -> bytes | None:
    state = store.get(key)
    if state is None or state.last_change_ms <= usual.judged_after_ms:
        return None
    return store.packed[key]


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
