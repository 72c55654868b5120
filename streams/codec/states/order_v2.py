"""Order states as version 2 kept them: read by a restore, never written.

A head of fixed size, then an array of MessagePack: what was bought, what was made of the order, and
its facts one by one, each with the log time of the change that added it and a byte of flags.
"""

from __future__ import annotations

from struct import Struct

import msgspec
from msgspec import Raw

from streams.core.facts.accepted import Fact
from streams.core.facts.order import Occurrence, Order, OrderState, Waiting, heed

VERSION = 2

# version, due, placed, paid, 0xDC, length of the array
_HEAD = Struct(">BqqqBH")
_ARRAY_AT = _HEAD.size - 3
_MODE, _RETIRING, _TOLD = 0x07, 0x08, 0x10
_UPLOADED, _SCANNED = 0x20, 0x40
_MORE = _UPLOADED | _SCANNED
_MODES = (None, "normal", "express", "stepped", "presale")
_COUNTED = {0: b"\xdc\0\1", _UPLOADED: b"\xdc\0\2", _SCANNED: b"\xdc\0\3"}
# What was bought, then log time of the change and flags, as behind every part.
_Bought = tuple[str, list[str], int, str, str | None, str | None, int, int]
_Made = tuple[int | None, list[Occurrence], bool, bool, list[Waiting], int, int]
_decode_array = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_bought = msgspec.msgpack.Decoder(_Bought).decode
_decode_made = msgspec.msgpack.Decoder(_Made).decode
_decode_list = msgspec.msgpack.Decoder(list[str | int | None]).decode


def unpack_order(packed: bytes) -> OrderState:
    """Read a state of version 2."""
    _, due, placed, paid, _, _ = _HEAD.unpack_from(packed)
    flags = packed[-1]
    counted = _COUNTED.get(flags & _MORE, packed[_ARRAY_AT : _HEAD.size])
    first, *parts = _decode_array(counted + packed[_HEAD.size :])
    shop_id, product_ids, amount, currency, region, ship_from, changed, _ = _decode_bought(first)
    state = OrderState(due, changed, bool(flags & _RETIRING), bool(flags & _TOLD))
    promised = None
    if flags & _MORE == _MORE:
        (
            promised, state.occurrences, state.closed_original, state.closed_alternative,
            state.waiting, changed, _,
        ) = _decode_made(parts.pop(0))  # fmt: skip
    mode = _MODES[flags & _MODE]
    if mode is not None:
        state.order = Order(
            shop_id, product_ids, mode, placed, paid, amount, currency, region, ship_from, promised
        )
    for part in parts:
        *fields, last_change, _ = _decode_list(part)
        fact = msgspec.convert(fields, Fact)
        state.facts.append(fact)
        heed(state, fact)
        changed = int(last_change or 0)
    state.last_change_ms = changed
    return state
