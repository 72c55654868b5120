"""Order states as version 1 kept them: read by a restore, never written.

A head of fixed size, then one MessagePack array of the order with what was made of it, and its
facts. What judging reads stood in the head, which every new fact had to rewrite.
"""

from __future__ import annotations

from struct import Struct

import msgspec
from msgspec import Raw

from streams.core.facts.accepted import Fact
from streams.core.facts.order import Occurrence, Order, OrderState, Waiting, heed

VERSION = 1

# version, due, last change, flags, placed, paid, uploaded, scanned, 0xDC, length of the array
_HEAD = Struct(">BqqBqqqqBH")
_ARRAY_AT = _HEAD.size - 3
_RETIRING = 0x08

_Rest = tuple[
    Order | None, int | None, int | None, int | None, list[str], list[Occurrence], bool, bool,
    list[Waiting],
]  # fmt: skip
_decode_array = msgspec.msgpack.Decoder(list[Raw]).decode
_decode_fact = msgspec.msgpack.Decoder(Fact).decode
_decode_rest = msgspec.msgpack.Decoder(_Rest).decode


def unpack_order(packed: bytes) -> OrderState:
    """Read a state of version 1."""
    _, due, last_change, flags, *_ = _HEAD.unpack_from(packed)
    rest, *facts = _decode_array(packed[_ARRAY_AT:])
    order, _, _, _, _, occurrences, original, alternative, waiting = _decode_rest(rest)
    state = OrderState(
        due, last_change, bool(flags & _RETIRING), told=bool(occurrences), occurrences=occurrences,
        closed_original=original, closed_alternative=alternative,
    )  # fmt: skip
    state.order, state.waiting = order, waiting
    state.facts = [_decode_fact(fact) for fact in facts]
    for fact in state.facts:
        heed(state, fact)
    return state
