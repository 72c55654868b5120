"""Keyed state and its changelog form.

States rest as the bytes the changelog holds and are unpacked on access: memory is a fraction of
live objects', a checkpoint reuses the bytes, and a restore only reads the due time in front.

An order's bytes are a head of fixed size and an array of MessagePack: what was bought, what was
made of the order, and its facts one by one. Each part ends with the log time of the change that
added it and with one byte that tells what kind of state it leaves. Nearly every order has nothing
made of it, then one upload, then one scan: there that part is left out, a fact is added by
appending it, and the last byte of a state tells what may be done with it, all without unpacking.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import filterfalse
from struct import Struct
from typing import Any, get_args

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from streams.codec import state_v1
from streams.core.facts.accepted import Fact, ScanFact, UploadFact
from streams.core.facts.events import ShippingMode
from streams.core.facts.inputs import INPUT_OF_TYPE
from streams.core.facts.order import Occurrence, Order, OrderState, Waiting, heed
from streams.core.time.key_buckets import split

# Of the layout and its meaning; a reader knows all versions up to its own.
STATE_VERSION = 2

HEAD = Struct(">BqqqBH")
"""Version, due, placed, paid, the array's first byte, and its number of parts if `MORE` is set."""
ARRAY = 0xDC
BEHIND_DUE = 9
MODE = 0x07
RETIRING = 0x08
TOLD = 0x10
"""Of `OrderState.told`. Earlier programs set it wherever a determination or a closure was kept."""
REST = RETIRING | TOLD
"""Of these flags, a state that waits to be forgotten, and of which nobody must hear then, has the
first."""
UPLOADED = 0x20
"""The parts are what was bought and an upload."""
SCANNED = 0x40
"""The parts are what was bought, an upload and a scan."""
MORE = UPLOADED | SCANNED
"""The parts are what was bought, what was made of it, and any facts."""
MODES: tuple[ShippingMode | None, ...] = (None, *get_args(ShippingMode))
MODE_FLAG = {mode: flag for flag, mode in enumerate(MODES)}

_ARRAY_AT = HEAD.size - 3
_DUE = slice(1, BEHIND_DUE)
_COUNTED = {0: bytes([ARRAY, 0, 1]), UPLOADED: bytes([ARRAY, 0, 2]), SCANNED: bytes([ARRAY, 0, 3])}
# What was bought, then log time of the change and flags, as behind every part.
_Bought = tuple[str, list[str], int, str, str | None, str | None, int, int]
_Made = tuple[int | None, list[Occurrence], bool, bool, list[Waiting], int, int]
_NOTHING_BOUGHT: tuple[Any, ...] = ("", (), 0, "", None, None)
_NOTHING_MADE: tuple[Any, ...] = (None, [], False, False, [])
# Flags by the types of an order's facts, where nothing was made of it.
_USUAL: dict[tuple[type[Fact], ...], int] = {
    (): 0,
    (UploadFact,): UPLOADED,
    (UploadFact, ScanFact): SCANNED,
}
encode_part = msgspec.msgpack.Encoder().encode
_decode_array = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_bought = msgspec.msgpack.Decoder(_Bought).decode
_decode_made = msgspec.msgpack.Decoder(_Made).decode
_decode_list = msgspec.msgpack.Decoder(list[Any]).decode


class StateVersionError(ValueError):
    """A changelog was written by a newer program."""


class UnreadableState(ValueError):
    """Bytes that are no state of any version."""


def pack_order(state: OrderState) -> bytes:
    """Give an order's state its changelog form."""
    order, facts, changed = state.order, state.facts, state.last_change_ms
    flags = RETIRING * state.retiring | TOLD * state.told
    placed = paid = 0
    bought, promised = _NOTHING_BOUGHT, None
    if order is not None:
        flags |= MODE_FLAG[order.shipping_mode]
        placed, paid, promised = order.placed_at, order.paid_at, order.promised_ship_by
        bought = (
            order.shop_id, order.product_ids, order.paid_amount, order.currency, order.region,
            order.ship_from_region,
        )  # fmt: skip
    made = (
        promised,
        state.occurrences,
        state.closed_original,
        state.closed_alternative,
        state.waiting,
    )
    usual = _USUAL.get(tuple(map(type, facts))) if made == _NOTHING_MADE else None
    parts: list[tuple[Any, ...]] = [bought, *map(fact_part, facts)]
    if usual is None:
        parts.insert(1, made)
        usual = MORE
    flags |= usual
    return HEAD.pack(STATE_VERSION, state.due_ms, placed, paid, ARRAY, len(parts)) + b"".join(
        [encode_part((*part, changed, flags)) for part in parts]
    )


def fact_part(fact: Fact) -> tuple[Any, ...]:
    """Give a fact the form it has in a state, but for what stands behind every part."""
    return INPUT_OF_TYPE[type(fact)].id, *astuple(fact)


def unpack_order(packed: bytes) -> OrderState:
    """Inverse of `pack_order`; reads earlier versions, too.

    Raises:
        StateVersionError: The state has a version this program does not know.
        UnreadableState: It is none.
    """
    try:
        if packed[0] == STATE_VERSION:
            return _unpack(packed)
        if packed[0] == state_v1.VERSION:
            return state_v1.unpack_order(packed)
    except Exception as exc:
        raise UnreadableState(str(exc) or type(exc).__name__) from exc
    raise StateVersionError(f"order state of version {packed[0]}, known is {STATE_VERSION}")


def _unpack(packed: bytes) -> OrderState:
    _, due, placed, paid, _, _ = HEAD.unpack_from(packed)
    flags = packed[-1]
    counted = _COUNTED.get(flags & MORE, packed[_ARRAY_AT : HEAD.size])
    first, *parts = _decode_array(counted + packed[HEAD.size :])
    shop_id, product_ids, amount, currency, region, ship_from, changed, _ = _decode_bought(first)
    state = OrderState(due, changed, bool(flags & RETIRING), bool(flags & TOLD))
    promised = None
    if flags & MORE == MORE:
        (
            promised, state.occurrences, state.closed_original, state.closed_alternative,
            state.waiting, changed, _,
        ) = _decode_made(parts.pop(0))  # fmt: skip
    mode = MODES[flags & MODE]
    if mode is not None:
        state.order = Order(
            shop_id, product_ids, mode, placed, paid, amount, currency, region, ship_from, promised
        )
    for part in parts:
        *fields, changed, _ = _decode_list(part)
        fact = msgspec.convert(fields, Fact)
        state.facts.append(fact)
        heed(state, fact)
    state.last_change_ms = changed
    return state


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
        packed, bury, limit = self.packed, self._bury, limit_ms.to_bytes(8, "big")
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
        get, due = self.packed.get, int.from_bytes
        return [
            (due_ms, key)
            for key in split(run)
            if (state := get(key)) is not None
            and state[-1] & REST != RETIRING
            and begin_ms <= (due_ms := due(state[_DUE], "big")) < end_ms
        ]

    def keys(self) -> list[bytes]:
        """All keys that have a state, sorted."""
        return sorted(self.packed)

    def flush(self) -> dict[bytes, bytes | None]:
        """Return the changes of the batch as changelog records, a tombstone for what is gone."""
        changed, self.changed = self.changed, {}
        return dict(zip(changed, map(self.packed.get, changed), strict=True))
