"""Keyed state and its changelog form.

States rest as the bytes the changelog holds and are unpacked on access: memory is a fraction of
live objects', a checkpoint reuses the bytes, and a restore only reads the due time in front.

An order's bytes are a head of fixed size and an array of MessagePack: what was made of the order,
then its facts. Each part ends with the log time of the change that added it, and with one byte that
tells what kind of state it leaves. So a fact is added by appending it, and the last byte of a state
tells what may be done with it, all without unpacking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Any, get_args

import msgspec
from msgspec import Raw

from streams.codec import state_v1
from streams.core.events import ShippingMode
from streams.core.order import Occurrence, OrderState, Waiting, heed

# Of the layout and its meaning; a reader knows all versions up to its own.
STATE_VERSION = 2

HEAD = Struct(">BqqqBH")
"""Version, due, placed, paid, the array's first byte, and how many parts it has: 1 without facts, 2
with an upload alone, so that one may be appended with the head left as it is."""
ARRAY = 0xDC
MODE = 0x07
RETIRING = 0x08
EVENTFUL = 0x10
"""More than facts is kept: determinations, or a closure."""
UPLOADED = 0x20
"""The only fact is an upload."""
MORE = 0x40
"""There are other facts, or some that wait for their order."""
REST = RETIRING | EVENTFUL
"""Of these flags, a state that left nothing but facts and waits to be forgotten has the first."""
MODES: tuple[ShippingMode | None, ...] = (None, *get_args(ShippingMode))
MODE_FLAG = {mode: flag for flag, mode in enumerate(MODES)}

_ARRAY_AT = HEAD.size - 3
_TWO_PARTS = bytes([ARRAY, 0, 2])
_DUE = slice(1, 9)
_Made = tuple[Raw, int | None, list[Occurrence], bool, bool, list[Waiting], int, int]
encode_part = msgspec.msgpack.Encoder().encode
_decode_array = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_made = msgspec.msgpack.Decoder(_Made).decode
_decode_fact = msgspec.msgpack.Decoder(list[Any]).decode


class StateVersionError(ValueError):
    """A changelog was written by a newer program."""


class UnreadableState(ValueError):
    """Bytes that are no state of any version."""


def pack_order(state: OrderState) -> bytes:
    """Give an order's state its changelog form."""
    facts, changed = state.facts, state.last_change_ms
    flags = MODE_FLAG[state.shipping_mode] | RETIRING * state.retiring | EVENTFUL * state.eventful
    if state.waiting or len(facts) > 1 or (facts and state.uploaded_at is None):
        flags |= MORE
    elif facts:
        flags |= UPLOADED
    made = (
        state.packed_purchase, state.promised_ship_by, state.occurrences, state.closed_original,
        state.closed_alternative, state.waiting, changed, flags,
    )  # fmt: skip
    return b"".join(
        (
            HEAD.pack(
                STATE_VERSION, state.due_ms, state.placed_at, state.paid_at, ARRAY, 1 + len(facts)
            ),
            encode_part(made),
            *(encode_part((*fact, changed, flags)) for fact in facts),
        )
    )


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
    flags, array = packed[-1], packed[_ARRAY_AT:]
    if flags & UPLOADED:
        array = _TWO_PARTS + packed[HEAD.size :]
    made, *parts = _decode_array(array)
    purchase, promised, occurrences, original, alternative, waiting, changed, _ = _decode_made(made)
    state = OrderState(
        due, changed, bool(flags & RETIRING), MODES[flags & MODE], placed, paid,
        promised_ship_by=promised, occurrences=occurrences, closed_original=original,
        closed_alternative=alternative, waiting=waiting, packed_purchase=purchase.copy(),
    )  # fmt: skip
    for part in parts:
        *fact, state.last_change_ms, _ = _decode_fact(part)
        state.facts.append(fact)
        heed(state, fact)
    return state


def check_order(packed: bytes) -> None:
    """Read all of a packed state.

    Raises:
        StateVersionError: The state has a version this program does not know.
        UnreadableState: It is none.
    """
    state = unpack_order(packed)
    try:
        state.order  # noqa: B018 - unpacked when asked for
    except Exception as exc:
        raise UnreadableState(str(exc) or type(exc).__name__) from exc


class PackedOrders:
    """An order store: packed states, and which of them the batch at hand has changed.

    A state is packed as soon as it is put: unpacked ones kept until the end of a batch would have
    left the processor's caches by then, which costs more than packing a few of them twice.
    """

    def __init__(self) -> None:
        self.packed: dict[bytes, bytes] = {}
        self.changes: dict[bytes, bytes | None] = {}
        """Changelog records since the last flush, one a key; `None` is a tombstone."""
        self.last_got = b""
        """Whose state was unpacked last: where a step fails, that is where it was."""

    def get(self, key: bytes) -> OrderState | None:
        """State of a key, unpacked."""
        self.last_got = key
        packed = self.packed.get(key)
        return None if packed is None else unpack_order(packed)

    def put(self, key: bytes, state: OrderState) -> None:
        """Keep a changed state."""
        self.changes[key] = self.packed[key] = pack_order(state)

    def put_all(self, states: Mapping[bytes, bytes]) -> None:
        """Keep changed states that are packed already."""
        self.packed |= states
        self.changes |= states

    def remove(self, key: bytes) -> None:
        """Forget a key."""
        self.changes[key] = None
        self.packed.pop(key, None)

    def forget(self, keys: Iterable[bytes], limit_ms: int) -> None:
        """Remove those that left nothing but facts and whose retention ended by an instant."""
        packed, limit = self.packed, limit_ms.to_bytes(8, "big", signed=True)
        get = packed.get
        over = {
            key: None
            for key in keys
            if (state := get(key)) is not None
            and state[-1] & REST == RETIRING
            and state[_DUE] <= limit
        }
        for key in over:
            del packed[key]
        self.changes |= over

    def timed(self, keys: Iterable[bytes]) -> list[tuple[int, bytes]]:
        """Of some keys, those with a timer, each with its due time."""
        get, due = self.packed.get, int.from_bytes
        return [
            (due(state[_DUE], "big"), key)
            for key in keys
            if (state := get(key)) is not None and state[-1] & REST != RETIRING
        ]

    def keys(self) -> list[bytes]:
        """All keys that have a state, sorted."""
        return sorted(self.packed)

    def flush(self) -> list[tuple[bytes, bytes | None]]:
        """Return the changes of the batch as changelog records."""
        changes = list(self.changes.items())
        self.changes.clear()
        return changes
