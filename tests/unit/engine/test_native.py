"""The compiled way of the usual events, beside the plain one, on every kind of value."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec.state import PackedOrders
from streams.core.facts.events import TIME_MS_MAX
from streams.core.facts.inputs import FIRST_SCAN, ORDER_PAID, TRACKING_NUMBER_UPLOADED
from streams.core.facts.order import OrderState
from streams.core.rules.exemptions import Exemptions
from streams.engine import usual
from streams.engine.compiled import NOT_COMPILED_WHY, TAKE, CompiledOrders
from streams.engine.held import Lane
from streams.rulebook import load_rulebook
from tests.unit.samples import PLACED_AT, paid, scan, upload

AT = PLACED_AT + 3_600_000
POLICY = load_rulebook(["douyin-first-scan"])
RULES = usual.Usual(POLICY, Exemptions())
MADE: dict[int, Any] = {ORDER_PAID: paid, TRACKING_NUMBER_UPLOADED: upload, FIRST_SCAN: scan}
OWN_TIME = {
    ORDER_PAID: "paid_at",
    TRACKING_NUMBER_UPLOADED: "uploaded_at",
    FIRST_SCAN: "scanned_at",
}
RANKS = st.sampled_from(sorted(MADE))

needs_native = pytest.mark.skipif(not TAKE, reason="nothing is compiled here")


def test_it_is_compiled_where_it_can_be() -> None:
    """An installation that found compiler and headers has it."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which("cc") is None or not headers.exists():
        pytest.skip("no C compiler, or no headers of Python")
    assert TAKE, f"{NOT_COMPILED_WHY}: rm .venv/installed.sha256 and try again"


def before(rank: int) -> PackedOrders:
    """Return the states that an event of a topic finds."""
    store = PackedOrders()
    for earlier in range(rank):
        value = orjson.dumps(MADE[earlier]("O1", **{OWN_TIME[earlier]: PLACED_AT}))
        usual.TAKE[earlier](
            Lane(earlier, [PLACED_AT], [0], [PLACED_AT], [b"O1"], [value]), RULES, store, {}
        )
    store.flush()
    return store


def left_by(take: Any, lane: Lane, rules: usual.Usual, store: PackedOrders) -> usual.Taken:
    """Take a lane either way."""
    found = take(lane, rules, store, {})
    return found if isinstance(found, usual.Taken) else found[0]


def kept(store: PackedOrders) -> tuple[Any, ...]:
    """Return states and notes in a form that compares."""
    return store.packed, store.changed


def both_ways(rank: int, value: bytes | None) -> bool:
    """Take a value both ways and compare; tell whether it was read by the compiled one."""
    lane = Lane(rank, [AT], [0], [AT], [b"O1"], [value])
    compiled, plain = before(rank), before(rank)
    taken, unread = TAKE[rank](lane, RULES, compiled, {})
    expected = usual.TAKE[rank](lane, RULES, plain, {})
    if unread:
        assert taken == ([0], {}, {})
        assert kept(compiled) == kept(before(rank))
        return False
    assert taken == expected
    assert kept(compiled) == kept(plain)
    return True


def with_text(rank: int, text: bytes) -> bytes:
    """Return an event of which one identifier, and an unknown field, is spelt as given."""
    made: bytes = orjson.dumps(MADE[rank]("O1", **{OWN_TIME[rank]: AT - 1}))
    old = b'"S1"' if rank == ORDER_PAID else b'"SF"'
    assert old in made
    return made.replace(old, b'"' + text + b'"').replace(b"{", b'{"note":"' + text + b'",', 1)


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
@pytest.mark.parametrize(
    "text",
    ["S1", "顺丰速运", "é", "\u00a0", "S 1", "s" * 31, "s" * 32, "s" * 128, "\U0001f4e6", "\u200b"],
)
def test_plain_text_is_read(rank: int, text: str) -> None:
    """UTF-8 of any script, of any length that an identifier may have."""
    if len(text.encode()) <= 128:
        assert both_ways(rank, with_text(rank, text.encode()))


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
@pytest.mark.parametrize(
    "text",
    [
        b"", b"s" * 129, b"a:b", b"a\\u0041", b'a\\"', b"a\x00", b"a\n", b"\x7f", b"\xc2\x80",
        b"\xc2\x9f", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b'"', b"\\",
    ],
)  # fmt: skip
def test_any_other_text_is_left(rank: int, text: bytes) -> None:
    """What no identifier may have, what is no UTF-8, and what would have to be unescaped."""
    assert not both_ways(rank, with_text(rank, text))


@needs_native
@pytest.mark.parametrize(
    ("old", "new", "read"),
    [
        (b"", b"", True),
        (b",", b" ,\n\t", True),
        (b":", b" : ", True),
        (b"{", b'{"a":1,"b":null,"c":true,"d":false,"e":"x",', True),
        (b"{", b'{"carrier":"SF",', False),
        (b"{", b'{"a":nulx,', False),
        (b"{", b'{"a":[1],', False),
        (b"{", b'{"a":{},', False),
        (b"{", b'{"a":-1,', False),
        (b"{", b'{"a":1.5,', False),
        (b"{", b'{"replaces":null,', False),
        (b"{", b"{,", False),
        (b"{", b"", False),
        (b"}", b"", False),
        (b"}", b",}", False),
        (b"}", b"} ", True),
        (b"}", b"}}", False),
        (b"}", b"} x", False),
        (b'"SF"', b"null", False),
        (b'"SF"', b"7", False),
        (b"1670", b"01670", False),
        (b"1670", b"-1670", False),
        (b"1670", b"1670.", False),
        (b"1670", b'"1670', False),
        (b"1670", b"1670000000000000", False),
        (b"1670", b"16700000", True),
        (b'"tracking_number"', b'"tracking_numbe"', False),
    ],
)
def test_values_are_read_or_left(old: bytes, new: bytes, read: bool) -> None:
    """White space and unknown plain fields are passed over; what is odd is the plain way's."""
    made = orjson.dumps(upload("O1", uploaded_at=1_670_315_400_000))
    assert both_ways(TRACKING_NUMBER_UPLOADED, made.replace(old, new) if old else made) == read


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
def test_each_field_must_be_there_once(rank: int) -> None:
    """One that is missing, or twice, is for the plain way to judge."""
    fields = MADE[rank]("O1", **{OWN_TIME[rank]: AT - 1})
    assert both_ways(rank, orjson.dumps(fields))
    for name, value in fields.items():
        again = orjson.dumps({name: value})[:-1] + b"," + orjson.dumps(fields)[1:]
        assert not both_ways(rank, again)
        assert not both_ways(rank, orjson.dumps({k: v for k, v in fields.items() if k != name}))


@needs_native
@given(rank=RANKS, data=st.data())
def test_damaged_values_come_to_the_same(rank: int, data: st.DataObject) -> None:
    """Bytes changed, taken out, put in or repeated anywhere."""
    value = bytearray(orjson.dumps(MADE[rank]("O1", **{OWN_TIME[rank]: AT - 1})))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(value)))
        size = data.draw(st.integers(0, 12))
        piece = data.draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from([b"", b" ", b",", b'"', b"}", b"0", b"9", b"null", b"\\n"]),
                st.just(bytes(value[place : place + size])),
            )
        )
        value[place : place + data.draw(st.integers(0, size))] = piece
    both_ways(rank, bytes(value))


@needs_native
@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("currency", "EUR", True),
        ("currency", "eur", False),
        ("currency", "EU1", False),
        ("currency", "EURO", False),
        ("currency", "EU", False),
        ("currency", None, False),
        ("region", "CN-BJ", True),
        ("region", "北京", True),
        ("region", None, False),
        ("ship_from_region", "a:b", False),
        ("promised_ship_by", AT, False),
        ("promised_ship_by", None, False),
        ("shipping_mode", "express", True),
        ("shipping_mode", "other", True),
        ("paid_amount", 0, True),
        ("paid_amount", 2**53 - 1, True),
        ("paid_amount", 2**53, True),
        ("product_ids", [], False),
        ("product_ids", ["P1", "P2", "P1"], False),
        ("product_ids", [f"P{number}" for number in range(15)], True),
        ("product_ids", [f"P{number}" for number in range(16)], True),
        ("product_ids", [f"P{number}" for number in range(32)], True),
        ("product_ids", [f"P{number}" for number in range(33)], False),
    ],
)
def test_payments_are_read_or_left(field: str, value: Any, read: bool) -> None:
    """What is read may still be left, where the rules say so."""
    assert both_ways(ORDER_PAID, orjson.dumps(paid("O1") | {field: value})) == read


FIELDS = st.fixed_dictionaries(
    {
        "order_id": st.sampled_from(["O1", "O2", ""]),
        "shop_id": st.text(max_size=40),
        "product_ids": st.lists(st.sampled_from(["p1", "p2", "p" * 40, ""]), max_size=40),
        "shipping_mode": st.sampled_from(["normal", "express", "stepped", "presale", "other"]),
        "placed_at": st.integers(AT - 10**10, AT + 10**6),
        "paid_at": st.integers(AT - 10**9, AT + 10**6),
        "paid_amount": st.one_of(st.integers(0, 300), st.integers(-1, 2**53)),
    },
    optional={
        "currency": st.sampled_from(["CNY", "EUR", "eur", "EURO", None]),
        "region": st.sampled_from(["CN-BJ", "北京", None]),
        "ship_from_region": st.sampled_from(["CN-SH", "a:b"]),
        "promised_ship_by": st.sampled_from([None, AT]),
        "note": st.one_of(
            st.none(), st.booleans(), st.text(), st.lists(st.integers(-(2**63), 2**64 - 1))
        ),
    },
)


@needs_native
@given(fields=FIELDS)
def test_payments_of_any_kind_come_to_the_same(fields: dict[str, Any]) -> None:
    """Every field that a payment may have, in and out of its range."""
    both_ways(ORDER_PAID, orjson.dumps(fields))


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
@pytest.mark.parametrize("value", [None, b"", b"{", "x", bytearray(b"{}")])
def test_what_is_no_value_is_left(rank: int, value: Any) -> None:
    """Nothing is read beyond the end, and nothing but bytes."""
    lane = Lane(rank, [AT], [0], [AT], [b"O1"], [value])
    assert TAKE[rank](lane, RULES, before(rank), {}) == (([0], {}, {}), 1)


@needs_native
def test_long_value_is_left() -> None:
    """Its state would not fit the buffer."""
    names = [f"{number:03}{'p' * 125}" for number in range(32)]
    value = orjson.dumps(paid("O1", product_ids=names))
    assert len(value) > 4_096
    assert not both_ways(ORDER_PAID, value)
    assert both_ways(ORDER_PAID, orjson.dumps(paid("O1", product_ids=names[:30])))


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
def test_time_beyond_the_largest_is_left(rank: int) -> None:
    """Also where the record's own clock is as far ahead."""
    far = TIME_MS_MAX + 1
    value = orjson.dumps(MADE[rank]("O1", **{OWN_TIME[rank]: far, "note": 1}))
    store = before(rank)
    lane = Lane(rank, [AT], [0], [far], [b"O1"], [value])
    assert TAKE[rank](lane, RULES, store, {})[0].left == [0]
    assert kept(store) == kept(before(rank))


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
@pytest.mark.parametrize(
    ("effective", "timestamp"), [(AT, -1), (-1, AT), (AT, 2**60), (2**60, AT), (2**63 - 1, AT)]
)
def test_wild_clock_is_left(rank: int, effective: int, timestamp: int) -> None:
    """No sum may pass the largest integer, and no state holds a number below zero."""
    value = orjson.dumps(MADE[rank]("O1", **{OWN_TIME[rank]: AT - 1}))
    lane = Lane(rank, [effective], [0], [timestamp], [b"O1"], [value])
    rules = usual.Usual(POLICY, Exemptions())
    rules.late_payment = 2**61
    rules.grace = 2**61
    rules.future_tolerance = 2**61
    assert TAKE[rank](lane, rules, before(rank), {})[0].left == [0]


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
def test_columns_of_other_lengths_are_refused(rank: int) -> None:
    """A mistake elsewhere must not become a read beyond a list."""
    with pytest.raises(ValueError, match="differ in length"):
        TAKE[rank](Lane(rank, [AT], [0], [AT], [b"O1"], []), RULES, before(rank), {})


@needs_native
@pytest.mark.parametrize("rank", [TRACKING_NUMBER_UPLOADED, FIRST_SCAN])
@pytest.mark.parametrize("changed_at", [AT - 1, AT, AT + 1, 0, 100, 200, 3_000, 2**32 - 1, 2**32])
def test_states_that_another_policy_may_have_judged_are_left(rank: int, changed_at: int) -> None:
    """The log time of a state's last change decides, however long a number it is."""
    earlier, rules = usual.Usual(POLICY, Exemptions()), usual.Usual(POLICY, Exemptions())
    earlier.grace = AT
    rules.judged_after_ms = AT
    order = paid("O1", paid_amount=0xCF00, region="CN-BJ", placed_at=AT, paid_at=AT)
    values = [orjson.dumps(order), orjson.dumps(upload("O1", uploaded_at=AT))]
    lane = Lane(rank, [AT + 5], [0], [AT + 5], [b"O1"], [orjson.dumps(MADE[rank]("O1", AT))])
    found = []
    for take in (TAKE[rank], usual.TAKE[rank]):
        store = PackedOrders()
        for before_it, value in enumerate(values[:rank]):
            first = Lane(before_it, [changed_at], [0], [AT + 5], [b"O1"], [value])
            assert usual.TAKE[before_it](first, earlier, store, {})[0] == []
        found.append(left_by(take, lane, rules, store).left)
    assert found == [found[1], [] if changed_at > AT else [0]]


@needs_native
def test_records_behind_one_that_is_left_are_left() -> None:
    """Those of the same key, in order, so that the plain way finds them so."""
    odd = orjson.dumps(upload("O1", uploaded_at=AT - 1)).replace(b'"SF"', b'"\\u0053F"')
    value = orjson.dumps(upload("O1", uploaded_at=AT - 1))
    lane = Lane(1, [AT, AT + 1], [0, 1], [AT, AT + 1], [b"O1", b"O1"], [odd, value])
    assert TAKE[1](lane, RULES, before(1), {}) == (([0, 1], {}, {}), 1)
    assert TAKE[1](lane.pick([1]), RULES, before(1), {b"O1": None})[0].left == [0]


KEYS = st.sampled_from([b"", b"a", b"b", b"bb", b"c"])
STATES = st.builds(OrderState, due_ms=st.integers(0, 9), retiring=st.booleans(), told=st.booleans())


@needs_native
@given(
    flushed=st.dictionaries(KEYS, STATES),
    fresh=st.dictionaries(KEYS, STATES),
    removed=st.lists(KEYS, max_size=3),
    keys=st.lists(KEYS),
    instants=st.tuples(st.integers(-1, 10), st.integers(0, 10), st.integers(0, 10)),
)
def test_compiled_store_does_what_the_plain_one_does(
    flushed: dict[bytes, OrderState],
    fresh: dict[bytes, OrderState],
    removed: list[bytes],
    keys: list[bytes],
    instants: tuple[int, int, int],
) -> None:
    """Of keys that the changelog holds, does not hold, or that are not there."""
    over, begin, end = instants
    found = []
    for store in (PackedOrders(), CompiledOrders()):
        for key, state in flushed.items():
            store.put(key, state)
        store.flush()
        for key, state in fresh.items():
            store.put(key, state)
        for key in removed:
            store.remove(key)
        run = b"".join(key + b"\n" for key in keys)
        timed = store.timed(run, begin, end)
        store.forget(keys, over)
        found.append((timed, store.packed, [*store.changed.items()], store.timed(run, 0, 10)))
    assert found[0] == found[1]


@needs_native
@pytest.mark.parametrize("rank", sorted(MADE))
@given(names=st.lists(st.sampled_from(["O1", "O2", "O3"]), max_size=40))
def test_keys_that_come_again_are_seen_as_they_are_now(rank: int, names: list[str]) -> None:
    """States are looked up some at a time; what one record changes, the next one finds."""
    stores = []
    for take in (TAKE, usual.TAKE):
        store, blocked = PackedOrders(), dict[Any, None]()
        for topic in range(rank + 1):
            chosen = names if topic == rank else dict.fromkeys(names)
            keys = [name.encode() for name in chosen]
            ats = [AT + topic] * len(keys)
            values = [orjson.dumps(MADE[topic](name, **{OWN_TIME[topic]: AT})) for name in chosen]
            lane = Lane(topic, ats, [*range(len(keys))], ats, [*keys], [*values])
            found = take[topic](lane, RULES, store, blocked)
            left = (found if isinstance(found, usual.Taken) else found[0]).left
        assert len(left) == len(names) - len(set(names))
        stores.append(kept(store))
    assert stores[0] == stores[1]


@needs_native
@pytest.mark.parametrize("rank", [ORDER_PAID, FIRST_SCAN])
def test_orders_wait_in_the_minute_of_their_next_instant(rank: int) -> None:
    """Minutes come and go within a lane, and come again."""
    keys = [b"O%d" % number for number in range(9)]
    ats = [AT + number // 3 * 60_000 for number in (0, 1, 2, 3, 4, 8, 8, 1, 0)]
    found = []
    for take in (TAKE, usual.TAKE):
        store = PackedOrders()
        for topic in range(rank + 1):
            values = [
                orjson.dumps(
                    MADE[topic](key.decode(), **{OWN_TIME[topic]: at - rank + topic})
                    | ({"placed_at": at - rank} if topic == ORDER_PAID else {})
                )
                for key, at in zip(keys, ats, strict=True)
            ]
            lane = Lane(topic, ats, [*range(9)], ats, list[Any](keys), list[bytes | None](values))
            taken = left_by(take[topic], lane, RULES, store)
            assert taken.left == []
        found.append((taken.timers, taken.retention))
    assert found[0] == found[1]
    assert sum(map(len, found[0])) == 3
