"""What the product forgets, and when: the auditor never does, so these are worked by hand alone."""

from __future__ import annotations

import json

from streams.engine.simulate import simulate
from streams.rulebook import load_rulebook
from tests.auditor.fold import parse, refusals_of, standing_of
from tests.auditor.naive import DAY_MS, HOUR_MS, Event

PLACED = 1_670_315_340_000  # 2022-12-06 16:29:00 +08:00
LAST_DUE = PLACED + 120 * HOUR_MS
POLICY = load_rulebook(["douyin-first-scan"])


def paid(placed_at: int, shop_id: str = "S1") -> Event:
    """Return the payment of order O1."""
    value = {
        "order_id": "O1",
        "shop_id": shop_id,
        "product_ids": ["P1"],
        "shipping_mode": "normal",
        "placed_at": placed_at,
        "paid_at": placed_at,
        "paid_amount": 100,
    }
    return {"topic": "order-paid", "value": value}


def fact(topic: str, field: str, own_time: int, timestamp: int) -> Event:
    """Return an upload or a scan of order O1."""
    value = {"order_id": "O1", "tracking_number": "T1", "carrier": "SF", field: own_time}
    return {"topic": topic, "timestamp": timestamp, "value": value}


def upload(own_time: int) -> Event:
    """Return an upload that arrives at once."""
    return fact("tracking-number-uploaded", "uploaded_at", own_time, own_time)


def scan(own_time: int, timestamp: int) -> Event:
    """Return a scan."""
    return fact("first-scan", "scanned_at", own_time, timestamp)


def outcome(events: list[Event]) -> tuple[list[str], list[str], int]:
    """Return the violations that stand, the reasons of dead letters, and the journal's sum."""
    outputs = parse(simulate([json.dumps(event).encode() for event in events], POLICY))
    stands = standing_of(outputs)
    booked = sum(entry["amount"] for entry in stands["journal"])
    return sorted(stands["standing"]), [reason for reason, *_ in refusals_of(outputs)], booked


def test_violation_can_be_taken_back_for_ninety_days() -> None:
    """At exactly 90 days after the last determination evidence still clears order and shop."""
    evidence = scan(PLACED + HOUR_MS, LAST_DUE + 90 * DAY_MS)
    assert outcome([paid(PLACED), upload(PLACED), evidence]) == ([], [], 0)


def test_violation_stands_for_good_after_ninety_days() -> None:
    """A millisecond later the order is forgotten and the evidence too late."""
    evidence = scan(PLACED + HOUR_MS, LAST_DUE + 90 * DAY_MS + 1)
    violations = [f"O1:late-scan:{n}" for n in (1, 2, 3)]
    assert outcome([paid(PLACED), upload(PLACED), evidence]) == (violations, ["too-late"], 2003)


def test_duplicate_does_not_prolong_the_memory() -> None:
    """Only an accepted event that is new counts for the horizon."""
    again = {**upload(PLACED), "timestamp": LAST_DUE + 30 * DAY_MS}
    evidence = scan(PLACED + HOUR_MS, LAST_DUE + 90 * DAY_MS + 1)
    _, reasons, _ = outcome([paid(PLACED), upload(PLACED), again, evidence])
    assert reasons == ["too-late"]


def test_order_on_time_is_forgotten_after_seven_days() -> None:
    """Within 7 days of the last event another order-paid is a conflict, after them a new order."""
    scanned_at = PLACED + 24 * HOUR_MS
    start = [paid(PLACED), scan(scanned_at, scanned_at)]
    last = scanned_at + 7 * DAY_MS
    assert outcome([*start, paid(last, "S2")]) == ([], ["conflict"], 0)
    violations = [f"O1:late-scan:{n}" for n in (1, 2, 3)]
    assert outcome([*start, paid(last + 1, "S2")]) == (violations, [], 2003)


def test_open_order_is_kept_for_its_closure() -> None:
    """Without upload, scan or close the order waits for its closure, and 90 days more."""
    closed_at = PLACED + 150 * DAY_MS
    evidence = scan(PLACED + HOUR_MS, closed_at + 90 * DAY_MS)
    assert outcome([paid(PLACED), evidence]) == ([], [], 0)
    violations = [f"O1:late-scan:{n}" for n in (1, 2, 3)]
    evidence = scan(PLACED + HOUR_MS, closed_at + 90 * DAY_MS + 1)
    assert outcome([paid(PLACED), evidence]) == (violations, ["too-late"], 2003)
