"""The bench job: paid orders with uploads and first scans, and the exact answer.

500 000 orders give 1.49 million events: every order is paid and uploaded, 98 % are scanned, some
of them late. Values are about 100 bytes. The answer follows from how each order was made, without
any of the product's code.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import NamedTuple

HOUR_MS = 3_600_000
START_MS = 1_760_000_000_000
SPAN_MS = 7 * 24 * HOUR_MS
LIMIT_MS = 72 * HOUR_MS
LEADS_MS = (24 * HOUR_MS, 4 * HOUR_MS)
SHOPS = 2_000
CLOSING_AFTER_MS = 30 * 24 * HOUR_MS


class Event(NamedTuple):
    """One input record, not yet partitioned."""

    timestamp: int
    topic: str
    key: bytes
    value: bytes


class Answer(NamedTuple):
    """What must come out."""

    events: int
    determinations: int
    warnings: int
    closures: int


class Clock(NamedTuple):
    """One kind of violation of a job: so long after placing, until the first fact of a topic."""

    limit_ms: int
    stop: str


LATE_SCAN = Clock(LIMIT_MS, "first-scan")
LATE_SHIP = Clock(48 * HOUR_MS, "tracking-number-uploaded")


def make(
    orders: int, seed: int = 7, *, late_uploads: bool = False
) -> tuple[list[list[Event]], Answer]:
    """Make the events of a job, one time-ordered list a topic, and its answer.

    Args:
        late_uploads: One order in fifty is uploaded 41 to 70 hours after its placing.
    """
    rng = random.Random(seed)
    paid: list[Event] = []
    uploaded: list[Event] = []
    scanned: list[Event] = []
    determinations = warnings = 0
    for number in range(orders):
        order_id = f"{number:012d}"
        key = order_id.encode()
        placed_at = START_MS + SPAN_MS * number // orders
        deadline = placed_at + LIMIT_MS
        shop = int(rng.paretovariate(1.2)) % SHOPS
        paid_at = placed_at + rng.randrange(1_000, 60_000)
        paid.append(
            Event(
                paid_at,
                "order-paid",
                key,
                b'{"order_id":"%s","shop_id":"s%d","product_ids":["p%d"],"shipping_mode":"normal",'
                b'"placed_at":%d,"paid_at":%d,"paid_amount":9900}'
                % (key, shop, number % 97, placed_at, paid_at),
            )
        )
        uploaded_at = placed_at + rng.randrange(HOUR_MS, 30 * HOUR_MS)
        if late_uploads and number % 50 == 25:
            uploaded_at += 40 * HOUR_MS
        uploaded.append(
            Event(
                uploaded_at,
                "tracking-number-uploaded",
                key,
                b'{"order_id":"%s","tracking_number":"T%s","carrier":"SF","uploaded_at":%d}'
                % (key, key, uploaded_at),
            )
        )
        scanned_at: int | None = None
        if number % 50:
            late = rng.random() < 0.03
            scanned_at = (
                deadline + rng.randrange(40 * HOUR_MS)
                if late
                else uploaded_at + rng.randrange(600_000, 16 * HOUR_MS)
            )
            scanned.append(
                Event(
                    scanned_at,
                    "first-scan",
                    key,
                    b'{"order_id":"%s","tracking_number":"T%s","carrier":"SF","scanned_at":%d}'
                    % (key, key, scanned_at),
                )
            )
        for occurrence in range(3):
            due = deadline + occurrence * 24 * HOUR_MS
            determinations += scanned_at is None or scanned_at >= due
        warnings += sum(scanned_at is None or scanned_at >= deadline - lead for lead in LEADS_MS)
    topics = [sorted(events) for events in (paid, uploaded, scanned)]
    return topics, Answer(sum(map(len, topics)), determinations, warnings, 0)


def closing(partitions: int) -> list[tuple[int, Event]]:
    """Make an order for each partition that carries event time past every deadline of the job.

    It is scanned in time, so it adds nothing to the answer; the partition stands before its event.
    """
    events = []
    at = START_MS + CLOSING_AFTER_MS
    for partition in range(partitions):
        key = b"flush-%d" % partition
        parcel = b'{"order_id":"%s","tracking_number":"T%s","carrier":"SF",' % (key, key)
        paid = (
            b'{"order_id":"%s","shop_id":"s0","product_ids":["p0"],"shipping_mode":"normal",'
            b'"placed_at":%d,"paid_at":%d,"paid_amount":9900}' % (key, at, at)
        )
        uploaded_at, scanned_at = at + HOUR_MS, at + 2 * HOUR_MS
        events += [
            (partition, Event(at, "order-paid", key, paid)),
            (
                partition,
                Event(
                    uploaded_at,
                    "tracking-number-uploaded",
                    key,
                    parcel + b'"uploaded_at":%d}' % uploaded_at,
                ),
            ),
            (
                partition,
                Event(scanned_at, "first-scan", key, parcel + b'"scanned_at":%d}' % scanned_at),
            ),
        ]
    return events


def answer_of(
    topics: list[list[Event]], clocks: tuple[Clock, ...]
) -> tuple[set[tuple[str, int]], Answer]:
    """Tell from the events what several kinds come to, three times each: first timeouts, counts."""
    paid, uploaded, scanned = topics
    stops = {
        "tracking-number-uploaded": {e.key: json.loads(e.value)["uploaded_at"] for e in uploaded},
        "first-scan": {e.key: json.loads(e.value)["scanned_at"] for e in scanned},
    }
    missed: set[tuple[str, int]] = set()
    determinations = warnings = 0
    for event in paid:
        placed_at = json.loads(event.value)["placed_at"]
        for clock in clocks:
            deadline = placed_at + clock.limit_ms
            stop = stops[clock.stop].get(event.key)
            if stop is None or stop >= deadline:
                missed.add((event.key.decode(), deadline))
            for occurrence in range(3):
                determinations += stop is None or stop >= deadline + occurrence * 24 * HOUR_MS
            warnings += sum(stop is None or stop >= deadline - lead for lead in LEADS_MS)
    return missed, Answer(sum(map(len, topics)), determinations, warnings, 0)


def merged(topics: list[list[Event]]) -> Iterator[Event]:
    """All events, a topic after the other."""
    for events in topics:
        yield from events


def disputes(orders: int, seed: int) -> list[Event]:
    """Make what goes wrong around the orders of a job: about one event for 25 of its own.

    Exemptions, appeals, closes and scans reported days later for the orders that `make` leaves
    unscanned, so that much of what was charged is taken back; conflicts, copies and garbage around
    the others; and orders that never ship.
    """
    rng = random.Random(seed)
    events: list[Event] = []

    def put(timestamp: int, topic: str, key: bytes, **value: object) -> None:
        encoded = json.dumps(value, separators=(",", ":")).encode()
        events.append(Event(timestamp, topic, key, encoded))

    for number in range(0, orders, 50):
        if rng.random() < 0.75:
            continue
        order_id = f"{number:012d}"
        key = order_id.encode()
        placed_at = START_MS + SPAN_MS * number // orders
        deadline = placed_at + LIMIT_MS
        at = deadline + rng.randrange(-10 * HOUR_MS, 90 * HOUR_MS)
        match rng.randrange(5):
            case 0:
                scan = {"tracking_number": "T1", "carrier": "SF"}
                scanned_at = placed_at + rng.randrange(20 * HOUR_MS, 110 * HOUR_MS)
                put(max(at, scanned_at), "first-scan", key,
                    order_id=order_id, **scan, scanned_at=scanned_at)  # fmt: skip
            case 1:
                violation_id = f"{order_id}:late-scan:{rng.randrange(1, 4)}"
                put(at, "appeal-decided", key, appeal_id=f"A{number}", violation_id=violation_id,
                    order_id=order_id, outcome=rng.choice(("granted", "granted", "rejected")),
                    decided_at=at)  # fmt: skip
            case 2:
                put(at, "order-closed", key,
                    order_id=order_id, closed_at=at, reason="refund-agreed")  # fmt: skip
            case 3:
                effect = rng.choice(({"extend_by": 30 * HOUR_MS}, {"waive": True}))
                put(at, "exemption-granted", b"X%d" % number, exemption_id=f"X{number}",
                    source="report", granted_at=at, effect=effect,
                    scope={"order_ids": [order_id]})  # fmt: skip
            case 4:
                put(at, "refund-failed", key, order_id=order_id, failed_at=at)
    for number in range(4):
        at = START_MS + SPAN_MS * (number + 1) // 4
        scope = {"shop_ids": [f"s{number + 1}"]} if number % 2 else {}
        put(at, "exemption-granted", b"P%d" % number, exemption_id=f"P{number}", source="platform",
            granted_at=at, effect={"extend_by": 12 * HOUR_MS},
            scope={**scope, "deadline_from": at - 8 * HOUR_MS, "deadline_until": at})  # fmt: skip
    for number in range(0, orders, 500):
        at = START_MS + SPAN_MS * number // orders
        never = f"N{number}"
        put(at, "order-paid", never.encode(), order_id=never, shop_id=f"s{number % 7}",
            product_ids=["p1", "p2"], shipping_mode="normal", placed_at=at, paid_at=at,
            paid_amount=5_000)  # fmt: skip
        if rng.random() < 0.5:
            put(at + HOUR_MS, "refund-failed", never.encode(), order_id=never, failed_at=at)
    for number in range(0, orders, 40):
        order_id = f"{number + 1:012d}"
        key = order_id.encode()
        at = START_MS + SPAN_MS * number // orders + rng.randrange(HOUR_MS, 60 * HOUR_MS)
        scan = {"order_id": order_id, "tracking_number": "T1", "carrier": "SF"}
        match rng.randrange(6):
            case 0:
                put(at, "order-paid", key, order_id=order_id, shop_id="other", product_ids=["p1"],
                    shipping_mode="normal", placed_at=at, paid_at=at, paid_amount=1)  # fmt: skip
            case 1:
                put(at, "first-scan", key, **scan, scanned_at=at + HOUR_MS)
            case 2:
                put(at, "first-scan", b"no order", **scan, scanned_at=at)
            case 3:
                put(at, "order-closed", key, order_id=order_id, closed_at="now", reason="refunded")
            case 4:
                put(at, "first-scan", b"U%d" % number, **scan | {"order_id": f"U{number}"},
                    scanned_at=at)  # fmt: skip
            case 5:
                close = {"order_id": order_id, "closed_at": at, "reason": "cancelled"}
                put(at, "order-closed", key, **close)
                put(at + HOUR_MS, "order-closed", key, **close)
    return sorted(events)
