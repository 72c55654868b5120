"""Keyed state and its changelog form.

States rest as the bytes the changelog holds and are unpacked on access: memory is a fraction of
live objects', a checkpoint reuses the bytes, and a restore only reads the due time in front.

An order's bytes are a head of fixed size, a MessagePack array of what only corrections and late
orders touch, and the facts one after the other. With the head's last three bytes they are one
array, so a fact is added by a new head and an append; nothing need be unpacked for it.
"""

from __future__ import annotations

from struct import Struct
from typing import get_args

import msgspec
from msgspec import Raw

from streams.core.clock import END_OF_TIME_MS
from streams.core.events import ShippingMode
from streams.core.order import Occurrence, OrderState, Waiting

# Of the layout and its meaning; a reader knows all versions up to its own.
STATE_VERSION = 1

# version, due, last change, flags, placed, paid, uploaded, scanned, 0xDC, length of the array
HEAD = Struct(">BqqBqqqqBH")
ARRAY = 0xDC
NOT_YET = -1
"""In the head, the instant of a fact that has not come."""
RETIRING = 0x08
EVENTFUL = 0x10
"""Flag of a state in which more than facts is kept: determinations, or a closure."""
FLAGS_AT = 17
"""Place of the flags in the head."""
_MODE = 0x07
_DUE = slice(1, 9)
FRONT = Struct(f">Bq{FLAGS_AT - 9}xB{HEAD.size - FLAGS_AT - 1}x")
"""What a restore reads of the head, which must be there as a whole: version, due time, flags."""
_ARRAY_AT = HEAD.size - 3
MODES: tuple[ShippingMode | None, ...] = (None, *get_args(ShippingMode))
MODE_FLAG = {mode: flag for flag, mode in enumerate(MODES)}

_Rest = tuple[
    Raw, int | None, int | None, int | None, list[str], list[Occurrence], bool, bool, list[Waiting]
]
_int = int.from_bytes
_encode = msgspec.msgpack.Encoder().encode
_decode_array = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_rest = msgspec.msgpack.Decoder(_Rest).decode


class StateVersionError(ValueError):
    """A changelog was written by a newer program."""


class UnreadableState(ValueError):
    """Bytes that are no state of any version."""


def pack_order(state: OrderState) -> bytes:
    """Give an order's state its changelog form."""
    uploaded_at, scanned_at = state.uploaded_at, state.scanned_at
    facts = state.packed_facts
    head = HEAD.pack(
        STATE_VERSION,
        state.due_ms,
        state.last_change_ms,
        MODE_FLAG[state.shipping_mode] | RETIRING * state.retiring | EVENTFUL * state.eventful,
        state.placed_at,
        state.paid_at,
        NOT_YET if uploaded_at is None else uploaded_at,
        NOT_YET if scanned_at is None else scanned_at,
        ARRAY,
        1 + len(facts),
    )
    rest = (
        state.packed_order,
        state.promised_ship_by,
        state.closed_at,
        state.refund_failed_at,
        state.appealed,
        state.occurrences,
        state.closed_original,
        state.closed_alternative,
        state.waiting,
    )
    return b"".join((head, _encode(rest), *facts))


def unpack_order(packed: bytes) -> OrderState:
    """Inverse of `pack_order`.

    Raises:
        StateVersionError: The state has a version this program does not know.
    """
    if packed[0] != STATE_VERSION:
        raise StateVersionError(f"order state of version {packed[0]}, known is {STATE_VERSION}")
    _, due, last_change, flags, placed, paid, uploaded, scanned, _, _ = HEAD.unpack_from(packed)
    rest, *facts = _decode_array(packed[_ARRAY_AT:])
    order, promised, closed, failed, appealed, occurrences, original, alternative, waiting = (
        _decode_rest(rest)
    )
    return OrderState(
        due, last_change, bool(flags & RETIRING), MODES[flags & _MODE], placed, paid,
        None if uploaded == NOT_YET else uploaded, None if scanned == NOT_YET else scanned,
        promised, closed, failed, appealed, occurrences, original, alternative, waiting,
        order.copy(), [bytes(fact) for fact in facts],
    )  # fmt: skip


def check_order(packed: bytes) -> None:
    """Read all of a packed state.

    Raises:
        StateVersionError: The state has a version this program does not know.
        UnreadableState: It is none.
    """
    try:
        state = unpack_order(packed)
        state.order, state.facts  # noqa: B018 - unpacked when asked for
    except StateVersionError:
        raise
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

    def remove(self, key: bytes) -> None:
        """Forget a key."""
        self.changes[key] = None
        self.packed.pop(key, None)

    def forget(self, key: bytes, limit_ms: int) -> bool:
        """Remove a key that left nothing but facts and whose retention ended by an instant."""
        packed = self.packed.get(key)
        if (
            packed is None
            or packed[FLAGS_AT] & (RETIRING | EVENTFUL) != RETIRING
            or _int(packed[_DUE], "big") > limit_ms
        ):
            return False
        self.changes[key] = None
        del self.packed[key]
        return True

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
