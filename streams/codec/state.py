"""Keyed state and its changelog form.

States rest as the bytes the changelog holds and are unpacked on access: memory is a fraction of
live objects', a checkpoint reuses the bytes, and a restore only reads the due time in front.
"""

from __future__ import annotations

import msgspec

from streams.core.clock import END_OF_TIME_MS
from streams.core.order import OrderState

# The first byte of every packed state; a reader knows all versions up to its own.
STATE_VERSION = 1
_HEADER = 9

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(OrderState).decode


class StateVersionError(ValueError):
    """A changelog was written by a newer program."""


def pack_order(state: OrderState) -> bytes:
    """Version byte, due time (8 bytes, big-endian), then the state as MessagePack."""
    return b"\x01" + state.due_ms.to_bytes(8, "big") + _encode(state)


def unpack_order(packed: bytes) -> OrderState:
    """Inverse of `pack_order`.

    Raises:
        StateVersionError: The state has a version this program does not know.
    """
    if packed[0] != STATE_VERSION:
        raise StateVersionError(f"order state of version {packed[0]}, known is {STATE_VERSION}")
    return _decode(packed[_HEADER:])


class PackedOrders:
    """An order store: packed states, and the unpacked ones of the batch at hand."""

    def __init__(self) -> None:
        self.packed: dict[bytes, bytes] = {}
        self.dirty: dict[bytes, OrderState | None] = {}
        """Changes since the last flush; `None` for a forgotten key."""

    def get(self, key: bytes) -> OrderState | None:
        """State of a key, unpacked."""
        if key in self.dirty:
            return self.dirty[key]
        packed = self.packed.get(key)
        return None if packed is None else unpack_order(packed)

    def put(self, key: bytes, state: OrderState) -> None:
        """Keep a changed state until the next flush."""
        self.dirty[key] = state

    def remove(self, key: bytes) -> None:
        """Forget a key."""
        self.dirty[key] = None

    def due_ms(self, key: bytes) -> int:
        """Due time of a key's timer."""
        if key in self.dirty:
            state = self.dirty[key]
            return END_OF_TIME_MS if state is None else state.due_ms
        packed = self.packed.get(key)
        return END_OF_TIME_MS if packed is None else due_of(packed)

    def keys(self) -> list[bytes]:
        """All keys that have a state, sorted."""
        keys = dict.fromkeys(self.packed)
        for key, state in self.dirty.items():
            if state is None:
                keys.pop(key, None)
            else:
                keys[key] = None
        return sorted(keys)

    def flush(self) -> list[tuple[bytes, bytes | None]]:
        """Pack the changes of the batch; returns them as changelog records, tombstones too."""
        changes: list[tuple[bytes, bytes | None]] = []
        packed, pack = self.packed, pack_order
        for key, state in self.dirty.items():
            if state is not None:
                value = packed[key] = pack(state)
                changes.append((key, value))
            elif packed.pop(key, None) is not None:
                changes.append((key, None))
        self.dirty.clear()
        return changes


def due_of(packed: bytes) -> int:
    """Due time of a packed state."""
    return int.from_bytes(packed[1:_HEADER], "big")
