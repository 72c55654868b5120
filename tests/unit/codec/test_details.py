"""The words of a dead letter: what is wrong, what the number looks like, what is valid."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from streams.codec.decode import Decoder, Refused
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.instants import both_ways
from streams.engine.simulate import simulate
from tests.unit.samples import (
    DAY_MS,
    PLACED_AT,
    POLICY,
    appeal,
    closed,
    exemption,
    line,
    paid,
    raw,
    scan,
)  # fmt: skip

FLOOR = "1262304000000 (2010-01-01T00:00:00.000Z)"


def detail(topic: str, value: Any, timestamp: int = PLACED_AT) -> str:
    """Return what is said of a value that is refused."""
    key = str(value.get("exemption_id") or value.get("order_id")).encode()
    with pytest.raises(Refused) as refused:
        Decoder(POLICY).decode(INPUT_TOPICS.index(topic), key, raw(value), timestamp)
    return refused.value.detail


def letters(*lines: bytes) -> list[tuple[str, str]]:
    """Return reason and detail of each dead letter of a log."""
    outputs = map(json.loads, simulate(lines, POLICY))
    values = [one["value"] for one in outputs if one["topic"] == "dead-letter"]
    return [(one["reason"], one["detail"]) for one in values]


def test_instants_are_written_both_ways() -> None:
    """Any number a record can have as its timestamp is one."""
    assert both_ways(PLACED_AT) == "1670315340000 (2022-12-06T08:29:00.000Z)"
    assert both_ways(0) == "0 (1970-01-01T00:00:00.000Z)"
    assert both_ways(253_402_300_799_999).endswith("(9999-12-31T23:59:59.999Z)")
    assert both_ways(-1) == "-1"
    assert both_ways(2**63 - 1) == "9223372036854775807"
    assert both_ways(946_656_000_000) == "946656000000 (1999-12-31T16:00:00.000Z)"


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1670315340, "seconds"),
        (PLACED_AT * 1000, "microseconds"),
        (PLACED_AT * 10**6, "nanosecond"),
    ],
)
def test_times_in_another_unit_are_recognised(value: int, unit: str) -> None:
    """Whichever way they are refused."""
    found = detail("first-scan", scan(scanned_at=value))
    assert f"{value} (these look like {unit}" in found
    assert "times are epoch milliseconds)" in found


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            f"scope.{name}",
            {"scope": {name: PLACED_AT // 1000}},
        )
        for name in ("paid_from", "paid_until", "deadline_from", "deadline_until")
    ]
    + [("effect.extend_to", {"effect": {"extend_to": PLACED_AT // 1000}})],
)
def test_an_exemption_in_seconds_is_refused(path: str, fields: dict[str, Any]) -> None:
    """As milliseconds it would cover other orders than were meant, or move nothing."""
    assert detail("exemption-granted", exemption(**fields)) == (
        f"{path} 1670315340 (these look like seconds; times are epoch milliseconds)"
    )


@pytest.mark.parametrize("instant", [0, 1, 253_402_300_799_999])
def test_an_exemption_may_begin_or_end_at_any_time(instant: int) -> None:
    """The floor is for what happened; a scope may be open at either end."""
    event = exemption(scope={"paid_from": instant})
    key = event["exemption_id"].encode()
    Decoder(POLICY).decode(INPUT_TOPICS.index("exemption-granted"), key, raw(event), PLACED_AT)


def test_times_are_told_in_iso_8601_too() -> None:
    """Both ends of each comparison."""
    assert detail("first-scan", scan(scanned_at=946_656_000_000)) == (
        f"scanned_at 946656000000 (1999-12-31T16:00:00.000Z) lies before {FLOOR}"
    )
    assert detail("first-scan", scan(scanned_at=PLACED_AT + DAY_MS)) == (
        "scanned_at 1670401740000 (2022-12-07T08:29:00.000Z) lies after the record's timestamp "
        "1670315340000 (2022-12-06T08:29:00.000Z)"
    )
    assert detail("first-scan", scan(scanned_at="2022-12-06")) == (
        "Expected `int`, got `str`; times are epoch milliseconds - at `$.scanned_at`"
    )


@pytest.mark.parametrize(
    ("topic", "value", "valid"),
    [
        ("order-closed", closed(reason="x"), "cancelled, refund-agreed, refunded"),
        ("exemption-granted", exemption(source="x"), "platform, report"),
        ("exemption-granted", exemption(effect={"waive": False}), "true"),
        ("appeal-decided", appeal(outcome="x"), "granted, rejected"),
    ],
)
def test_an_enum_lists_what_is_valid(topic: str, value: Any, valid: str) -> None:
    """The path stays at the end."""
    assert f", valid: {valid} - at `$." in detail(topic, value)


def test_a_mode_of_no_kind_lists_those_there_are() -> None:
    """Which modes there are is the rules' to say."""
    assert detail("order-paid", paid(shipping_mode="x")) == (
        "shipping_mode x is not one of douyin-first-scan@1; "
        "its modes are normal, express, stepped, presale"
    )


@pytest.mark.parametrize("escape", ["\\ud800", "\\uD83D end", "\\ud800\\u0041"])
def test_half_of_a_surrogate_pair_is_told_as_such(escape: str) -> None:
    """The parser takes it for the end of the value."""
    value = raw(scan(carrier="HALF")).replace(b"HALF", escape.encode())
    with pytest.raises(Refused) as refused:
        Decoder(POLICY).decode(INPUT_TOPICS.index("first-scan"), b"O1", value, PLACED_AT)
    assert refused.value.reason == "malformed"
    assert refused.value.detail == f"{escape[:6]} is half of a surrogate pair, not a text"


def test_an_escaped_backslash_begins_no_escape() -> None:
    """What is wrong there is something else."""
    with pytest.raises(Refused) as refused:
        Decoder(POLICY).decode(
            INPUT_TOPICS.index("first-scan"), b"O1", rb'{"order_id": "\\ud800"', PLACED_AT
        )
    assert "surrogate" not in refused.value.detail


def test_an_appeal_names_violations_there_are() -> None:
    """Kinds and numbers of the policy."""
    assert detail("appeal-decided", appeal("O1:late-scan:4")).endswith(
        "; after the order come late-scan:1 to late-scan:3"
    )


def test_a_basket_of_two_shops_is_told_to_be_split() -> None:
    """And what else differs is named, with the way to move a deadline."""
    first = line("order-paid", paid())
    assert letters(first, line("order-paid", paid(shop_id="S2"))) == [
        (
            "conflict",
            (
                "another order-paid of this order stands, of shop S1; an order has one shop: send "
                "a basket of several shops as one order a shop"
            ),
        )
    ]
    assert letters(first, line("order-paid", paid(paid_amount=1))) == [
        ("conflict", "another order-paid of this order stands, with another paid_amount")
    ]
    ((_, promised),) = letters(first, line("order-paid", paid(promised_ship_by=PLACED_AT)))
    assert promised.endswith("send an exemption-granted that names the order")
    again = exemption(effect={"extend_by": 1})
    ((_, granted),) = letters(
        line("exemption-granted", exemption()), line("exemption-granted", again)
    )
    assert granted.endswith("under an exemption_id of its own")


def test_strangers_are_told_how_to_come() -> None:
    """In time order, and with their order."""
    late = line("order-paid", paid(), timestamp=PLACED_AT + 8 * DAY_MS)
    assert letters(late) == [
        (
            "too-late",
            (
                "the order is not known, and 1670315340000 (2022-12-06T08:29:00.000Z) lies before "
                "1670401740000 (2022-12-07T08:29:00.000Z): facts this old need record timestamps "
                "of their own time, and must come in time order"
            ),
        )
    ]
    alone = line("first-scan", scan())
    later = line("first-scan", scan("O2"), timestamp=PLACED_AT + 8 * DAY_MS)
    assert letters(alone, later)[0] == (
        "no-order",
        "no order-paid of its order came until 1670920140000 (2022-12-13T08:29:00.000Z)",
    )


def test_details_are_the_same_each_time() -> None:
    """They are bytes of output."""
    log = [line("order-paid", paid(shipping_mode="x")), line("first-scan", scan(scanned_at=5))]
    assert simulate(log, POLICY) == simulate(log, POLICY)
    (first, _) = map(json.loads, simulate(log, POLICY))
    assert base64.b64decode(first["value"]["raw"])
