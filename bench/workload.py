"""The bench job: paid orders with uploads and first scans, and the exact answer.

500 000 orders give 1.49 million events: every order is paid and uploaded, 98 % are scanned, some
of them late. Values are about 100 bytes. The answer follows from how each order was made, without
any of the product's code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

HOUR_MS = 3_600_000
START_MS = 1_760_000_000_000
SPAN_MS = 7 * 24 * HOUR_MS
LIMIT_MS = 72 * HOUR_MS
LEADS_MS = (24 * HOUR_MS, 4 * HOUR_MS)
SHOPS = 2_000


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


def make(orders: int, seed: int = 7) -> tuple[list[list[Event]], Answer]:
    """Make the events of a job, one time-ordered list a topic, and its answer."""
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


def merged(topics: list[list[Event]]) -> Iterator[Event]:
    """All events, a topic after the other."""
    for events in topics:
        yield from events
