"""Keyed state and its changelog form.

States rest as the bytes the changelog holds and are unpacked on access: memory is a fraction of
live objects', a checkpoint reuses the bytes, and a restore only reads the due time in front.

An order's bytes are a head of fixed size, parts in MessagePack one after the other, and a tail of
fixed size. The parts are what was bought, what was made of the order, and its facts one by one.
Nearly every order has nothing made of it, then one upload, then one scan: there that part is left
out, a fact is added by putting it in front of a new tail, and the tail's flags tell what may be
done with a state, all without unpacking.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from itertools import filterfalse
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from streams.codec.states import order_v1, order_v2
from streams.core.facts.accepted import Fact, ScanFact, UploadFact
from streams.core.facts.inputs import INPUT_OF_TYPE
from streams.core.facts.order import DeadlineTold, Occurrence, Order, OrderState, Waiting, heed
from streams.core.time.key_buckets import split

# Of the layout and its meaning; a reader knows all versions up to its own.
STATE_VERSION = 3

INSTANT_BYTES = 6
"""Of the instants in the head that events bound: big-endian, to year 9999 and beyond."""
PLACED_AT, PAID_AT, PLAN_AT, PARTS_AT = 9, 15, 21, 23
"""Where the head's fields and the parts begin; a version and the due time stand in front."""
TAIL = struct.Struct(">qB")
"""Log time of the last change, and the flags."""
EXEMPT = 0x01
"""An exemption reaches the order: what moves its clocks is judged with all its facts."""
RETIRING = 0x08
SHOP_NOTIFIED = 0x10
"""Of `OrderState.told`."""
REST = RETIRING | SHOP_NOTIFIED
"""Of these flags, a state that waits to be forgotten, and of which no shop must be notified then,
has the first."""
UPLOADED = 0x20
"""An upload follows what was bought."""
SCANNED = 0x40
"""A scan follows what was bought, and the upload if there is one."""
MORE = 0x80
"""The parts are one array: what was bought, what was made of it, and any facts."""
PHASE = UPLOADED | SCANNED | MORE

_VERSION_DUE = struct.Struct(">Bq")
# Instants of 6 bytes as their upper and lower parts.
_HEAD = struct.Struct(">BqHIHIH")
_LOW = 0xFFFFFFFF
_DUE = slice(1, PLACED_AT)
_COUNTED = {0: b"\x91", UPLOADED: b"\x92", SCANNED: b"\x92", UPLOADED | SCANNED: b"\x93"}
_MANY = struct.Struct(">BH")
_ARRAY = 0xDC


class _Bought(Struct, array_like=True, frozen=True, gc=False):
    """What `order-paid` said, but for what stands in the head; what is left out is not known."""

    shop_id: str
    product_ids: list[str]
    shipping_mode: str
    paid_amount: int
    currency: str
    region: str | None = None
    ship_from_region: str | None = None
    platform: str | None = None
    shop_level: str | None = None
    category: str | None = None
    goods_amount: int | None = None
    promised_ship_by: int | None = None
    agreed_ship_by: int | None = None
    warehouse: str | None = None


class _Made(Struct, array_like=True, gc=False):
    """What was made of an order."""

    occurrences: list[Occurrence] = []
    closed_original: bool = False
    closed_alternative: bool = False
    waiting: list[Waiting] = []
    deadlines_told: list[DeadlineTold] = []


_NOTHING_MADE = _Made()
_fields_bought = attrgetter(*_Bought.__struct_fields__)
# Phases by the types of an order's facts, where nothing was made of it.
_USUAL: dict[tuple[type[Fact], ...], int] = {
    (): 0,
    (UploadFact,): UPLOADED,
    (ScanFact,): SCANNED,
    (UploadFact, ScanFact): UPLOADED | SCANNED,
}
encode_part: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_decode_array = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_bought = msgspec.msgpack.Decoder(_Bought | None).decode
_decode_made = msgspec.msgpack.Decoder(_Made).decode
_decode_fact = msgspec.msgpack.Decoder(Fact).decode


class StateVersionError(ValueError):
    """A changelog was written by a newer program."""


class UnreadableState(ValueError):
    """Bytes that are not a state of any version."""


def pack_head(due: int, placed: int, paid: int, plan: int) -> bytes:
    """Begin a state."""
    return _HEAD.pack(
        STATE_VERSION, due, placed >> 32, placed & _LOW, paid >> 32, paid & _LOW, plan
    )


def with_due(state: bytes, due: int) -> bytes:
    """Return a state's head with another due time."""
    return _VERSION_DUE.pack(STATE_VERSION, due) + state[PLACED_AT:PARTS_AT]


def bought_part(one: Any) -> bytes:
    """Give what was bought its form in a state.

    Args:
        one: An `Order`, or the event that brings it.
    """
    return encode_part(_trimmed(list(_fields_bought(one))))


def fact_part(fact: Fact) -> bytes:
    """Give a fact its form in a state."""
    return encode_part(_trimmed([INPUT_OF_TYPE[type(fact)].id, *astuple(fact)]))


def _trimmed(fields: list[Any]) -> list[Any]:
    """Leave out what is not known at the end."""
    while fields and fields[-1] is None:
        fields.pop()
    return fields


def pack_order(state: OrderState) -> bytes:
    """Give an order's state its changelog form."""
    order, facts = state.order, state.facts
    flags = RETIRING * state.retiring | SHOP_NOTIFIED * state.told | EXEMPT * state.exempt
    placed = paid = 0
    bought = encode_part(None)
    if order is not None:
        placed, paid, bought = order.placed_at, order.paid_at, bought_part(order)
    made = _Made(
        state.occurrences, state.closed_original, state.closed_alternative, state.waiting,
        state.deadlines_told,
    )  # fmt: skip
    phase = _USUAL.get(tuple(map(type, facts))) if order and made == _NOTHING_MADE else None
    parts = [bought, *map(fact_part, facts)]
    if phase is None:
        parts.insert(1, encode_part(made))
        parts.insert(0, _MANY.pack(_ARRAY, len(parts)))
        phase = MORE
    head = pack_head(state.due_ms, placed, paid, state.plan)
    return head + b"".join(parts) + TAIL.pack(state.last_change_ms, flags | phase)


def unpack_order(packed: bytes) -> OrderState:
    """Inverse of `pack_order`; reads earlier versions, too.

    Raises:
        StateVersionError: The state has a version this program does not know.
        UnreadableState: It is not a state.
    """
    try:
        if packed[0] == STATE_VERSION:
            return _unpack(packed)
        if packed[0] == order_v2.VERSION:
            return order_v2.unpack_order(packed)
        if packed[0] == order_v1.VERSION:
            return order_v1.unpack_order(packed)
    except Exception as exc:
        raise UnreadableState(str(exc) or type(exc).__name__) from exc
    raise StateVersionError(f"order state of version {packed[0]}, known is {STATE_VERSION}")


def _unpack(packed: bytes) -> OrderState:
    due, plan = due_of(packed), int.from_bytes(packed[PLAN_AT:PARTS_AT])
    changed, flags = TAIL.unpack_from(packed, len(packed) - TAIL.size)
    parts = packed[PARTS_AT : -TAIL.size]
    if not flags & MORE:
        parts = _COUNTED[flags & PHASE] + parts
    first, *rest = _decode_array(parts)
    bought = _decode_bought(first)
    state = OrderState(
        due, changed, bool(flags & RETIRING), bool(flags & SHOP_NOTIFIED), plan,
        bool(flags & EXEMPT),
    )  # fmt: skip
    if flags & MORE:
        made = _decode_made(rest.pop(0))
        state.occurrences, state.closed_original = made.occurrences, made.closed_original
        state.closed_alternative, state.waiting = made.closed_alternative, made.waiting
        state.deadlines_told = made.deadlines_told
    if bought is not None:
        state.order = Order(
            bought.shop_id, bought.product_ids, bought.shipping_mode,
            int.from_bytes(packed[PLACED_AT:PAID_AT]), int.from_bytes(packed[PAID_AT:PLAN_AT]),
            bought.paid_amount, bought.currency, bought.region, bought.ship_from_region,
            bought.promised_ship_by, bought.platform, bought.shop_level, bought.category,
            bought.goods_amount, bought.agreed_ship_by, bought.warehouse,
        )  # fmt: skip
    for part in rest:
        fact = _decode_fact(part)
        state.facts.append(fact)
        heed(state, fact)
    return state


def due_of(packed: bytes) -> int:
    """Return when a state's timer is due."""
    return int.from_bytes(packed[_DUE], signed=True)


class PackedOrders:
    """An order store: packed states, and which of them the batch at hand has changed.

    A state is packed as soon as it is put: unpacked ones kept until the end of a batch would have
    left the processor's caches by then, which costs more than packing a few of them twice.
    """

    def __init__(self) -> None:
        self.packed: dict[bytes, bytes] = {}
        self.changed: dict[bytes, bool] = {}
        """Keys that changed since the last flush, true for one that the changelog does not hold."""
        self.last_got = b""
        """Whose state was unpacked last: where a step fails, that is where it was."""

    def get(self, key: bytes) -> OrderState | None:
        """State of a key, unpacked."""
        self.last_got = key
        packed = self.packed.get(key)
        return None if packed is None else unpack_order(packed)

    def put(self, key: bytes, state: OrderState) -> None:
        """Keep a state, new or changed."""
        if key not in self.changed:
            self.changed[key] = key not in self.packed
        self.packed[key] = pack_order(state)

    def note(self, keys: Iterable[bytes], *, new: bool) -> None:
        """Note that states were put into `packed`: all of keys that had none, or of others."""
        changed = self.changed
        # A key that is there may have left a tombstone in this batch, for what the changelog holds.
        changed |= dict.fromkeys(filterfalse(changed.__contains__, keys), new)

    def remove(self, key: bytes) -> None:
        """Forget a key."""
        if self.packed.pop(key, None) is not None:
            self._bury(key)

    def forget(self, keys: list[bytes], limit_ms: int) -> None:
        """Remove those that rest and whose retention ended by an instant."""
        if limit_ms < 0:
            return
        packed, bury, limit = self.packed, self._bury, limit_ms.to_bytes(8)
        for key in keys:
            state = packed.get(key)
            if state is not None and state[-1] & REST == RETIRING and state[_DUE] <= limit:
                del packed[key]
                bury(key)

    def _bury(self, key: bytes) -> None:
        """Note that a key is gone: one that came since the last flush as if it never had."""
        if self.changed.get(key):
            del self.changed[key]
        else:
            self.changed[key] = False

    def timed(self, run: bytes, begin_ms: int, end_ms: int) -> list[tuple[int, bytes]]:
        """Of a run of keys, those with a timer between two instants, each with its due time."""
        get = self.packed.get
        return [
            (due_ms, key)
            for key in split(run)
            if (state := get(key)) is not None
            and state[-1] & REST != RETIRING
            and begin_ms <= (due_ms := due_of(state)) < end_ms
        ]

    def keys(self) -> list[bytes]:
        """All keys that have a state, sorted."""
        return sorted(self.packed)

    def flush(self) -> dict[bytes, bytes | None]:
        """Return the changes of the batch as changelog records, a tombstone for what is gone."""
        changed, self.changed = self.changed, {}
        return dict(zip(changed, map(self.packed.get, changed), strict=True))
