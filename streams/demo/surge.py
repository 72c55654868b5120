"""The demo's events: a sale and the six days after it, from a seed.

The same arguments give the same records, byte for byte. Times are those of the story; each record's
timestamp is the instant at which it reaches the log, so a scan may arrive long after it was made.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from msgspec import Struct

from streams.codec.encode import encode_value
from streams.core.facts.events import (
    AppealDecided,
    Effect,
    ExemptionGranted,
    FirstScan,
    OrderClosed,
    OrderPaid,
    Scope,
    TrackingNumberUploaded,
)
from streams.core.facts.inputs import (
    APPEAL_DECIDED,
    EXEMPTION_GRANTED,
    FIRST_SCAN,
    INPUT_TOPICS,
    ORDER_CLOSED,
    ORDER_PAID,
    TRACKING_NUMBER_UPLOADED,
)
from streams.demo.cast import CROWD, DOWN, GOURMET, LAMPS, LOTUS, PHONES, SILK, Shop

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000

OPENS_MS = 1_670_774_400_000
"""Monday 2022-12-12 00:00 in Shanghai: the sale opens, and a week of points begins."""
START_MS = OPENS_MS - 2 * HOUR_MS
END_MS = OPENS_MS + 150 * HOUR_MS
"""Sunday morning: every order of the sale that nobody shipped has been judged three times."""

ORDERS_MIN = 200
ORDERS_MAX = 20_000

# How busy each hour is, from two before the opening on: midnight, lunch, and the last evening.
_HOURS = (4, 6, 100, 60, 25, 10, 5, 4, 4, 8, 12, 15, 20, 22, 25, 20, 15, 15, 15, 18, 25, 35, 45, 40)
_REGIONS = ("CN-SH", "CN-GD", "CN-ZJ", "CN-JS", "CN-SC", "CN-BJ")
_CARRIERS = ("Crane Express", "Panda Post", "River Line")
_SNAIL = "Snail Post"
_SNOW_REGION = "CN-BJ"
_ITEMS = 8
# Of a shop with a story, the first orders are told of.
_TOLD_MAX = 2


class Record(NamedTuple):
    """A record to send; `story` tells a person what it means, empty for the many.

    An `exemption-granted` goes to every partition, any other record to the one of its key. Records
    that are no fact about an order have no order_id here.
    """

    at_ms: int
    topic: str
    key: bytes
    value: bytes
    order_id: str = ""
    word: str = ""
    story: str = ""


@dataclass(frozen=True, slots=True)
class Surge:
    """All records in the order they are sent, and what can be said of them beforehand."""

    records: tuple[Record, ...]
    shops: dict[str, Shop]
    shop_of: dict[str, str]
    """By order_id."""
    spoilt: int
    """Records made to become dead letters."""


@dataclass(slots=True)
class _Plan:
    """What will happen to one order; instants are epoch milliseconds."""

    shop: Shop
    product: str
    mode: str
    placed_at: int
    region: str
    carrier: str
    uploaded_at: int | None = None
    scanned_at: int | None = None
    scan_reported_at: int | None = None
    closed_at: int | None = None
    promised_ship_by: int | None = None
    appeal: tuple[str, int, str] | None = None
    scan_story: str = ""
    order_id: str = field(default="", init=False)


def make_surge(orders: int, seed: int) -> Surge:
    """Make up a sale of that many orders, those of the shops with a story included."""
    rng = random.Random(seed)
    plans = _cast_plans(rng)
    plans += [_crowd_plan(rng) for _ in range(orders - len(plans))]
    plans.sort(key=lambda plan: plan.placed_at)
    for number, plan in enumerate(plans, 1001):
        plan.order_id = f"O-{number}"
    records = []
    met: Counter[Shop] = Counter()
    for plan in plans:
        met[plan.shop] += 1
        told = bool(plan.shop.story) and met[plan.shop] <= _TOLD_MAX
        records += _records_of(plan, rng, told)
    # Sources deliver at least once: some records come twice.
    records += [
        record._replace(at_ms=record.at_ms + rng.randrange(1, 30) * MINUTE_MS, story="")
        for record in records
        if rng.random() < 0.01
    ]
    records.append(_snow())
    spoilt = _spoilt(plans[0].order_id, plans[-1].order_id)
    records += spoilt
    # What has not arrived by then is not part of the demo.
    records = sorted(record for record in records if record.at_ms < END_MS)
    shops = {plan.shop.shop_id: plan.shop for plan in plans}
    shop_of = {plan.order_id: plan.shop.shop_id for plan in plans}
    return Surge(tuple(records), shops, shop_of, len(spoilt))


def _hours(hours: float) -> int:
    """Epoch milliseconds of an hour of the story, counted from the opening."""
    return OPENS_MS + round(hours * HOUR_MS)


# Who orders what


def _cast_plans(rng: random.Random) -> list[_Plan]:
    plans = [_in_time(rng, LOTUS, _hours(rng.uniform(0, 20))) for _ in range(25)]
    plans += [_in_time(rng, PHONES, _hours(rng.uniform(0, 20))) for _ in range(8)]
    for _ in range(58):
        plan = _in_time(rng, SILK, _hours(rng.uniform(0, 6)), "normal")
        plan.carrier = _SNAIL
        _scan(rng, plan, plan.placed_at + _span(rng, 75, 94))
        plans.append(plan)
    for hour in (0.5, 2.2):
        plans.append(_Plan(PHONES, "fold-phone", "normal", _hours(hour), "CN-SH", _SNAIL))
    for _ in range(10):
        plan = _in_time(rng, DOWN, _hours(rng.uniform(0, 5)), "stepped")
        plan.region = _SNOW_REGION
        plan.uploaded_at = plan.placed_at + _span(rng, 2, 6)
        _scan(rng, plan, plan.uploaded_at + _span(rng, 26, 44))
        plans.append(plan)
    for hour, appeal_id, outcome in ((1.0, "A-1", "granted"), (1.5, "A-2", "rejected")):
        plan = _in_time(rng, GOURMET, _hours(hour), "express")
        plan.region = "CN-SH"  # no snow there
        plan.uploaded_at = _hours(hour + 2)
        _scan(rng, plan, plan.uploaded_at + _span(rng, 30, 44))
        plan.appeal = (appeal_id, _hours(60 + hour), outcome)
        plans.append(plan)
    lost = _Plan(LAMPS, "moon-lamp", "express", _hours(1.2), "CN-ZJ", "River Line")
    lost.uploaded_at = _hours(3)
    lost.scanned_at = _hours(20)
    lost.scan_reported_at = _hours(92)
    lost.scan_story = "River Line sends a scan made three days ago, within the deadline"
    plans.append(lost)
    return plans


def _crowd_plan(rng: random.Random) -> _Plan:
    # A few shops sell most of it.
    shop = CROWD[min(int(rng.paretovariate(0.7)) - 1, len(CROWD) - 1)]
    (hour,) = rng.choices(range(-2, len(_HOURS) - 2), cum_weights=_BUSY)
    plan = _in_time(rng, shop, _hours(hour + rng.random()))
    fate = rng.random()
    if fate < 0.025:
        plan.closed_at = plan.placed_at + _span(rng, 1, 20)
        plan.uploaded_at = plan.scanned_at = plan.scan_reported_at = None
    elif fate < 0.031:
        plan.scanned_at = plan.scan_reported_at = None
    elif fate < 0.065:
        _scan(rng, plan, _deadline(plan) + _span(rng, 1, 40))
    elif fate < 0.075:
        plan.scan_reported_at = _deadline(plan) + _span(rng, 2, 30)
    return plan


_BUSY = tuple(accumulate(_HOURS))


def _in_time(rng: random.Random, shop: Shop, placed_at: int, mode: str | None = None) -> _Plan:
    """Plan an order that is uploaded and scanned before its deadline."""
    if mode is None:
        (mode,) = rng.choices(_MODES, weights=(70, 15, 10, 5))
    product = f"item-{rng.randrange(1, _ITEMS + 1)}"
    region, carrier = rng.choice(_REGIONS), rng.choice(_CARRIERS)
    plan = _Plan(shop, product, mode, placed_at, region, carrier)
    plan.uploaded_at = placed_at + _span(rng, 1, 30)
    if mode == "presale":
        plan.promised_ship_by = placed_at + 96 * HOUR_MS
    room_ms = _deadline(plan) - plan.uploaded_at
    _scan(rng, plan, plan.uploaded_at + round(room_ms * rng.uniform(0.05, 0.9)))
    return plan


_MODES: tuple[str, ...] = ("normal", "express", "stepped", "presale")


def _deadline(plan: _Plan) -> int:
    """Reckon the deadline as a shop would: the story is made of it, nothing is judged by it."""
    if plan.promised_ship_by is not None:
        return plan.promised_ship_by
    if plan.mode == "normal" or plan.uploaded_at is None:
        return plan.placed_at + 72 * HOUR_MS
    return plan.uploaded_at + 24 * HOUR_MS


def _scan(rng: random.Random, plan: _Plan, scanned_at: int) -> None:
    """Let the carrier scan the parcel, and report it minutes later, or an hour."""
    plan.scanned_at = scanned_at
    plan.scan_reported_at = scanned_at + rng.randrange(2, 60) * MINUTE_MS


def _span(rng: random.Random, hours_min: float, hours_max: float) -> int:
    return round(rng.uniform(hours_min, hours_max) * HOUR_MS)


# What is sent


def _records_of(plan: _Plan, rng: random.Random, told: bool) -> list[Record]:
    order_id = plan.order_id
    tracking_number = f"T{rng.randrange(10**9, 10**10)}"
    paid = OrderPaid(
        order_id=order_id,
        shop_id=plan.shop.shop_id,
        product_ids=[plan.product],
        shipping_mode=plan.mode,
        placed_at=plan.placed_at,
        paid_at=plan.placed_at + rng.randrange(5, 120) * SECOND_MS,
        paid_amount=rng.randrange(990, 99_900, 10),
        region=plan.region,
        promised_ship_by=plan.promised_ship_by,
    )
    record = _record(ORDER_PAID, paid.paid_at + SECOND_MS, order_id, paid)
    if told:
        record = record._replace(word="order", story=f"{plan.product} of {plan.shop.name}")
    records = [record]
    if plan.uploaded_at is not None:
        upload = TrackingNumberUploaded(
            order_id=order_id,
            tracking_number=tracking_number,
            carrier=plan.carrier,
            uploaded_at=plan.uploaded_at,
        )
        at = plan.uploaded_at + 2 * SECOND_MS
        records.append(_record(TRACKING_NUMBER_UPLOADED, at, order_id, upload))
    if plan.scanned_at is not None and plan.scan_reported_at is not None:
        scan = FirstScan(
            order_id=order_id,
            tracking_number=tracking_number,
            carrier=plan.carrier,
            scanned_at=plan.scanned_at,
        )
        record = _record(FIRST_SCAN, plan.scan_reported_at, order_id, scan)
        if plan.scan_story:
            record = record._replace(word="late scan", story=plan.scan_story)
        elif told and plan.shop is LOTUS:
            record = record._replace(word="scan", story=f"{plan.carrier} has it, in time")
        records.append(record)
    if plan.closed_at is not None:
        closed = OrderClosed(order_id=order_id, closed_at=plan.closed_at, reason="refund-agreed")
        records.append(_record(ORDER_CLOSED, plan.closed_at + SECOND_MS, order_id, closed))
    if plan.appeal is not None:
        appeal_id, decided_at, outcome = plan.appeal
        appeal = AppealDecided(
            appeal_id=appeal_id,
            violation_id=f"{order_id}:late-scan:1",
            order_id=order_id,
            outcome="granted" if outcome == "granted" else "rejected",
            decided_at=decided_at,
        )
        record = _record(APPEAL_DECIDED, decided_at + SECOND_MS, order_id, appeal)
        story = f"{plan.shop.name}'s appeal {appeal_id} against #1 is {outcome}"
        records.append(record._replace(word="appeal", story=story))
    return records


def _record(rank: int, at_ms: int, order_id: str, value: Struct) -> Record:
    return Record(at_ms, INPUT_TOPICS[rank], order_id.encode(), encode_value(value), order_id)


def _snow() -> Record:
    """Exempt a region after the fact, when some of its orders have been judged already."""
    grant = ExemptionGranted(
        exemption_id="snow-in-beijing",
        source="platform",
        granted_at=_hours(56),
        effect=Effect(extend_by=48 * HOUR_MS),
        scope=Scope(
            regions=[_SNOW_REGION], deadline_from=_hours(24), deadline_until=_hours(60) - 1
        ),
    )
    topic = INPUT_TOPICS[EXEMPTION_GRANTED]
    story = "snow in Beijing: 48 h more for orders to CN-BJ due from 12-13 00:00 to 12-14 11:59"
    return Record(
        grant.granted_at + SECOND_MS, topic, b"snow-in-beijing", encode_value(grant),
        word="exemption", story=story,
    )  # fmt: skip


def _spoilt(first_order: str, last_order: str) -> list[Record]:
    """Make records that no system should send and some do."""
    scan = FirstScan(
        order_id=first_order, tracking_number="T1", carrier=_SNAIL, scanned_at=_hours(72)
    )
    paid_twice = OrderPaid(
        order_id=last_order,
        shop_id=LOTUS.shop_id,
        product_ids=["item-0"],
        shipping_mode="normal",
        placed_at=_hours(12),
        paid_at=_hours(12),
        paid_amount=1,
    )
    other_key = FirstScan(
        order_id="O-1", tracking_number="T1", carrier=_SNAIL, scanned_at=_hours(17)
    )
    records = [
        Record(_hours(5), INPUT_TOPICS[ORDER_PAID], b"O-?", b'{"order_id": "O-?", "shop_'),
        _record(FIRST_SCAN, _hours(18), first_order, scan),
        _record(FIRST_SCAN, _hours(30), last_order, other_key),
        _record(ORDER_PAID, _hours(40), last_order, paid_twice),
    ]
    return [record._replace(order_id="") for record in records]
