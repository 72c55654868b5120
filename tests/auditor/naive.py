"""Judge a finished event log without streaming: collect the accepted facts, then recompute all.

Nothing here is shared with the product, the constants of `douyin-first-scan` included: two
independent readings of `docs/rules.md` have to meet. An event is a line of `shipclock simulate`
as a dict; the list is the arrival order. The answer is what must stand when every timer has fired.

The auditor never forgets an order. A log in which the product may have forgotten one before a
record about it arrives is out of its scope: `Audit.forgettable` names such lines, and generated
logs leave them out.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

Event = dict[str, Any]
Value = dict[str, Any]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

KIND = "late-scan"
LIMIT_AFTER_PLACED_MS = 72 * HOUR_MS
LIMIT_AFTER_UPLOAD_MS = 24 * HOUR_MS
REPEAT_MS = 24 * HOUR_MS
OCCURRENCES = (1, 2, 3)
WARNING_LEADS_MS = (24 * HOUR_MS, 4 * HOUR_MS)
CLOSURE_MS = 150 * DAY_MS
ZONE = ZoneInfo("Asia/Shanghai")
POINTS_PER_WEEK = 20
CHARGES_PER_ORDER = 2
CHARGES_PER_SHOP_DAY = 50
CHARGE_FEN = 1000
BANNED_ABOVE = 2
FUTURE_MS = 5 * MINUTE_MS
FLOOR_MS = 1_262_304_000_000
FACT_WAITS_MS = 30 * DAY_MS
LATE_PAYMENT_MS = 7 * DAY_MS
KEEP_QUIET_MS = 7 * DAY_MS
KEEP_VIOLATED_MS = 90 * DAY_MS

RANK = {
    "order-paid": 0,
    "tracking-number-uploaded": 1,
    "first-scan": 2,
    "order-closed": 3,
    "exemption-granted": 4,
    "appeal-decided": 5,
    "refund-failed": 6,
}
OWN_TIME = {
    "order-paid": "paid_at",
    "tracking-number-uploaded": "uploaded_at",
    "first-scan": "scanned_at",
    "order-closed": "closed_at",
    "exemption-granted": "granted_at",
    "appeal-decided": "decided_at",
    "refund-failed": "failed_at",
}
REQUIRED = {
    "order-paid": (
        "order_id shop_id product_ids shipping_mode placed_at paid_at paid_amount".split()
    ),
    "tracking-number-uploaded": "order_id tracking_number carrier uploaded_at".split(),
    "first-scan": "order_id tracking_number carrier scanned_at".split(),
    "order-closed": "order_id closed_at reason".split(),
    "exemption-granted": "exemption_id source granted_at effect scope".split(),
    "appeal-decided": "appeal_id violation_id order_id outcome decided_at".split(),
    "refund-failed": "order_id failed_at".split(),
}
OPTIONAL = {
    "order-paid": "currency region ship_from_region promised_ship_by".split(),
    "tracking-number-uploaded": ["replaces"],
    "exemption-granted": ["kinds"],
}
IDENTIFIERS = "order_id shop_id tracking_number exemption_id".split()
CHOICES = {
    "shipping_mode": {"normal", "express", "stepped", "presale"},
    "reason": {"refund-agreed", "refunded", "cancelled"},
    "source": {"platform", "report"},
    "outcome": {"granted", "rejected"},
}


class Record(NamedTuple):
    """One record of one topic partition; `line` is the index of the event it came from."""

    effective: int
    rank: int
    offset: int
    topic: str
    partition: int
    timestamp: int
    value: Any
    line: int


@dataclass
class Order:
    """What is known of one order: its `order-paid` value and the facts about it.

    A fact is (topic, known_at, value, waited): `known_at` is the log time at which the fact and the
    order were both there, `waited` tells that the fact came first.
    """

    paid: Value
    paid_effective: int
    partition: int
    facts: list[tuple[str, int, Value, bool]] = field(default_factory=list)

    def earliest(self, topic: str, until: int | None = None) -> int | None:
        """Return the earliest own time among the facts of `topic` known at `until` (None: all)."""
        times = [
            value[OWN_TIME[topic]]
            for fact_topic, known_at, value, _ in self.facts
            if fact_topic == topic and (until is None or known_at <= until)
        ]
        return min(times, default=None)

    def appealed(self, violation_id: str) -> bool:
        """Tell whether an appeal for `violation_id` was granted."""
        return any(
            topic == "appeal-decided"
            and value["outcome"] == "granted"
            and value["violation_id"] == violation_id
            for topic, _, value, _ in self.facts
        )


class Refusal(NamedTuple):
    """A dead letter: why, and which record."""

    reason: str
    topic: str
    partition: int
    offset: int


@dataclass
class Audit:
    """The judgement of one log."""

    standing: dict[str, dict[str, int]] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)
    bans: list[dict[str, str]] = field(default_factory=list)
    closures: list[dict[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, int, int]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    forgettable: set[int] = field(default_factory=set)

    def what_stands(self) -> dict[str, Any]:
        """Return the four parts a scenario file expects."""
        return {
            "standing": self.standing,
            "journal": self.journal,
            "bans": self.bans,
            "closures": self.closures,
        }


def judge(events: list[Event]) -> dict[str, Any]:
    """Return what must stand after `events` and every timer: standing, journal, bans, closures."""
    return audit(events).what_stands()


def audit(events: list[Event]) -> Audit:
    """Judge `events` in full: what stands, the warnings given, the records refused."""
    result = Audit()
    shops: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    banned: set[tuple[str, str]] = set()
    for records in by_partition(events).values():
        orders, exemptions = accept(records, result)
        for order_id, order in sorted(orders.items()):
            standing = determinations(order, [value for _, value in exemptions])
            result.standing.update(standing)
            shop_id = order.paid["shop_id"]
            for violation_id, times in standing.items():
                shops[shop_id].append((times["determined_at"], violation_id, order_id))
            if len(standing) > BANNED_ABOVE:
                banned |= {(shop_id, product_id) for product_id in order.paid["product_ids"]}
            result.closures += [
                {"order_id": order_id, "path": path} for path in closure_paths(order)
            ]
            result.warnings += [
                (order_id, warned_at, lead) for warned_at, lead in warnings(order, exemptions)
            ]
    for determined in shops.values():
        result.journal += allocate(determined)
    result.bans = [{"shop_id": shop_id, "product_id": product} for shop_id, product in banned]
    for part in (result.journal, result.bans, result.closures):
        part.sort(key=lambda entry: sorted(entry.items()))
    result.warnings.sort()
    result.refusals.sort()
    return result


# --- the log --------------------------------------------------------------------------------------


def by_partition(events: list[Event]) -> dict[int, list[Record]]:
    """Lay the lines out as the sequence of records each partition processes."""
    partitions: set[int] = set()
    order_partition: dict[str, int] = {}
    for event in events:
        if "partition" not in event and event["topic"] == "exemption-granted":
            continue
        partitions.add(event.get("partition", 0))
        match event.get("value"):
            case {"order_id": str(order_id)}:
                order_partition[order_id] = event.get("partition", 0)

    running: dict[tuple[str, int], int] = {}
    offsets: Counter[tuple[str, int]] = Counter()
    sequences: dict[int, list[Record]] = defaultdict(list)
    for line, event in enumerate(events):
        topic: str = event["topic"]
        value: Any = event.get("value")
        timestamp = event["timestamp"] if "timestamp" in event else value[OWN_TIME[topic]]
        if topic == "exemption-granted" and "partition" not in event:
            targets = partitions or {0}
            if isinstance(value, dict) and "order_ids" in value["scope"]:
                ids = value["scope"]["order_ids"]
                targets = {order_partition[id_] for id_ in ids if id_ in order_partition}
                targets = targets or {min(partitions, default=0)}
        else:
            targets = {event.get("partition", 0)}
        for partition in sorted(targets):
            place = topic, partition
            running[place] = max(running.get(place, timestamp), timestamp)
            sequences[partition].append(
                Record(
                    effective=running[place],
                    rank=RANK[topic],
                    offset=offsets[place],
                    topic=topic,
                    partition=partition,
                    timestamp=timestamp,
                    value=value if "value" in event else event["raw"],
                    line=line,
                )
            )
            offsets[place] += 1
    return {p: sorted(seq, key=lambda r: r[:3]) for p, seq in sorted(sequences.items())}


def fault(record: Record) -> str | None:
    """Return why the record is refused whatever else is known, or None."""
    value = record.value
    if isinstance(value, str):
        return "malformed"
    if not isinstance(value, dict) or not has_shape(record.topic, value):
        return "schema"
    times = [value[OWN_TIME[record.topic]]]
    if record.topic == "order-paid":
        times.append(value["placed_at"])
    if min(times) < FLOOR_MS:
        return "invalid"
    if record.topic == "appeal-decided":
        order_id, _, rest = value["violation_id"].partition(":")
        if order_id != value["order_id"] or rest.count(":") != 1:
            return "invalid"
    if max(times) > record.timestamp + FUTURE_MS:
        return "time-in-future"
    return None


def has_shape(topic: str, value: Value) -> bool:
    """Tell whether the fields the auditor relies on are there and of their type."""
    if any(name not in value for name in REQUIRED[topic]):
        return False
    for name in IDENTIFIERS:
        if name in value and name in REQUIRED[topic] and not is_identifier(value[name]):
            return False
    for name, allowed in CHOICES.items():
        if name in REQUIRED[topic] and value[name] not in allowed:
            return False
    if topic == "order-paid":
        products = value["product_ids"]
        if not isinstance(products, list) or not products:
            return False
        if not all(map(is_identifier, products)) or len(set(products)) < len(products):
            return False
        if not is_integer(value["placed_at"]) or not is_integer(value["paid_amount"]):
            return False
    return is_integer(value[OWN_TIME[topic]])


def is_identifier(value: Any) -> bool:
    """Tell whether `value` may be an identifier."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 128
        and ":" not in value
        and all(ord(char) >= 32 for char in value)
    )


def is_integer(value: Any) -> bool:
    """Tell whether `value` is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def content(topic: str, value: Value) -> str:
    """Return the value as comparable text: known fields only, defaults filled in."""
    known = {name: value.get(name) for name in REQUIRED[topic] + OPTIONAL.get(topic, [])}
    if topic == "order-paid":
        known["currency"] = value.get("currency", "CNY")
    if topic == "exemption-granted":
        known["kinds"] = value.get("kinds") or []
    return json.dumps(known, sort_keys=True)


# --- acceptance -----------------------------------------------------------------------------------


def accept(
    records: list[Record], result: Audit
) -> tuple[dict[str, Order], list[tuple[int, Value]]]:
    """Sort a partition's records into orders and (effective, exemption) pairs; note refusals."""
    orders: dict[str, Order] = {}
    exemptions: dict[str, tuple[int, Value]] = {}
    waiting: dict[str, list[Record]] = defaultdict(list)
    last_seen: dict[str, int] = {}

    def refuse(record: Record, reason: str) -> None:
        place = record.topic, record.partition, record.offset
        result.refusals.append(Refusal(reason, *place))

    def still_waiting(order_id: str, now: int) -> list[Record]:
        kept = []
        for waiter in waiting[order_id]:
            if now > waiter.effective + FACT_WAITS_MS:
                refuse(waiter, "no-order")
            else:
                kept.append(waiter)
        waiting[order_id] = kept
        return kept

    for record in records:
        topic, value = record.topic, record.value
        reason = fault(record)
        if reason is not None:
            refuse(record, reason)
            continue
        if topic == "exemption-granted":
            first = exemptions.setdefault(value["exemption_id"], (record.effective, value))[1]
            if content(topic, first) != content(topic, value):
                refuse(record, "conflict")
            continue
        order_id = value["order_id"]
        order = orders.get(order_id)
        if order is None:
            waiters = still_waiting(order_id, record.effective)
            if any(
                waiter.topic == topic and content(topic, waiter.value) == content(topic, value)
                for waiter in waiters
            ):
                continue
            oldest = LATE_PAYMENT_MS if topic == "order-paid" else FACT_WAITS_MS
            if value[OWN_TIME[topic]] < record.effective - oldest:
                refuse(record, "too-late")
            elif topic == "order-paid":
                order = orders[order_id] = Order(value, record.effective, record.partition)
                for waiter in waiters:
                    order.facts.append((waiter.topic, record.effective, waiter.value, True))
                del waiting[order_id]
                last_seen[order_id] = record.effective
            else:
                waiting[order_id].append(record)
            continue
        if not remembered(order, list(exemptions.values()), last_seen[order_id], record.effective):
            result.forgettable.add(record.line)
        same = content(topic, value)
        if topic == "order-paid":
            if content(topic, order.paid) != same:
                refuse(record, "conflict")
        elif all(
            known_topic != topic or content(topic, known) != same
            for known_topic, _, known, _ in order.facts
        ):
            order.facts.append((topic, record.effective, value, False))
            last_seen[order_id] = record.effective
    last = max((record.effective for record in records), default=0)
    for order_id in list(waiting):
        still_waiting(order_id, last)
    return orders, list(exemptions.values())


def remembered(order: Order, exemptions: list[tuple[int, Value]], last_seen: int, now: int) -> bool:
    """Tell whether the product surely still knows `order` at log time `now`."""
    if now <= last_seen + KEEP_QUIET_MS:
        return True
    if not shipped_or_closed(order):
        kept_until: int = order.paid["placed_at"] + CLOSURE_MS + KEEP_VIOLATED_MS
        return now <= kept_until
    due = [
        {times["determined_at"] for times in determinations(order, some).values()}
        for some in (known(exemptions, last_seen), known(exemptions, now))
    ]
    return all(
        any(at <= last_seen + KEEP_QUIET_MS for at in dues) and now <= min(dues) + KEEP_VIOLATED_MS
        for dues in due
    )


# --- one order ------------------------------------------------------------------------------------


def clock_start(order: Order, until: int | None = None) -> int | None:
    """Return when the order's clock starts, by the facts known at `until`."""
    if order.paid["shipping_mode"] in ("normal", "presale"):
        return int(order.paid["placed_at"])
    return order.earliest("tracking-number-uploaded", until)


def deadline_and_waiver(
    order: Order, exemptions: list[Value], until: int | None = None
) -> tuple[int | None, bool]:
    """Return the order's deadline after all exemptions, and whether one waives the violation."""
    mode = order.paid["shipping_mode"]
    start = clock_start(order, until)
    if mode == "normal":
        before: int | None = order.paid["placed_at"] + LIMIT_AFTER_PLACED_MS
    elif mode == "presale":
        before = order.paid.get("promised_ship_by")
    else:
        before = None if start is None else start + LIMIT_AFTER_UPLOAD_MS
    deadline, waived = before, False
    for exemption in sorted(exemptions, key=lambda x: (x["granted_at"], x["exemption_id"])):
        kinds = exemption.get("kinds") or [KIND]
        if KIND not in kinds or not in_scope(exemption["scope"], order.paid, before):
            continue
        effect = exemption["effect"]
        if "waive" in effect:
            waived = True
        elif deadline is not None and "extend_to" in effect:
            deadline = max(deadline, effect["extend_to"])
        elif deadline is not None:
            deadline += effect["extend_by"]
    return deadline, waived


def in_scope(scope: Value, paid: Value, deadline: int | None) -> bool:
    """Tell whether every given field of `scope` matches the order."""
    members = {
        "order_ids": paid["order_id"],
        "shop_ids": paid["shop_id"],
        "regions": paid.get("region"),
        "ship_from_regions": paid.get("ship_from_region"),
        "shipping_modes": paid["shipping_mode"],
    }
    for name, actual in members.items():
        if name in scope and (actual is None or actual not in scope[name]):
            return False
    for prefix, instant in (("paid", paid["paid_at"]), ("deadline", deadline)):
        if f"{prefix}_from" in scope and (instant is None or instant < scope[f"{prefix}_from"]):
            return False
        if f"{prefix}_until" in scope and (instant is None or instant > scope[f"{prefix}_until"]):
            return False
    return True


def determinations(order: Order, exemptions: list[Value]) -> dict[str, dict[str, int]]:
    """Return the violations of `order` that hold, by violation_id."""
    deadline, waived = deadline_and_waiver(order, exemptions)
    if deadline is None or waived:
        return {}
    scanned, closed = order.earliest("first-scan"), order.earliest("order-closed")
    holding = {}
    for n in OCCURRENCES:
        due = deadline + (n - 1) * REPEAT_MS
        violation_id = f"{order.paid['order_id']}:{KIND}:{n}"
        if scanned is not None and scanned < due:
            continue
        if closed is not None and closed < due:
            continue
        if not order.appealed(violation_id):
            holding[violation_id] = {"deadline": deadline, "determined_at": due}
    return holding


def shipped_or_closed(order: Order, until: int | None = None) -> bool:
    """Tell whether a fact that cancels the closure is known at `until`."""
    close_at = order.paid["placed_at"] + CLOSURE_MS
    times = (
        order.earliest(topic, until)
        for topic in ("tracking-number-uploaded", "first-scan", "order-closed")
    )
    return any(time is not None and time < close_at for time in times)


def closure_paths(order: Order) -> list[str]:
    """Return the paths of the order's closure records: one emitted is not taken back."""
    close_at = order.paid["placed_at"] + CLOSURE_MS
    if order.paid_effective > close_at:
        waited = [fact for fact in order.facts if fact[3]]
        prevented = shipped_or_closed(Order(order.paid, order.paid_effective, 0, waited))
    else:
        prevented = shipped_or_closed(order, close_at)
    if prevented:
        return []
    failed = order.earliest("refund-failed") is not None
    return ["original", "alternative"] if failed else ["original"]


def warnings(order: Order, exemptions: list[tuple[int, Value]]) -> list[tuple[int, int]]:
    """Return (warned_at, lead) of every warning: right when log time came to the instant."""
    changes = {order.paid_effective, *(known_at for _, known_at, _, _ in order.facts)}
    changes |= {max(effective, order.paid_effective) for effective, _ in exemptions}
    given = set()
    for change in changes:
        for lead in WARNING_LEADS_MS:
            deadline, _ = deadline_and_waiver(order, known(exemptions, change), change)
            if deadline is None or deadline - lead < order.paid_effective:
                continue
            instant = deadline - lead
            if right_to_warn(order, known(exemptions, instant), instant, deadline):
                given.add((instant, lead))
    return sorted(given)


def right_to_warn(order: Order, exemptions: list[Value], instant: int, deadline: int) -> bool:
    """Tell whether the facts known at `instant` ask for a warning then about `deadline`."""
    current, waived = deadline_and_waiver(order, exemptions, instant)
    start = clock_start(order, instant)
    if current != deadline or waived or start is None or instant <= start:
        return False
    ends = (order.earliest(topic, instant) for topic in ("first-scan", "order-closed"))
    return not any(end is not None and end < instant for end in ends)


def known(exemptions: list[tuple[int, Value]], until: int) -> list[Value]:
    """Return the exemptions known at log time `until`."""
    return [value for effective, value in exemptions if effective <= until]


# --- one shop -------------------------------------------------------------------------------------


def local_day(instant_ms: int) -> date:
    """Return the policy zone's calendar day of an instant."""
    return datetime.fromtimestamp(instant_ms // 1000, ZONE).date()


def allocate(determined: list[tuple[int, str, str]]) -> list[dict[str, Any]]:
    """Charge one shop's standing (determined_at, violation_id, order_id) within the caps."""
    week_points: Counter[date] = Counter()
    day_charges: Counter[date] = Counter()
    order_charges: Counter[str] = Counter()
    journal = []
    for determined_at, violation_id, order_id in sorted(determined):
        day = local_day(determined_at)
        monday = day - timedelta(days=day.weekday())
        entry = {"violation_id": violation_id, "day": day.isoformat()}
        if week_points[monday] < POINTS_PER_WEEK:
            week_points[monday] += 1
            journal.append({**entry, "account": "points", "unit": "tenth-point:B", "amount": 1})
        if order_charges[order_id] < CHARGES_PER_ORDER and day_charges[day] < CHARGES_PER_SHOP_DAY:
            order_charges[order_id] += 1
            day_charges[day] += 1
            journal.append({**entry, "account": "deposit", "unit": "CNY", "amount": CHARGE_FEN})
    return journal
