"""The records themselves, worked by hand: instants, order, causes; what stands is in the cases."""

from __future__ import annotations

import json
from typing import Any

from streams.engine.simulate import simulate
from streams.rulebook import load_rulebook
from tests.auditor.fold import parse
from tests.auditor.naive import DAY_MS, HOUR_MS, Event

POLICY = load_rulebook(["douyin-first-scan"])
PLACED = 1_670_315_340_000  # Tuesday 2022-12-06 16:29:00 +08:00
DEADLINE = PLACED + 72 * HOUR_MS
MIDNIGHT = 1_670_601_600_000  # Saturday 2022-12-10 00:00:00 +08:00, after the deadline's day
FIRST, SECOND, THIRD = (f"O1:late-scan:{n}" for n in (1, 2, 3))


def paid(order_id: str = "O1", placed_at: int = PLACED, timestamp: int = PLACED) -> Event:
    """Return a payment in shop S1 for product P1."""
    value = {
        "order_id": order_id,
        "shop_id": "S1",
        "product_ids": ["P1"],
        "shipping_mode": "normal",
        "placed_at": placed_at,
        "paid_at": placed_at,
        "paid_amount": 9900,
    }
    return {"topic": "order-paid", "timestamp": timestamp, "value": value}


def scan(own_time: int, timestamp: int, order_id: str = "O1") -> Event:
    """Return a scan."""
    value = {"order_id": order_id, "tracking_number": "T", "carrier": "SF", "scanned_at": own_time}
    return {"topic": "first-scan", "timestamp": timestamp, "value": value}


def appeal(violation_id: str, decided_at: int) -> Event:
    """Return a granted appeal."""
    value = {
        "appeal_id": "A1",
        "violation_id": violation_id,
        "order_id": violation_id.split(":", maxsplit=1)[0],
        "outcome": "granted",
        "decided_at": decided_at,
    }
    return {"topic": "appeal-decided", "value": value}


def exemption(granted_at: int, effect: dict[str, Any]) -> Event:
    """Return an exemption of every order."""
    value = {
        "exemption_id": "X1",
        "source": "platform",
        "granted_at": granted_at,
        "effect": effect,
        "scope": {},
    }
    return {"topic": "exemption-granted", "value": value}


def records(topic: str, events: list[Event], *fields: str) -> list[tuple[Any, ...]]:
    """Return the named fields of a topic's records, in emission order."""
    outputs = parse(simulate([json.dumps(event).encode() for event in events], POLICY))
    return [
        tuple(output["value"].get(name) for name in fields)
        for output in outputs
        if output["topic"] == topic
    ]


def journal(events: list[Event]) -> list[tuple[Any, ...]]:
    """Return (entry_id, amount, day, effective_at) of the journal."""
    return records("penalty", events, "entry_id", "amount", "day", "effective_at")


def test_points_are_booked_at_once_and_the_deposit_at_midnight() -> None:
    """Points take effect when determined, deposits when the next local day starts."""
    assert journal([paid(), scan(DEADLINE + HOUR_MS, DEADLINE + HOUR_MS)]) == [
        (f"{FIRST}:points:1", 1, "2022-12-09", DEADLINE),
        (f"{FIRST}:deposit:1", 1000, "2022-12-09", MIDNIGHT),
    ]


def test_revocation_at_the_settle_instant_comes_first() -> None:
    """A determination revoked at midnight exactly is never booked on the deposit."""
    assert journal([paid(), scan(DEADLINE - 1, MIDNIGHT)]) == [
        (f"{FIRST}:points:1", 1, "2022-12-09", DEADLINE),
        (f"{FIRST}:points:2", -1, "2022-12-09", MIDNIGHT),
    ]


def test_revocation_after_the_settlement_reverses() -> None:
    """A millisecond later the charge has been made and is reversed, for its own day."""
    assert journal([paid(), scan(DEADLINE - 1, MIDNIGHT + 1)]) == [
        (f"{FIRST}:points:1", 1, "2022-12-09", DEADLINE),
        (f"{FIRST}:deposit:1", 1000, "2022-12-09", MIDNIGHT),
        (f"{FIRST}:deposit:2", -1000, "2022-12-09", MIDNIGHT + 1),
        (f"{FIRST}:points:2", -1, "2022-12-09", MIDNIGHT + 1),
    ]


def test_determination_reaching_the_shop_at_the_settle_instant_is_settled_with_its_day() -> None:
    """An overdue order that arrives at midnight is charged by the settlement of midnight."""
    events = [paid(timestamp=MIDNIGHT), scan(DEADLINE, MIDNIGHT)]
    assert journal(events)[1:] == [(f"{FIRST}:deposit:1", 1000, "2022-12-09", MIDNIGHT)]
    told = records("notification", events, "template", "effective_at")
    assert [at for template, at in told if template.startswith("penalty")] == [MIDNIGHT]


def test_late_determination_is_booked_when_it_arrives() -> None:
    """An order a day overdue is charged with the instant of its record, for the day it was due."""
    late = MIDNIGHT + HOUR_MS
    events = [paid(timestamp=late), scan(DEADLINE, late)]
    assert journal(events) == [
        (f"{FIRST}:deposit:1", 1000, "2022-12-09", late),
        (f"{FIRST}:points:1", 1, "2022-12-09", late),
    ]


def test_rerun_reverses_first_and_then_charges() -> None:
    """An appeal on the first violation moves its charge to the third, already settled day."""
    decided = PLACED + 8 * DAY_MS
    assert journal([paid(), appeal(FIRST, decided)])[-3:] == [
        (f"{FIRST}:deposit:2", -1000, "2022-12-09", decided),
        (f"{FIRST}:points:2", -1, "2022-12-09", decided),
        (f"{THIRD}:deposit:1", 1000, "2022-12-11", decided),
    ]


def test_rerun_leaves_days_not_settled_to_their_settlement() -> None:
    """The appeal comes on the third violation's day: its charge waits for midnight."""
    decided = DEADLINE + 48 * HOUR_MS + HOUR_MS
    assert journal([paid(), appeal(FIRST, decided)])[-3:] == [
        (f"{FIRST}:deposit:2", -1000, "2022-12-09", decided),
        (f"{FIRST}:points:2", -1, "2022-12-09", decided),
        (f"{THIRD}:deposit:1", 1000, "2022-12-11", MIDNIGHT + 48 * HOUR_MS),
    ]


def test_bans_name_what_changed_them() -> None:
    """Imposed as of the third determination, lifted as of the record that took one back."""
    decided = PLACED + 8 * DAY_MS
    fields = ("type", "product_id", "order_id", "violation_id", "effective_at")
    assert records("product-ban", [paid(), appeal(SECOND, decided)], *fields) == [
        ("product-ban.imposed", "P1", "O1", THIRD, DEADLINE + 48 * HOUR_MS),
        ("product-ban.lifted", "P1", "O1", SECOND, decided),
    ]


def test_revocations_name_reason_and_cause() -> None:
    """By the input that caused it: exemption, appeal, else late evidence."""
    at = DEADLINE + HOUR_MS
    for event, reason, cause in (
        (exemption(at, {"waive": True}), "exemption", "X1"),
        (appeal(FIRST, at), "appeal", "A1"),
        (scan(DEADLINE - 1, at), "late-evidence", "first-scan"),
    ):
        timeouts = records("timeout", [paid(), event], "type", "revoked_at", "reason", "cause")
        assert timeouts[1] == ("timeout.revoked", at, reason, cause)


def test_moved_deadline_makes_the_next_revision() -> None:
    """Revoked by occurrence, then determined again with revision 2, all due times overdue."""
    granted = DEADLINE + 25 * HOUR_MS
    fields = ("type", "violation_id", "revision", "determined_at")
    events = [paid(), exemption(granted, {"extend_by": HOUR_MS}), scan(granted, granted)]
    assert records("timeout", events, *fields) == [
        ("timeout.determined", FIRST, 1, DEADLINE),
        ("timeout.determined", SECOND, 1, DEADLINE + 24 * HOUR_MS),
        ("timeout.revoked", FIRST, 1, DEADLINE),
        ("timeout.revoked", SECOND, 1, DEADLINE + 24 * HOUR_MS),
        ("timeout.determined", FIRST, 2, DEADLINE + HOUR_MS),
        ("timeout.determined", SECOND, 2, DEADLINE + 25 * HOUR_MS),
    ]


def test_timers_of_one_instant_go_by_order_and_kind() -> None:
    """(due, order_id, kind, n): O1 before O2, whatever came first."""
    events = [paid("O2"), paid("O1"), paid("O10")]
    made = records("timeout", events, "determined_at", "order_id")
    assert made[:3] == [(DEADLINE, order_id) for order_id in ("O1", "O10", "O2")]


def test_closures_carry_the_money_back() -> None:
    """The closure has the day of the rule, its fallback the day the refund failed."""
    closed_at, failed_at = PLACED + 150 * DAY_MS, PLACED + 160 * DAY_MS
    event = {**paid(), "value": paid()["value"] | {"currency": "USD"}}
    failed = {"topic": "refund-failed", "value": {"order_id": "O1", "failed_at": failed_at}}
    refund = {"amount": 9900, "currency": "USD"}
    assert records("order-closure", [event, failed], "closed_at", "refund") == [
        (closed_at, refund | {"path": "original"}),
        (failed_at, refund | {"path": "alternative"}),
    ]
