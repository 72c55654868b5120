"""Input bytes: what is taken, and the reason for whatever is not."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest

from streams.codec.decode import Decoder, Refused
from streams.core.facts.events import KEY_BYTES_MAX, VALUE_BYTES_MAX, Event, ExemptionGranted
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS, INPUTS
from streams.core.facts.outputs import DeadLetter
from streams.core.stages import announce
from tests.unit.samples import (
    PLACED_AT,
    POLICY,
    VALUES,
    Value,
    appeal,
    exemption,
    own_time,
    paid,
    policy_with,
    raw,
    scan,
    upload,
)

TOLERANCE_MS = 5 * 60_000
FLOOR_MS = 1_262_304_000_000  # 2010-01-01T00:00:00Z
SENTINEL_MS = 946_656_000_000
RANKS = range(len(INPUT_TOPICS))


def decode(topic: str, value: Value, timestamp: int = PLACED_AT) -> Event:
    """Decode a value under its own key."""
    key = value.get("order_id")
    encoded = None if key is None else key.encode()
    return Decoder(POLICY).decode(INPUT_TOPICS.index(topic), encoded, raw(value), timestamp)


def refused(topic: str, value: Value, timestamp: int = PLACED_AT) -> Refused:
    """Return why a value is refused."""
    with pytest.raises(Refused) as caught:
        decode(topic, value, timestamp)
    return caught.value


def refused_bytes(value: bytes | None, rank: int = 2) -> Refused:
    """Return why bytes are refused."""
    with pytest.raises(Refused) as caught:
        Decoder(POLICY).decode(rank, b"O1", value, PLACED_AT)
    return caught.value


@pytest.mark.parametrize("rank", RANKS)
def test_valid_value_becomes_its_topics_event(rank: int) -> None:
    """Every topic has its own type, and unknown fields are ignored."""
    value, topic = VALUES[rank], INPUT_TOPICS[rank]
    event = decode(topic, value)
    assert type(event) is INPUTS[rank].event
    assert decode(topic, value | {"note": [1.5, None]}) == event


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b" ",
        b"{not json",
        raw(scan())[:-1],
        raw(scan()) + b"}",
        b"\xef\xbb\xbf" + raw(scan()),
        b"\xff\xfe\x00",
        b"NaN",
        raw(scan()).replace(b'"SF"', b'"\xff"'),
        raw(scan()).replace(b'"SF"', b'"\xed\xa0\x80"'),
        raw(scan())[:-1] + b',"a field nobody knows":"\xff"}',
        raw(scan()).replace(b'"SF"', rb'"\ud800"'),
        b"[" * 100_000,
        raw(scan()).replace(b'"SF"', b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_bytes_that_are_no_json_are_malformed(value: bytes | None) -> None:
    """Whatever a producer wrote, it is refused and never raises anything else."""
    assert refused_bytes(value).reason == "malformed"


@pytest.mark.parametrize("value", [b"null", b"[]", b'"O1"', b"1", b"true", b"{}"])
@pytest.mark.parametrize("rank", RANKS)
def test_json_that_is_no_such_event_fails_the_schema(value: bytes, rank: int) -> None:
    """No topic takes another kind of JSON value."""
    assert refused_bytes(value, rank).reason == "schema"


@pytest.mark.parametrize(
    ("topic", "value", "path"),
    [
        ("first-scan", scan(scanned_at="yesterday"), "$.scanned_at"),
        ("first-scan", scan(scanned_at=True), "$.scanned_at"),
        ("first-scan", scan(scanned_at=PLACED_AT + 0.5), "$.scanned_at"),
        ("first-scan", scan(scanned_at=-1), "$.scanned_at"),
        ("first-scan", scan(scanned_at=253_402_300_800_000), "$.scanned_at"),
        ("first-scan", scan(carrier=None), "$.carrier"),
        ("order-paid", paid(product_ids=[]), "$.product_ids"),
        ("order-paid", paid(product_ids=["P1", "P2", "P1"]), "$.product_ids"),
        ("order-paid", paid(product_ids=["P1", ""]), "$.product_ids[1]"),
        ("order-paid", paid(shipping_mode="Normal"), "$.shipping_mode"),
        ("order-paid", paid(paid_amount=-1), "$.paid_amount"),
        ("order-paid", paid(paid_amount=99.0), "$.paid_amount"),
        ("order-paid", paid(paid_amount=2**53), "$.paid_amount"),
        ("order-paid", paid(currency="RMB¥"), "$.currency"),
        ("order-paid", paid(currency="CNY\n"), "$.currency"),
        ("exemption-granted", exemption(effect={}), "$.effect"),
        ("exemption-granted", exemption(effect={"waive": False}), "$.effect.waive"),
        ("exemption-granted", exemption(effect={"extend_by": 0}), "$.effect.extend_by"),
        ("exemption-granted", exemption(effect={"waive": True, "extend_by": 1}), "$.effect"),
        ("exemption-granted", exemption(scope=None), "$.scope"),
        ("exemption-granted", exemption(scope={"shop_ids": "S1"}), "$.scope.shop_ids"),
        ("appeal-decided", appeal(outcome="maybe"), "$.outcome"),
    ],
)
def test_wrong_field_is_named(topic: str, value: Value, path: str) -> None:
    """The detail of a schema error tells the path of the field."""
    error = refused(topic, value)
    assert error.reason == "schema"
    assert error.detail.endswith(f"at `{path}`")


@pytest.mark.parametrize("name", ["", "a:b", "a\x00", "a\nb", "\x7f", "\x85", "x" * 129])
@pytest.mark.parametrize(
    ("topic", "path"),
    [
        ("order-paid", "order_id"),
        ("order-paid", "shop_id"),
        ("order-paid", "product_ids.1"),
        ("order-paid", "region"),
        ("order-paid", "ship_from_region"),
        ("tracking-number-uploaded", "tracking_number"),
        ("tracking-number-uploaded", "carrier"),
        ("tracking-number-uploaded", "replaces"),
        ("first-scan", "order_id"),
        ("first-scan", "tracking_number"),
        ("first-scan", "carrier"),
        ("order-closed", "order_id"),
        ("exemption-granted", "exemption_id"),
        ("exemption-granted", "kinds.0"),
        ("exemption-granted", "scope.order_ids.0"),
        ("exemption-granted", "scope.shop_ids.0"),
        ("exemption-granted", "scope.regions.0"),
        ("exemption-granted", "scope.ship_from_regions.0"),
        ("appeal-decided", "order_id"),
        ("refund-failed", "order_id"),
    ],
)
def test_bad_identifier_is_refused_wherever_it_stands(topic: str, path: str, name: str) -> None:
    """Empty, too long, with a colon or a control character: the schema's path says where."""
    value = VALUES[INPUT_TOPICS.index(topic)]
    field, *rest = path.split(".")
    if rest == ["1"]:
        value = value | {field: ["P1", name]}
    elif rest == ["0"]:
        value = value | {field: [name]}
    elif rest:
        value = value | {field: {rest[0]: [name]}}
    else:
        value = value | {field: name}
    error = refused(topic, value)
    assert error.reason == "schema"
    assert error.detail.endswith("at `$." + re.sub(r"\.(\d)", r"[\1]", path) + "`")


@pytest.mark.parametrize("name", ["x" * 128, "订单-1", "\U0001f4e6" * 128, "a b", '"', "\u2028"])
def test_identifier_may_be_any_other_text(name: str) -> None:
    """Up to 128 characters of any script are an identifier."""
    event: Any = decode("first-scan", scan(name, tracking_number=name))
    assert (event.order_id, event.tracking_number) == (name, name)


def test_appeal_id_may_have_colons() -> None:
    """It is never part of another id, but control characters it must not have."""
    event: Any = decode("appeal-decided", appeal(appeal_id="A:O1:late-scan:1"))
    assert event.appeal_id == "A:O1:late-scan:1"
    assert refused("appeal-decided", appeal(appeal_id="A:\n")).detail.endswith("at `$.appeal_id`")


@pytest.mark.parametrize("rank", [rank for rank in RANKS if rank != EXEMPTION_GRANTED])
@pytest.mark.parametrize("key", [None, b"", b"O2", b"o1", b"\xff"])
def test_key_must_be_the_order_id(rank: int, key: bytes | None) -> None:
    """Under another key an order's facts would lie in different partitions."""
    with pytest.raises(Refused) as caught:
        Decoder(POLICY).decode(rank, key, raw(VALUES[rank]), PLACED_AT)
    assert caught.value.reason == "wrong-key"


@pytest.mark.parametrize("key", [None, b"X1", b"\xff"])
def test_exemption_may_have_any_key(key: bytes | None) -> None:
    """It goes to partitions by number, so its key means nothing."""
    event = Decoder(POLICY).decode(EXEMPTION_GRANTED, key, raw(exemption()), PLACED_AT)
    assert isinstance(event, ExemptionGranted)


def test_kinds_left_out_empty_or_null_are_the_same() -> None:
    """All three mean every kind, so that none of them conflicts with another."""
    values = (exemption(), exemption(kinds=[]), exemption(kinds=None))
    assert len({repr(decode("exemption-granted", value)) for value in values}) == 1


@pytest.mark.parametrize(
    "violation_id",
    [
        "O2:late-scan:1",
        "O1:late-ship:1",
        "O1:late-scan:0",
        "O1:late-scan:4",
        "O1:late-scan:01",
        "O1:late-scan:1:1",
        "O1:late-scan:",
        "O1:late-scan:\u0661",
        "O1:late-scan:" + "9" * 200,
        "O1late-scan1",
    ],
)
def test_appeal_must_name_a_violation_of_its_order(violation_id: str) -> None:
    """An id that no violation of the order can have is invalid."""
    assert refused("appeal-decided", appeal(violation_id)).reason == "invalid"


def test_violations_are_those_of_the_policy() -> None:
    """The highest occurrence an appeal may name follows from the rules."""
    decoder = Decoder(policy_with(("occurrences_max = 3", "occurrences_max = 4")))
    value = raw(appeal("O1:late-scan:4"))
    assert decoder.decode(5, b"O1", value, PLACED_AT)


@pytest.mark.parametrize("rank", RANKS)
def test_own_time_may_be_five_minutes_ahead(rank: int) -> None:
    """A millisecond more than the tolerance is a wrong clock."""
    topic, value = INPUT_TOPICS[rank], VALUES[rank]
    at = own_time(topic, value)
    assert decode(topic, value, at - TOLERANCE_MS)
    assert refused(topic, value, at - TOLERANCE_MS - 1).reason == "time-in-future"


def test_placed_at_may_be_five_minutes_ahead_too() -> None:
    """The start of the clock is held to the same tolerance."""
    assert decode("order-paid", paid(placed_at=PLACED_AT + TOLERANCE_MS))
    late = refused("order-paid", paid(placed_at=PLACED_AT + TOLERANCE_MS + 1))
    assert late.reason == "time-in-future"
    assert late.detail.startswith("placed_at ")


@pytest.mark.parametrize("rank", RANKS)
def test_own_time_below_the_floor_is_a_sentinel(rank: int) -> None:
    """Old is fine, a millisecond below the floor is no time at all."""
    topic, field = INPUT_TOPICS[rank], INPUTS[rank].own_time
    assert decode(topic, VALUES[rank] | {field: FLOOR_MS})
    assert refused(topic, VALUES[rank] | {field: FLOOR_MS - 1}).reason == "invalid"


@pytest.mark.parametrize("field", ["placed_at", "promised_ship_by"])
def test_every_start_of_a_clock_has_the_floor(field: str) -> None:
    """A sentinel must not start a clock, whichever field holds it."""
    assert decode("order-paid", paid(**{field: FLOOR_MS}))
    error = refused("order-paid", paid(**{field: SENTINEL_MS}))
    assert (error.reason, error.detail.split()[0]) == ("invalid", field)


def test_promise_lies_in_the_future() -> None:
    """A promised date has no upper bound but the calendar's."""
    assert decode("order-paid", paid(promised_ship_by=253_402_300_799_999))


def test_optional_fields_may_be_left_out_or_null() -> None:
    """An upload that replaces no number says so in two ways."""
    assert decode("tracking-number-uploaded", upload(replaces=None)) == decode(
        "tracking-number-uploaded", upload()
    )
    assert decode("order-paid", paid(currency="CNY", region=None)) == decode("order-paid", paid())


def test_value_too_large_for_any_topic_is_refused_unread() -> None:
    """Its dead letter holds what a topic can hold, and the digest of the whole."""
    value = b"x" * (VALUE_BYTES_MAX + 1)
    with pytest.raises(Refused, match="invalid: a value of 8388609 bytes is too large"):
        Decoder(POLICY).decode(0, b"O1", value, PLACED_AT)
    letter = announce.dead_letter(
        0, "order-paid", 5, PLACED_AT, b"O1", value, "invalid", "too large", 9
    )
    assert isinstance(letter.value, DeadLetter)
    assert base64.b64decode(letter.value.raw) == value[:-1]
    assert hashlib.sha256(value).hexdigest() in letter.value.detail


def test_key_too_large_for_any_topic_is_cut() -> None:
    """A compressed one is small on the wire; its dead letter must be writable."""
    key = b"k" * (KEY_BYTES_MAX + 1)
    letter = announce.dead_letter(0, "order-paid", 5, PLACED_AT, key, b"{}", "wrong-key", "no", 9)
    assert letter.key == key[:-1]
    assert isinstance(letter.value, DeadLetter)
    assert letter.value.detail == (
        "no; the key has the first 4096 of 4097 bytes, SHA-256 " + hashlib.sha256(key).hexdigest()
    )
