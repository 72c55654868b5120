"""Rulebooks of any kind, from a seed: kinds, platforms, versions, calendars and accounts."""

from __future__ import annotations

import random
from datetime import date

import msgspec

from streams.core.facts.events import Effect, ExemptionGranted, Scope
from streams.core.rules.book import ANY_PLATFORM, Rulebook
from streams.core.rules.policy import (
    Account,
    AccountInstead,
    Amount,
    Cap,
    Deadline,
    Kind,
    KindInstead,
    Policy,
    Processing,
    Retention,
    Sanction,
    Tier,
    When,
    WorkWeek,
)
from streams.core.time.calendar import Span
from tests.unit.samples import DAY_MS, HOUR_MS, PLACED_AT

MODES = ("express", "normal", "presale", "stepped")
STOPS = ("uploaded", "scanned", "closed")
LEVELS = ("gold", "basic")
CATEGORIES = ("fresh", "books")
PLATFORMS = ("a", "b")
ZONES = ("Asia/Shanghai", "Asia/Shanghai", "America/Los_Angeles", "Asia/Ho_Chi_Minh")
_PLACED_DAY = date(2022, 12, 6).toordinal()


def draw_rulebook(rng: random.Random, grace: int = 0) -> Rulebook:
    """Return a rulebook of one to four versions."""
    clean = rng.choice((0, 6, 48, 7 * 24)) * HOUR_MS
    processing = Processing(
        grace=grace,
        facts_wait=rng.choice((clean, 7 * DAY_MS, 30 * DAY_MS)) or HOUR_MS,
        late_payment=rng.choice((clean, min(clean, 6 * HOUR_MS))),
    )
    retention = Retention(clean=clean, violated=rng.choice((0, 90)) * DAY_MS)
    platforms = [ANY_PLATFORM] if rng.random() < 0.4 else PLATFORMS[: rng.choice((1, 2))]
    policies = []
    for platform in platforms:
        for number in range(1 if platform == ANY_PLATFORM else rng.choice((1, 1, 2))):
            policy = draw_policy(rng, processing, retention)
            since = None
            if number or rng.random() < 0.1:
                since = PLACED_AT + rng.randrange(-DAY_MS, 2 * DAY_MS, HOUR_MS)
            policies.append(
                msgspec.structs.replace(
                    policy,
                    platform=platform,
                    name=f"{platform}-rules",
                    version=number + 1,
                    effective_from=since,
                    effective_by=rng.choice(("placed", "paid")),
                    default_platform=platform == "b" and rng.random() < 0.5,
                )
            )
    return Rulebook(policies)


def draw_policy(rng: random.Random, processing: Processing, retention: Retention) -> Policy:
    """Return a policy of one to three kinds."""
    kinds = {f"kind-{n}": draw_kind(rng) for n in range(rng.choice((1, 1, 2, 3)))}
    return Policy(
        platform=ANY_PLATFORM,
        name="drawn",
        version=1,
        time_zone=rng.choice(ZONES),
        kinds=kinds,
        accounts=draw_accounts(rng, tuple(kinds)),
        sanctions=draw_sanctions(rng, tuple(kinds)),
        exemptions=tuple(draw_exemption(rng, n) for n in range(rng.choice((0, 0, 0, 1, 2)))),
        work_week=draw_week(rng),
        close_unshipped=rng.choice((None, 60 * HOUR_MS, 240 * HOUR_MS)),
        retention=retention,
        processing=processing,
    )


def draw_deadline(rng: random.Random, start: str | None = None) -> Deadline:
    """Return a deadline of any form."""
    start = start or rng.choice(("placed", "placed", "paid", "uploaded", "promised", "agreed"))
    form = rng.choice(("elapsed", "elapsed", "elapsed", "end-of-day", "calendar", "working", "at"))
    if start in ("promised", "agreed") and rng.random() < 0.5:
        return Deadline("elapsed", start, 0)  # type: ignore[arg-type]
    if form == "calendar":
        return Deadline("calendar-days", start, rng.randrange(4))  # type: ignore[arg-type]
    if form == "working":
        return Deadline("working-days", start, rng.randrange(4))  # type: ignore[arg-type]
    if form == "at":
        return Deadline("instant", "placed", PLACED_AT + rng.randrange(1, 96) * HOUR_MS)
    amount = rng.choice((6, 12, 36, 72)) * HOUR_MS
    return Deadline("elapsed" if form == "elapsed" else "end-of-day", start, amount)  # type: ignore[arg-type]


def draw_kind(rng: random.Random) -> Kind:
    """Return a kind with any clocks, stops and warnings."""
    start = rng.choice((None, "placed", "placed", "uploaded"))
    until = rng.sample(STOPS, rng.randrange(4)) if rng.random() < 0.4 else list(STOPS[1:])
    instead = []
    if rng.random() < 0.2:
        other = {mode: draw_deadline(rng, start) for mode in MODES if rng.random() < 0.5}
        instead.append(KindInstead(when=draw_when(rng), deadlines=other))
    return Kind(
        deadlines={mode: draw_deadline(rng, start) for mode in MODES if rng.random() < 0.85},
        until=tuple(until),  # type: ignore[arg-type]
        every=rng.choice((1, 24)) * HOUR_MS,
        times=rng.choice((1, 3)),
        warn_before=rng.choice(((), (4 * HOUR_MS,), (80 * HOUR_MS, 24 * HOUR_MS))),
        on_time_at_limit=rng.random() < 0.25,
        parcels="all" if rng.random() < 0.15 else "any",
        instead=tuple(instead),
    )


def draw_when(rng: random.Random) -> When:
    """Return a condition on shop level, category or both."""
    levels = rng.choice((None, ("gold",), LEVELS))
    return When(
        shop_levels=levels,
        categories=rng.choice((None, ("fresh",))) if levels else ("fresh",),
    )


def draw_week(rng: random.Random) -> WorkWeek:
    """Return working days of any kind."""
    near = range(_PLACED_DAY - 3, _PLACED_DAY + 12)
    return WorkWeek(
        weekend=rng.choice(((), (5, 6), (6,))),
        holiday_ordinals=tuple(sorted(rng.sample(near, rng.randrange(4)))),
        days_off=tuple(sorted(rng.sample(near, rng.randrange(2)))),
        make_up_days=tuple(sorted(rng.sample(near, rng.randrange(2)))),
        cut_off=rng.choice((None, None, 14 * HOUR_MS)),
    )


def draw_scope(rng: random.Random, *, depth: int = 1) -> Scope:
    """Return a scope that some orders match."""
    bound = PLACED_AT + rng.randrange(0, 2 * DAY_MS, HOUR_MS)
    fields = rng.choice(
        (
            {},
            {"order_ids": ["O1", "O3"]},
            {"shop_ids": ["S1"]},
            {"regions": ["CN-BJ"]},
            {"shipping_modes": ["normal"]},
            {"paid_from": bound},
            {"paid_until": bound},
            {"deadline_from": bound + DAY_MS},
            {"deadline_until": bound + DAY_MS},
            {"platforms": ["a"]},
            {"shop_levels": ["gold"]},
            {"categories": ["fresh"]},
            {"agreed": rng.random() < 0.5},
        )
    )
    scope = Scope(**fields)  # type: ignore[arg-type]
    if depth and rng.random() < 0.2:
        scope = msgspec.structs.replace(scope, not_=draw_scope(rng, depth=0))
    return scope


def draw_effect(rng: random.Random) -> Effect:
    """Return one of the effects."""
    at = PLACED_AT + rng.randrange(0, 6 * DAY_MS, HOUR_MS)
    limits = ("24h after placed", "2h after uploaded", "1 calendar days after paid", "as agreed")
    return rng.choice(
        (
            Effect(waive=True),
            Effect(waive_penalty=True),
            Effect(extend_to=at),
            Effect(extend_by=rng.choice((1, 24)) * HOUR_MS),
            Effect(set_to=at),
            Effect(limit=rng.choice(limits)),
        )
    )


def draw_exemption(rng: random.Random, number: int) -> ExemptionGranted:
    """Return an exemption of a policy's own."""
    return ExemptionGranted(
        exemption_id=f"own-{number}",
        source="platform",
        granted_at=0,
        effect=draw_effect(rng),
        scope=draw_scope(rng),
        kinds=rng.choice(([], [], ["kind-0"])),
    )


def draw_accounts(rng: random.Random, kinds: tuple[str, ...]) -> tuple[Account, ...]:
    """Return accounts over all kinds, or one for each."""
    accounts = []
    for name in rng.sample(("compensation", "deposit", "points"), rng.randrange(4)):
        groups = [kinds] if rng.random() < 0.5 else [(kind,) for kind in kinds]
        accounts += [draw_account(rng, name, group) for group in groups]
    return tuple(accounts)


def draw_account(rng: random.Random, name: str, kinds: tuple[str, ...]) -> Account:
    """Return an account with any amount, caps and settlement."""
    unit = "tenth-point:B" if name == "points" else "CNY"
    caps: list[Cap] = []
    if rng.random() < 0.6:
        caps.append(Cap(span="order", limit=rng.choice((1, 2))))
    spans: tuple[Span, ...] = ("day", "week", "month", "quarter", "rolling")
    caps += [
        Cap(
            span=span,
            limit=rng.choice((500, 1_500, 3_000)),
            days=rng.choice((1, 3, 30)) if span == "rolling" else 0,
        )
        for span in spans
        if rng.random() < 0.25
    ]
    instead: tuple[AccountInstead, ...] = ()
    if rng.random() < 0.2:
        instead = (AccountInstead(when=draw_when(rng), amount=draw_amount(rng)),)
    return Account(
        name=name,
        kinds=kinds,
        unit=unit,
        amount=draw_amount(rng),
        caps=tuple(caps),
        settle_at=rng.choice((None, 0, 9 * HOUR_MS)),
        instead=instead,
    )


def draw_amount(rng: random.Random) -> Amount:
    """Return a fixed amount, or tiers."""
    if rng.random() < 0.5:
        return Amount(tiers=(Tier(flat=rng.choice((1, 500, 1_000))),))
    return Amount(
        of=rng.choice(("paid_amount", "goods_amount")),
        tiers=(
            Tier(up_to=300, flat=0),
            Tier(up_to=rng.choice((5_000, 9_900)), flat=300),
            Tier(per_mille=rng.choice((10, 100)), at_least=rng.choice((0, 500)), at_most=1_000),
        ),
    )


def draw_sanctions(rng: random.Random, kinds: tuple[str, ...]) -> tuple[Sanction, ...]:
    """Return sanctions of any kind."""
    sanctions = [
        Sanction(counts=(kind,), of="order", more_than=rng.choice((0, 1, 2)), action="product-ban")
        for kind in kinds
        if rng.random() < 0.5
    ]
    if rng.random() < 0.3:
        sanctions.append(
            Sanction(
                counts=kinds, of="shop", span=rng.choice(("rolling", "week")),
                days=rng.choice((1, 3)), more_than=rng.choice((0, 1, 3)), action="delist-products",
                lasts=rng.choice((None, 36 * HOUR_MS)),
            )
        )  # fmt: skip
    if rng.random() < 0.2:
        sanctions.append(
            Sanction(
                counts=kinds, of="order", more_than=0, action="freeze-deposit",
                lasts=rng.choice((None, 36 * HOUR_MS)),
            )
        )  # fmt: skip
    return tuple(sanctions)
