"""Records and rules no sender and no operator should make, from a seed.

`logs` draws what the auditor can judge. Here records have wrong keys or no value, identifiers what
they must not have, and rules are any. Most orders are usual ones all the same, and lie near each
other: what takes usual events in bulk must meet the odd ones among them.
"""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
from msgspec.structs import replace

from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.instants import NEVER_MS
from streams.core.rules.book import Rulebook
from streams.engine.records import InRecord
from tests.property.rulebooks import (
    CATEGORIES,
    LEVELS,
    PLATFORMS,
    draw_effect,
    draw_rulebook,
    draw_scope,
)
from tests.unit.samples import (
    DAY_MS,
    HOUR_MS,
    PLACED_AT,
    POLICY,
    closed,
    exemption,
    paid,
    rulebook_with,
    scan,
    upload,
)

MINUTE_MS = 60_000
SPAN_MS = 10 * DAY_MS
MODES = ("normal", "normal", "normal", "normal", "express", "stepped", "presale")
ORDER_IDS = ("O1", "O2", "O3", "O4", "订单", "Oé")
DELAYS_MS = (0, 0, 0, 1, HOUR_MS, 6 * HOUR_MS, DAY_MS, 3 * DAY_MS, 8 * DAY_MS)
Log = dict[str, list[InRecord]]


def draw_rules(rng: random.Random) -> Rulebook:
    """Return the default rules, or any."""
    grace = rng.choice((0, 0, 1, MINUTE_MS, HOUR_MS, 2 * DAY_MS))
    if rng.random() < 0.3:
        (policy,) = POLICY.policies
        return rulebook_with(processing=replace(policy.processing, grace=grace))
    return draw_rulebook(rng, grace)


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.odds = rng.choice((0.0, 0.1, 0.3, 0.6))
        self.made: list[tuple[str, int, bytes | None, bytes | None]] = []

    def odd(self, chance: float = 1.0) -> bool:
        return self.rng.random() < self.odds * chance

    def put(self, topic: str, at: int, value: dict[str, Any]) -> None:
        rng = self.rng
        order_id = value.get("order_id")
        key = None if order_id is None else order_id.encode()
        raw: bytes | None = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode()
        if self.odd(0.1):
            key = rng.choice((None, b"", b"\xff", *map(str.encode, ORDER_IDS)))
        if self.odd(0.05):
            raw = rng.choice(
                (None, b"", b"{}", b"{", b" %s" % raw, b"%s}" % raw, b"%s %s" % (raw, raw))
            )
        delay = rng.choice(DELAYS_MS) if self.odd(0.3) else 0
        early = rng.choice((0, 0, 5 * MINUTE_MS, 5 * MINUTE_MS + 1)) if self.odd(0.3) else 0
        for _ in range(2 if self.odd(0.2) else 1):
            self.made.append((topic, max(0, at + delay - early), key, raw))

    def order(self, order_id: str) -> None:
        rng = self.rng
        placed = PLACED_AT + rng.randrange(0, DAY_MS, HOUR_MS)
        pay = paid(order_id, placed_at=placed, paid_at=placed, shipping_mode=rng.choice(MODES))
        pay["shop_id"] = rng.choice(("S1", "S2"))
        for name, choices in (
            ("platform", (*PLATFORMS, "c")), ("shop_level", LEVELS), ("category", CATEGORIES),
            ("goods_amount", (200, 8_000)), ("agreed_ship_by", (placed + 30 * HOUR_MS,)),
            ("warehouse", ("W1",)),
        ):  # fmt: skip
            if rng.random() < 0.15:
                pay[name] = rng.choice(choices)
        if self.odd():
            pay |= rng.choice((
                {"product_ids": ["P1", "P1"]}, {"product_ids": ["P1", "P2"]}, {"shop_id": "S:1"},
                {"promised_ship_by": placed + 24 * HOUR_MS}, {"region": "CN-BJ"},
                {"paid_at": placed + 4 * MINUTE_MS}, {"paid_at": placed - 8 * DAY_MS},
                {"paid_at": placed + 6 * MINUTE_MS}, {"paid_at": 0}, {"placed_at": 0},
                {"placed_at": placed + 6 * MINUTE_MS}, {"placed_at": placed - 3 * DAY_MS},
                {"placed_at": placed - 10 * DAY_MS}, {"placed_at": NEVER_MS - 1},
            ))  # fmt: skip
        own = pay["paid_at"] if 0 < pay["paid_at"] <= placed else placed
        self.put("order-paid", own, pay)
        if self.odd(0.2):
            self.put("order-paid", own, pay | rng.choice(({}, {"shop_id": "S3"})))
        for make, topic, name in (
            (upload, "tracking-number-uploaded", "uploaded_at"),
            (scan, "first-scan", "scanned_at"),
        ):
            for _ in range(rng.choice((0, 2, 2)) if self.odd(0.4) else 1):
                after = rng.choice((1, 10, 60, 3 * 60, 6 * 60, 36 * 60, 72 * 60)) * MINUTE_MS
                early = rng.choice((0, 1, HOUR_MS, 90 * DAY_MS)) if self.odd(0.3) else 0
                at = placed + after - early
                value = make(order_id, **{name: at})
                if self.odd(0.2):
                    value |= {"tracking_number": rng.choice(("T2", "T:3"))}
                if topic != "first-scan" and self.odd(0.2):
                    value |= {"replaces": "T0"}
                if self.odd(0.05):
                    value |= {name: rng.choice((0, at + 6 * MINUTE_MS, NEVER_MS))}
                self.put(topic, at, value)
        if self.odd(0.4):
            at = placed + rng.choice((1, 2, 12, 72, 240)) * HOUR_MS
            self.put("order-closed", at, closed(order_id, closed_at=at))

    def exempt(self, number: int) -> None:
        rng = self.rng
        at = PLACED_AT + rng.randrange(0, 2 * DAY_MS, HOUR_MS)
        granted = exemption(f"X{number}", granted_at=at)
        granted["scope"] = msgspec.to_builtins(draw_scope(rng))
        granted["effect"] = msgspec.to_builtins(draw_effect(rng))
        self.put("exemption-granted", at, granted)


def draw_log(rng: random.Random) -> Log:
    """Return the records of one partition, by topic."""
    maker = _Maker(rng)
    for order_id in rng.sample(ORDER_IDS, rng.randrange(1, len(ORDER_IDS) + 1)):
        maker.order(order_id)
    for number in range(rng.choice((0, 0, 0, 1, 2))):
        maker.exempt(number)
    rng.shuffle(maker.made)
    if not maker.odd(0.3):
        maker.made.sort(key=lambda made: made[1])
    log: Log = {topic: [] for topic in INPUT_TOPICS}
    for topic, at, key, raw in maker.made:
        log[topic].append(InRecord(len(log[topic]), at, key, raw))
    return log
