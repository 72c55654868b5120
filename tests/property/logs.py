"""Small nasty event logs from a seed.

The same seed gives the same log. Instants lie on a coarse grid, now and then a millisecond beside
it, so that deadlines, scans, closes and record timestamps meet exactly. In some logs the records of
a whole day come at one instant. Own times are up to weeks older than the records, records come out
of order, some twice, some contradict others and some are nonsense.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable

from tests.auditor.naive import DAY_MS, HOUR_MS, MINUTE_MS, OWN_TIME, Event, Value, audit

MONDAY_MS = 1_670_169_600_000  # 2022-12-05 00:00:00 +08:00
SHOPS = ("S1", "S2")
REGIONS = ("CN-BJ", "CN-XJ", None)
MODES = ("normal", "normal", "express", "stepped", "presale")
DELAYS_MS = (0, 0, 0, 1, HOUR_MS, 12 * HOUR_MS, DAY_MS, 3 * DAY_MS, 6 * DAY_MS)
LONG_DELAYS_MS = (
    *DELAYS_MS, 7 * DAY_MS, 7 * DAY_MS + 1, 20 * DAY_MS, 30 * DAY_MS, 30 * DAY_MS + 1,
)  # fmt: skip


def lines_of(events: Iterable[Event]) -> list[bytes]:
    """Return the events as lines of a `simulate` file."""
    return [json.dumps(event).encode() for event in events]


def make_log(seed: int) -> list[Event]:
    """Return the log of `seed`, in arrival order, within what the auditor can judge."""
    return judgeable(arrange(random.Random(seed), LogMaker(random.Random(seed)).make()))


def judgeable(events: list[Event]) -> list[Event]:
    """Leave out the lines about orders the product may have forgotten by then."""
    while dropped := audit(events).forgettable:
        events = [event for line, event in enumerate(events) if line not in dropped]
    return events


def arrange(rng: random.Random, events: list[Event]) -> list[Event]:
    """Put the events in an arrival order: by time, nearly so, by topic, or none at all."""
    events = list(events)
    rng.shuffle(events)
    way = rng.choice(("time", "time", "nearly", "topic", "none"))
    if way == "topic":
        events.sort(key=lambda event: (event["topic"], event.get("timestamp", 0)))
    elif way != "none":
        events.sort(key=lambda event: event.get("timestamp", MONDAY_MS))
    if way == "nearly":
        for _ in range(len(events) // 3):
            i = rng.randrange(len(events))
            j = min(len(events) - 1, i + rng.randrange(1, 4))
            events[i], events[j] = events[j], events[i]
    return events


def interleave(rng: random.Random, events: list[Event]) -> list[Event]:
    """Reorder the lines, but keep the order within each topic."""
    queues: dict[str, list[Event]] = {}
    for event in reversed(events):
        queues.setdefault(event["topic"], []).append(event)
    merged = []
    while queues:
        topic = rng.choice(sorted(queues))
        merged.append(queues[topic].pop())
        if not queues[topic]:
            del queues[topic]
    return merged


class LogMaker:
    """Draws the events of one log; `make` is called once."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.profile = rng.choice(("short", "short", "long", "long", "crowd", "closure"))
        self.partitions = rng.choice((1, 1, 2, 3))
        self.delays = DELAYS_MS if self.profile in ("short", "crowd") else LONG_DELAYS_MS
        self.together = self.chance(0.3)
        self.events: list[Event] = []

    def make(self) -> list[Event]:
        """Return the events of a log, in no particular order."""
        if self.profile == "crowd":
            orders = [f"O{i:02}" for i in range(self.rng.randrange(45, 62))]
        else:
            orders = [f"O{i}" for i in range(self.rng.randrange(1, 9))]
        for index, order_id in enumerate(orders):
            self.order(order_id, index)
        for number in range(self.rng.choice((0, 1, 1, 2, 3))):
            self.exemption(f"X{number}", orders)
        self.trouble(orders)
        return self.events

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def nudge(self, instant: int) -> int:
        """Move an instant a millisecond, now and then."""
        return instant + self.rng.choice((0, 0, 0, 0, 0, -1, 1))

    def put(
        self, topic: str, value: Value, partition: int | None, delay: int | None = None
    ) -> None:
        own = value[OWN_TIME[topic]]
        event: Event = {"topic": topic}
        if delay is None:
            delay = self.rng.choice(self.delays)
            if self.chance(0.05):
                delay = -5 * MINUTE_MS - self.rng.choice((0, 0, 1))
        if self.together:
            event["timestamp"] = -(-(own + delay) // DAY_MS) * DAY_MS
        elif delay or self.chance(0.5):
            event["timestamp"] = own + delay
        if partition is not None and (partition or self.chance(0.5)):
            event["partition"] = partition
        event["value"] = value
        self.events.append(event)

    def order(self, order_id: str, index: int) -> None:
        """Draw one order and its facts; in a crowd most orders are late once on one day."""
        rng, crowd = self.rng, self.profile == "crowd"
        partition = index % self.partitions
        if crowd:
            placed = MONDAY_MS + index * 1000
        else:
            placed = self.nudge(MONDAY_MS + 6 * HOUR_MS * rng.randrange(16))
            if self.profile != "short":
                placed += DAY_MS * rng.choice((0, 0, 5, 9, 20))
        mode = "normal" if crowd and not self.chance(0.1) else rng.choice(MODES)
        if self.profile == "closure" and self.chance(0.5):
            mode = rng.choice(("stepped", "presale", "normal"))
        paid: Value = {
            "order_id": order_id,
            "shop_id": SHOPS[0] if crowd or self.chance(0.7) else SHOPS[1],
            "product_ids": rng.sample(("P1", "P2", "P3"), rng.choice((1, 1, 2))),
            "shipping_mode": mode,
            "placed_at": placed,
            "paid_at": placed + rng.choice((0, MINUTE_MS, HOUR_MS)),
            "paid_amount": rng.randrange(1, 100_000),
        }
        for name in ("region", "ship_from_region"):
            if (region := rng.choice(REGIONS)) is not None:
                paid[name] = region
        if mode == "presale" and self.chance(0.7):
            paid["promised_ship_by"] = self.nudge(placed + DAY_MS * rng.randrange(1, 8))
        if self.chance(0.95):
            self.put("order-paid", paid, partition, None if self.chance(0.2) else 0)
        self.facts(paid, partition, upload=0.2 if self.profile == "closure" else 0.6)

    def facts(self, paid: Value, partition: int, upload: float) -> None:
        """Draw what happens to an order: own times meet deadlines and due times on purpose."""
        rng, order_id, placed = self.rng, paid["order_id"], paid["placed_at"]
        starts = [placed]
        for number in range(rng.choice((1, 1, 2)) if self.chance(upload) else 0):
            at = self.nudge(placed + 6 * HOUR_MS * rng.randrange(1, 12))
            starts.append(at)
            value = {"order_id": order_id, "uploaded_at": at}
            value |= {"tracking_number": f"T{number}", "carrier": "SF"}
            self.put("tracking-number-uploaded", value, partition)
        critical = [start + DAY_MS * days for start in starts for days in range(1, 7)]
        critical += [start + 6 * HOUR_MS * rng.randrange(1, 24) for start in starts]
        if "promised_ship_by" in paid:
            critical += [paid["promised_ship_by"] + DAY_MS * days for days in (0, 1, 2)]
        crowd = self.profile == "crowd"
        if crowd:
            critical = [placed + 74 * HOUR_MS] * 8 + critical
        scans = rng.choice((1, 1, 2)) if self.chance(0.9 if crowd else upload) else 0
        for _ in range(scans):
            value = {"order_id": order_id, "scanned_at": self.nudge(rng.choice(critical))}
            value |= {"tracking_number": f"T{rng.randrange(2)}", "carrier": "SF"}
            self.put("first-scan", value, partition)
        if self.chance(0.05 if crowd else 0.2):
            value = {"order_id": order_id, "closed_at": self.nudge(rng.choice(critical))}
            value["reason"] = rng.choice(("refund-agreed", "refunded", "cancelled"))
            self.put("order-closed", value, partition)
        for number in range(rng.choice((1, 1, 2)) if self.chance(0.05 if crowd else 0.25) else 0):
            value = {
                "appeal_id": f"A{number}",
                "violation_id": f"{order_id}:late-scan:{rng.choice((1, 2, 3))}",
                "order_id": order_id,
                "outcome": rng.choice(("granted", "granted", "rejected")),
                "decided_at": rng.choice(critical),
            }
            if self.chance(0.1):
                value["violation_id"] = f"{order_id}x:late-scan:1"
            self.put("appeal-decided", value, partition)
        if self.profile == "closure":
            self.closure_facts(order_id, placed, partition)
        elif self.chance(0.1):
            failed_at = rng.choice(critical)
            self.put("refund-failed", {"order_id": order_id, "failed_at": failed_at}, partition)

    def closure_facts(self, order_id: str, placed: int, partition: int) -> None:
        """Draw records around the day of the closure."""
        rng, close_at = self.rng, placed + 150 * DAY_MS
        for _ in range(rng.choice((0, 1, 1, 2))):
            arrives = close_at + rng.choice((-DAY_MS, -1, 0, 1, DAY_MS))
            at = min(arrives, rng.choice((placed + DAY_MS, close_at - 1, close_at, arrives)))
            topic = rng.choice(("tracking-number-uploaded", "first-scan", "order-closed"))
            value: Value = {"order_id": order_id, OWN_TIME[topic]: at}
            if topic == "order-closed":
                value["reason"] = "cancelled"
            else:
                value |= {"tracking_number": "T9", "carrier": "YTO"}
            self.put(topic, value, partition, arrives - at)
        for _ in range(rng.choice((0, 1, 2))):
            at = rng.choice((placed + DAY_MS, close_at, close_at + DAY_MS))
            self.put("refund-failed", {"order_id": order_id, "failed_at": at}, partition)

    def exemption(self, exemption_id: str, orders: list[str]) -> None:
        rng = self.rng
        granted_at = MONDAY_MS + 6 * HOUR_MS * rng.randrange(0, 40)
        days = DAY_MS * rng.randrange(1, 8)
        effect = rng.choice(
            (
                {"waive": True},
                {"extend_to": self.nudge(MONDAY_MS + 3 * DAY_MS + days)},
                {"extend_by": rng.choice((1, 12 * HOUR_MS, days))},
            )
        )
        edge = self.nudge(MONDAY_MS + 6 * HOUR_MS * rng.randrange(16))
        limit = edge + rng.choice((1, 3)) * DAY_MS
        scopes: list[Value] = [
            {},
            {"order_ids": rng.sample(orders, rng.randrange(min(4, len(orders)) + 1))},
            {"shop_ids": [rng.choice(SHOPS)]},
            {"regions": rng.choice(([], ["CN-BJ"], ["CN-BJ", "CN-XJ"]))},
            {"ship_from_regions": ["CN-XJ"]},
            {"shipping_modes": rng.choice((["normal"], ["express", "stepped"]))},
            {"paid_from": edge},
            {"paid_until": edge},
            {"deadline_from": limit},
            {"deadline_until": limit},
        ]
        scope: Value = {}
        for part in rng.sample(scopes, rng.choice((1, 1, 2))):
            scope |= part
        value: Value = {
            "exemption_id": exemption_id,
            "source": rng.choice(("platform", "report")),
            "granted_at": granted_at,
            "effect": effect,
            "scope": scope,
        }
        if self.chance(0.3):
            value["kinds"] = rng.choice(([], ["late-scan"], ["late-ship"]))
        partition = rng.randrange(self.partitions) if self.chance(0.2) else None
        self.put("exemption-granted", value, partition)

    def trouble(self, orders: list[str]) -> None:
        """Add duplicates, conflicts and nonsense."""
        rng = self.rng
        for event in rng.sample(self.events, min(len(self.events), rng.randrange(4))):
            again = copy.deepcopy(event)
            own = again["value"][OWN_TIME[again["topic"]]]
            again["timestamp"] = again.get("timestamp", own) + rng.choice(self.delays)
            if self.chance(0.3):
                if again["topic"] == "order-paid":
                    again["value"]["shop_id"] = "S3"
                elif again["topic"] == "exemption-granted":
                    again["value"]["effect"] = {"extend_by": 5 * HOUR_MS}
            if self.chance(0.3):
                again["value"]["comment"] = "a field nobody knows"
            self.events.append(again)
        for _ in range(rng.choice((0, 0, 1, 2))):
            index = rng.randrange(len(orders))
            value: Value = {"order_id": orders[index], "carrier": "SF", "tracking_number": "T0"}
            sentinel = value | {"scanned_at": 946_656_000_000}
            ahead = value | {"scanned_at": MONDAY_MS + 6 * DAY_MS}
            nonsense: list[Value] = [
                {"raw": "{not json"},
                {"value": value},
                {"value": sentinel},
                {"value": ahead},
                {"value": value | {"scanned_at": "yesterday"}},
            ]
            event = {"topic": "first-scan", "timestamp": MONDAY_MS + DAY_MS * rng.randrange(6)}
            event |= {"partition": index % self.partitions} | rng.choice(nonsense)
            self.events.append(event)
