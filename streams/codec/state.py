"""Keyed state and its changelog form.

States rest as the bytes the changelog holds and are unpacked on access: memory is a fraction of
live objects', a checkpoint reuses the bytes, and a restore only reads the due time in front.

An order's bytes are a head of fixed size, then parts, each with a link behind it: first what was
made of the order, then its facts one by one. A link says when the state changed, how long its part
is, and in its last byte what kind of state ends there. So a fact is added by appending it with a
link, and the last byte of a state tells what may be done with it, all without unpacking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import get_args

import msgspec
from msgspec import Raw

from streams.codec import state_v1
from streams.core.clock import END_OF_TIME_MS
from streams.core.events import ShippingMode
from streams.core.order import Occurrence, OrderState, Waiting, recall

# Of the layout and its meaning; a reader knows all versions up to its own.
STATE_VERSION = 2

HEAD = Struct(">Bqqq")
"""Version, due, placed, paid."""
LINK = Struct(">qHB")
"""Last change, length of the part before (0 for the first), flags."""
MODE = 0x07
RETIRING = 0x08
EVENTFUL = 0x10
"""More than facts is kept: determinations, or a closure."""
UPLOADED = 0x20
"""The only fact is an upload."""
MORE = 0x40
"""Other facts, or some that wait for their order."""
FIRST = 0x80
"""The part before is what was made of the order: its facts stand behind."""
REST = RETIRING | EVENTFUL
"""Of these flags, a state that left nothing but facts and waits to be forgotten has the first."""
MODES: tuple[ShippingMode | None, ...] = (None, *get_args(ShippingMode))
MODE_FLAG = {mode: flag for flag, mode in enumerate(MODES)}

_DUE = slice(1, 9)
_Made = tuple[Raw, int | None, list[Occurrence], bool, bool, list[Waiting]]
_int = int.from_bytes
_encode = msgspec.msgpack.Encoder().encode
_decode_made = msgspec.msgpack.Decoder(_Made).decode


class StateVersionError(ValueError):
    """A changelog was written by a newer program."""


class UnreadableState(ValueError):
    """Bytes that are no state of any version."""


def pack_order(state: OrderState) -> bytes:
    """Give an order's state its changelog form."""
    facts, changed = state.packed_facts, state.last_change_ms
    flags = MODE_FLAG[state.shipping_mode] | RETIRING * state.retiring | EVENTFUL * state.eventful
    if state.waiting or len(facts) > 1 or (facts and state.uploaded_at is None):
        flags |= MORE
    elif facts:
        flags |= UPLOADED
    made = (
        state.packed_purchase, state.promised_ship_by, state.occurrences, state.closed_original,
        state.closed_alternative, state.waiting,
    )  # fmt: skip
    parts = [
        HEAD.pack(STATE_VERSION, state.due_ms, state.placed_at, state.paid_at),
        _encode(made),
        LINK.pack(changed, 0, flags | FIRST),
    ]
    for fact in facts:
        parts += (fact, LINK.pack(changed, len(fact), flags))
    return b"".join(parts)


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
    _, due, placed, paid = HEAD.unpack_from(packed)
    end = len(packed) - LINK.size
    changed, length, flags = LINK.unpack_from(packed, end)
    status, facts = flags, []
    while not flags & FIRST:
        facts.append(packed[end - length : end])
        end -= length + LINK.size
        if end < HEAD.size:
            raise ValueError("its parts are longer than it is")
        _, length, flags = LINK.unpack_from(packed, end)
    facts.reverse()
    purchase, promised, occurrences, original, alternative, waiting = _decode_made(
        packed[HEAD.size : end]
    )
    state = OrderState(
        due, changed, bool(status & RETIRING), MODES[status & MODE], placed, paid,
        promised_ship_by=promised, occurrences=occurrences, closed_original=original,
        closed_alternative=alternative, waiting=waiting, packed_purchase=purchase.copy(),
    )  # fmt: skip
    recall(state, facts)
    return state


def last_change_ms(packed: bytes) -> int:
    """When a packed state changed last, in log time."""
    changed: int = LINK.unpack_from(packed, len(packed) - LINK.size)[0]
    return changed


def check_order(packed: bytes) -> None:
    """Read all of a packed state.

    Raises:
        StateVersionError: The state has a version this program does not know.
        UnreadableState: It is none.
    """
    state = unpack_order(packed)
    try:
        state.order, state.facts  # noqa: B018 - unpacked when asked for
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
        packed, changes = self.packed, self.changes
        for key in keys:
            state = packed.get(key)
            if (
                state is not None
                and state[-1] & REST == RETIRING
                and _int(state[_DUE], "big") <= limit_ms
            ):
                changes[key] = None
                del packed[key]

    def due_ms(self, key: bytes) -> int:
        """Due time of a key's timer."""
        packed = self.packed.get(key)
        return END_OF_TIME_MS if packed is None else _int(packed[_DUE], "big")

    def keys(self) -> list[bytes]:
        """All keys that have a state, sorted."""
        return sorted(self.packed)

    def flush(self) -> list[tuple[bytes, bytes | None]]:
        """Return the changes of the batch as changelog records."""
        changes = list(self.changes.items())
        self.changes.clear()
        return changes
