"""Packed order states and the store over them."""

from __future__ import annotations

from typing import Any

import pytest

from streams.codec.state import (
    TAIL,
    PackedOrders,
    StateVersionError,
    due_of,
    fact_part,
    pack_order,
    unpack_order,
)
from streams.core.facts.accepted import (
    AppealFact,
    ClosedFact,
    Fact,
    RefundFact,
    ScanFact,
    UploadFact,
)
from streams.core.facts.order import (
    DeadlineTold,
    Occurrence,
    Order,
    OrderState,
    Waiting,
    know,
    learn,
)
from tests.unit.samples import PLACED_AT


def full_state() -> OrderState:
    """Return a state without a field left at its default."""
    state = OrderState(
        due_ms=PLACED_AT,
        last_change_ms=PLACED_AT - 1,
        occurrences=[Occurrence("late-scan", 1, 2, True, 8, 9)],
        closed_original=True,
        closed_alternative=True,
        retiring=True,
        told=True,
        plan=7,
        exempt=True,
        deadlines_told=[DeadlineTold("late-scan", None, ["X1"], 1)],
    )
    order = Order(
        "店", ["P1", "P2"], "presale", 1, 2, 3, "CNY", "CN-BJ", None, PLACED_AT, "douyin", "gold",
        "fresh", 4, 5, "W1",
    )  # fmt: skip
    know(state, order)
    for fact in FACTS:
        learn(state, fact)
    state.waiting = [Waiting(10, 2, 11, 12, b"\x00\xff", FACTS[0])]
    return state


FACTS = [
    UploadFact("T1", "SF", 4),
    ScanFact("T1", "SF", 5),
    ClosedFact(6, "refunded"),
    AppealFact("A:1", "O1:late-scan:1", "granted", 7),
    RefundFact(8),
]
FULL = full_state()


def usual_state(*facts: Fact, **others: Any) -> OrderState:
    """Return the state of an order with these facts, of which nothing was made."""
    state = OrderState(due_ms=PLACED_AT, last_change_ms=PLACED_AT - 1, **others)
    know(state, Order("S1", ["P1"], "normal", 1, 2, 3, "CNY", None, None, None))
    for fact in facts:
        learn(state, fact)
    return state


STATES = [
    FULL, OrderState(), OrderState(due_ms=7), usual_state(), usual_state(FACTS[0]),
    usual_state(*FACTS[:2], retiring=True), usual_state(FACTS[1]), usual_state(*FACTS[1::-1]),
    usual_state(*FACTS), usual_state(FACTS[0], closed_original=True),
    usual_state(waiting=[Waiting(10, 2, 11, 12, b"", FACTS[0])]),
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_unpacking_inverts_packing(state: OrderState) -> None:
    """Nothing is lost, and the due time can be read without unpacking."""
    packed = pack_order(state)
    unpacked = unpack_order(packed)
    assert unpacked == state
    assert (unpacked.order, unpacked.facts) == (state.order, state.facts)
    assert due_of(packed) == state.due_ms


def test_usual_fact_is_added_in_front_of_the_tail() -> None:
    """Nothing before it changes."""
    paid, uploaded = usual_state(), usual_state(FACTS[0])
    packed, tail = pack_order(uploaded), TAIL.size
    added = pack_order(paid)[:-tail] + fact_part(FACTS[0]) + packed[-tail:]
    assert added == packed
    assert unpack_order(added) == uploaded


def test_sample_state_leaves_nothing_out() -> None:
    """A field the sample leaves at its default would not be tested."""
    default = OrderState()
    fields = OrderState.__struct_fields__
    assert [name for name in fields if getattr(FULL, name) == getattr(default, name)] == []
    assert FULL.facts == FACTS


def test_state_of_a_newer_program_is_refused() -> None:
    """A version this program does not know is never guessed at."""
    newer = b"\x04" + pack_order(FULL)[1:]
    with pytest.raises(StateVersionError, match="version 4, known is 3"):
        unpack_order(newer)


def test_changes_are_seen_before_they_are_flushed() -> None:
    """Reads go through the batch at hand, for state, due time and keys alike."""
    store = PackedOrders()
    store.put(b"O2", OrderState(due_ms=2))
    store.put(b"O1", OrderState(due_ms=1))
    store.flush()
    store.put(b"O1", OrderState(due_ms=3))
    store.remove(b"O2")
    store.put(b"O0", OrderState(due_ms=4))
    assert (store.get(b"O1"), store.get(b"O2")) == (OrderState(due_ms=3), None)
    assert store.timed(b"O0\nO1\nO2\nO9\n", 0, 9) == [(4, b"O0"), (3, b"O1")]
    assert store.keys() == [b"O0", b"O1"]


def test_flush_gives_the_last_state_of_each_key_once() -> None:
    """A second flush has nothing to say, and reads go on from the packed states."""
    store = PackedOrders()
    store.put(b"O1", OrderState(due_ms=1))
    store.put(b"O1", FULL)
    assert store.flush() == {b"O1": pack_order(FULL)}
    assert store.flush() == {}
    assert store.get(b"O1") == FULL
    assert store.timed(b"O1\n", FULL.due_ms, FULL.due_ms + 1) == [(FULL.due_ms, b"O1")]


def test_forgotten_key_leaves_a_tombstone() -> None:
    """The changelog holds it."""
    store = PackedOrders()
    store.put(b"kept", OrderState())
    store.flush()
    store.remove(b"kept")
    assert store.flush() == {b"kept": None}
    assert store.keys() == []


@pytest.mark.parametrize("in_bulk", [False, True])
def test_key_that_came_and_went_leaves_nothing(in_bulk: bool) -> None:
    """The changelog never held it; a second life in the same batch makes no difference."""
    store = PackedOrders()
    for _ in range(2):
        _rest(store, b"passing", in_bulk)
        store.forget([b"passing"], 5)
    assert store.flush() == {}
    assert store.keys() == []
    _rest(store, b"passing", in_bulk)
    store.flush()
    store.remove(b"passing")
    assert store.flush() == {b"passing": None}


@pytest.mark.parametrize("in_bulk", [False, True])
def test_key_that_came_back_and_went_again_leaves_its_tombstone(in_bulk: bool) -> None:
    """What the changelog holds is of its first life."""
    store = PackedOrders()
    _rest(store, b"O1", in_bulk)
    store.flush()
    store.remove(b"O1")
    _rest(store, b"O1", in_bulk)
    _rest(store, b"O2", in_bulk)
    store.forget([b"O1", b"O2"], 5)
    assert store.flush() == {b"O1": None}


def _rest(store: PackedOrders, key: bytes, in_bulk: bool) -> None:
    """Keep the state of a new key that waits to be forgotten."""
    state = OrderState(due_ms=5, retiring=True)
    if in_bulk:
        store.packed[key] = pack_order(state)
        store.note([key], new=True)
    else:
        store.put(key, state)


def test_nothing_is_forgotten_before_the_epoch() -> None:
    """An instant that lies before it, by a grace, comes before all due times."""
    store = PackedOrders()
    store.put(b"O1", OrderState(due_ms=5, retiring=True))
    store.forget([b"O1"], -1)
    assert store.keys() == [b"O1"]
    store.forget([b"O1"], 5)
    assert store.keys() == []
