"""Policy files of any kind as text, and logs of facts to judge by them, from a seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.auditor.rules import Value
from tests.property.rulebooks import CATEGORIES, LEVELS, MODES
from tests.unit.samples import DAY_MS, HOUR_MS

MONDAY_MS = 1_670_169_600_000  # 2022-12-05 00:00:00 +08:00
KINDS = ("late-scan", "late-ship", "no-news")
ZONES = ("Asia/Shanghai", "America/Los_Angeles", "Asia/Ho_Chi_Minh")
HOURS = (6, 12, 36, 48)


def draw_files(rng: random.Random) -> list[str]:
    """Return one to four files that make a rulebook; nothing is forgotten or too late."""
    if rng.random() < 0.4:
        return [draw_file(rng, "", "rules", 1, None)]
    files = []
    for platform in ("a", "b")[: rng.choice((1, 2))]:
        files.append(draw_file(rng, platform, f"{platform}-rules", 1, None))
        if rng.random() < 0.6:
            since = MONDAY_MS + rng.randrange(0, 4 * DAY_MS, HOUR_MS)
            files.append(draw_file(rng, platform, f"{platform}-rules", 2, since))
    if len(files) > 1 and rng.random() < 0.5:
        files[-1] = f"default_platform = true\n{files[-1]}"
    return files


def draw_file(rng: random.Random, platform: str, name: str, version: int, since: int | None) -> str:
    """Return one file."""
    zone = rng.choice(ZONES)
    lines = [f'platform = "{platform}"'] if platform else []
    lines += [f'name = "{name}"', f"version = {version}", f'time_zone = "{zone}"']
    if since is not None:
        lines += [f"effective_from = {moment(since)}"]
        lines += [f'effective_by = "{rng.choice(("placed", "paid"))}"']
    lines += ["[retention]", 'clean = "3000d"', 'violated = "3000d"']
    lines += ["[processing]", 'facts_wait = "3000d"', 'late_payment = "3000d"']
    lines += week(rng)
    kinds = KINDS[: rng.choice((1, 2, 3))]
    for kind in kinds:
        lines += draw_kind(rng, kind)
    for account in rng.sample(("compensation", "deposit", "points"), rng.randrange(4)):
        groups = [kinds] if rng.random() < 0.5 else [(kind,) for kind in kinds]
        for group in groups:
            lines += draw_account(rng, account, group)
    if rng.random() < 0.6:
        counts = f"counts = {words([rng.choice(kinds)])}"
        lines += ["[[sanction]]", counts, 'of = "one order"', f"more_than = {rng.randrange(3)}"]
        lines += ['action = "product-ban"']
    for number in range(rng.choice((0, 0, 1, 2))):
        lines += ["[[exemption]]", f'name = "own-{number}"', f"for = {scope(rng)}", effect(rng)]
        lines += [f"kinds = {words([rng.choice(kinds)])}"] if rng.random() < 0.3 else []
    return "\n".join(lines) + "\n"


def moment(at: int) -> str:
    """Write an instant."""
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
    return f"{local:%Y-%m-%dT%H:%M:%S}Z"


def words(names: Any) -> str:
    """Write a list of names."""
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def week(rng: random.Random) -> list[str]:
    """Return a section of working days."""
    near = [f"2022-12-{day:02}" for day in range(3, 16)]
    lines = ["[working_days]", f"weekend = {words(rng.choice(((), ('saturday', 'sunday'))))}"]
    lines += [f"days_off = [{', '.join(rng.sample(near, rng.randrange(3)))}]"]
    lines += [f"make_up_days = [{', '.join(rng.sample(near, rng.randrange(2)))}]"]
    if rng.random() < 0.3:
        lines += [f'holidays = "{rng.choice(("US", "VN"))}"']
    return lines + (['cut_off = "14:00"'] if rng.random() < 0.4 else [])


def deadline(rng: random.Random) -> str:
    """Return a deadline of any form."""
    start = rng.choice(("placed", "placed", "paid", "uploaded"))
    hours = f"{rng.choice(HOURS)}h after {start}"
    return rng.choice(
        (
            f'"{hours}"', f'"{hours}"', f'"end of the day {hours}"',
            f'"{rng.randrange(4)} calendar days after {start}"',
            f'"{rng.randrange(4)} working days after {start}"',
            '"as promised"', '"as agreed"', moment(MONDAY_MS + rng.randrange(1, 9) * 12 * HOUR_MS),
        )
    )  # fmt: skip


def deadlines(rng: random.Random, share: float) -> str:
    """Return deadlines by mode, inline."""
    chosen = [mode for mode in MODES if rng.random() < share] or ["normal"]
    return "{ " + ", ".join(f"{mode} = {deadline(rng)}" for mode in chosen) + " }"


def when(rng: random.Random) -> str:
    """Return a condition."""
    if rng.random() < 0.5:
        return f"{{ shop_levels = {words(rng.sample(LEVELS, 1))} }}"
    return f'{{ categories = ["fresh"], shop_levels = {words(LEVELS)} }}'


def draw_kind(rng: random.Random, kind: str) -> list[str]:
    """Return a section of a kind."""
    until = rng.sample(("uploaded", "scanned", "closed"), rng.randrange(4))
    lines = [f"[violation.{kind}]", f"until = {words(until)}", f"deadline = {deadlines(rng, 0.8)}"]
    lines += [f'every = "{rng.choice((1, 24))}h"', f"times = {rng.choice((1, 3))}"]
    lines += [f"warn_before = {rng.choice(('[]', words(['4h', '24h'])))}"]
    if rng.random() < 0.3:
        lines += ['limit = "on-time-at-limit"']
    if rng.random() < 0.2:
        lines += ['parcels = "all"']
    if rng.random() < 0.2:
        lines += [f"instead = [{{ when = {when(rng)}, deadline = {deadlines(rng, 0.5)} }}]"]
    return lines


def amount(rng: random.Random, *, money: bool) -> str:
    """Return an amount: fixed, a share, or tiers."""
    if not money or rng.random() < 0.4:
        return rng.choice(('"10.0"', '"5.0"')) if money else '"0.1"'
    of = f'of = "{rng.choice(("paid_amount", "goods_amount"))}"'
    if rng.random() < 0.4:
        return (
            f'{{ {of}, share = "{rng.choice(("10 %", "1.5 %"))}", at_least = "5", at_most = "8" }}'
        )
    last = '{ share = "1 %", at_least = "0.50" }'
    tiers = f'[{{ up_to = "3.00", charge = "0" }}, {{ below = "99.00", charge = "3" }}, {last}]'
    return f"{{ {of}, tiers = {tiers} }}"


def draw_account(rng: random.Random, name: str, kinds: tuple[str, ...]) -> list[str]:
    """Return a block of an account."""
    money = name != "points"
    lines = ["[[account]]", f'name = "{name}"', f"kinds = {words(kinds)}"]
    lines += ['currency = "CNY"' if money else 'points = "B"']
    lines += [f"amount = {amount(rng, money=money)}"]
    most = (lambda: rng.choice(("10.00", "15.00", "30.00"))) if money else (lambda: "0.3")
    caps = [f'{key} = "{most()}"' for key in ("per_day", "per_week", "per_month", "per_quarter")
            if rng.random() < 0.25]  # fmt: skip
    if rng.random() < 0.4:
        caps.append(f"charges_per_order = {rng.choice((1, 2))}")
    if rng.random() < 0.25:
        caps.append(f'rolling = {{ days = {rng.choice((1, 3, 30))}, amount = "{most()}" }}')
    lines += [f"caps = {{ {', '.join(caps)} }}"]
    if rng.random() < 0.2:
        lines += ["once_per_order = true"]
    if rng.random() < 0.5:
        lines += ['settle = "next day at 09:30"']
    if rng.random() < 0.2:
        other = amount(rng, money=money)
        lines += [f"instead = [{{ when = {when(rng)}, amount = {other}, caps = {{}} }}]"]
    return lines


def scope(rng: random.Random, depth: int = 1) -> str:
    """Return a scope, inline."""
    bound = moment(MONDAY_MS + rng.randrange(0, 6 * DAY_MS, HOUR_MS))
    entry = rng.choice(
        (
            "", 'order_ids = ["O1", "O3"]', 'shop_ids = ["S1"]', 'regions = ["CN-BJ"]',
            'shipping_modes = ["normal"]', f"paid_from = {bound}", f"paid_until = {bound}",
            f"deadline_from = {bound}", f"deadline_until = {bound}", 'shop_levels = ["gold"]',
            'categories = ["fresh"]', f"agreed = {rng.choice(('true', 'false'))}",
        )
    )  # fmt: skip
    entries = [entry] if entry else []
    if depth and rng.random() < 0.25:
        entries.append(f"not = {scope(rng, 0)}")
    return "{ " + ", ".join(entries) + " }"


def effect(rng: random.Random) -> str:
    """Return an effect."""
    at = moment(MONDAY_MS + rng.randrange(0, 9 * DAY_MS, HOUR_MS))
    return rng.choice(
        (
            "waive = true", "waive_penalty = true", f"extend_to = {at}", 'extend_by = "24h"',
            f"set_to = {at}", f"deadline = {deadline(rng)}",
        )
    )  # fmt: skip


Facts = list[tuple[str, Value]]


def draw_facts(rng: random.Random) -> Facts:
    """Return the facts of some orders, each once."""
    facts: Facts = []
    for number in range(rng.randrange(1, 7)):
        facts += draw_order(rng, f"O{number}")
    for number in range(rng.choice((0, 0, 1, 2))):
        facts.append(("exemption-granted", draw_granted(rng, f"X{number}")))
    return facts


def draw_order(rng: random.Random, order_id: str) -> Facts:
    """Return an order's facts."""
    placed = MONDAY_MS + rng.randrange(0, 5 * DAY_MS, HOUR_MS) - rng.choice((0, 0, 1))
    order: Value = {
        "order_id": order_id, "shop_id": rng.choice(("S1", "S1", "S2")),
        "product_ids": rng.sample(("P1", "P2", "P3"), rng.choice((1, 2))),
        "shipping_mode": rng.choice(MODES), "placed_at": placed,
        "paid_at": placed + rng.choice((0, HOUR_MS)),
        "paid_amount": rng.choice((200, 300, 301, 9_899, 9_900, 50_000)),
    }  # fmt: skip
    for name, choices in (
        ("platform", ("a", "b")), ("shop_level", LEVELS), ("category", CATEGORIES),
        ("goods_amount", (200, 8_000)), ("region", ("CN-BJ", "CN-XJ")),
        ("agreed_ship_by", (placed + 30 * HOUR_MS,)),
        ("promised_ship_by", (placed + 20 * HOUR_MS,)),
    ):  # fmt: skip
        if rng.random() < 0.35:
            order[name] = rng.choice(choices)
    facts: Facts = [("order-paid", order)]
    numbers = ("T1", "T2")[: rng.choice((0, 1, 1, 2))]
    for number in numbers:
        value = {"order_id": order_id, "tracking_number": number, "carrier": "SF"}
        at = placed + rng.randrange(0, 90, 6) * HOUR_MS
        replaces = {"replaces": "T1"} if number == "T2" and rng.random() < 0.3 else {}
        facts.append(("tracking-number-uploaded", value | {"uploaded_at": at} | replaces))
        if rng.random() < 0.8:
            later = at + rng.randrange(0, 60, 6) * HOUR_MS + rng.choice((0, 0, 999, 1_000))
            facts.append(("first-scan", value | {"scanned_at": later}))
    if rng.random() < 0.15:
        at = placed + rng.randrange(0, 90, 6) * HOUR_MS
        facts.append(
            ("order-closed", {"order_id": order_id, "closed_at": at, "reason": "refunded"})
        )
    return facts


def draw_granted(rng: random.Random, exemption_id: str) -> Value:
    """Return an exemption that is granted later."""
    at = MONDAY_MS + rng.randrange(0, 9 * DAY_MS, HOUR_MS)
    limit = rng.choice(("24h after placed", "2h after uploaded", "as agreed"))
    return {
        "exemption_id": exemption_id, "source": "platform", "granted_at": at,
        "scope": rng.choice((
            {}, {"order_ids": ["O1", "O2"]}, {"shop_ids": ["S1"]}, {"paid_from": at - 4 * DAY_MS},
            {"deadline_until": at}, {"platforms": ["a"]}, {"not": {"regions": ["CN-XJ"]}},
        )),
        "effect": rng.choice((
            {"waive": True}, {"waive_penalty": True}, {"extend_to": at}, {"extend_by": HOUR_MS},
            {"set_to": at}, {"limit": limit},
        )),
        "kinds": rng.choice(([], ["late-scan"])),
    }  # fmt: skip


OWN_TIMES = (
    "paid_at", "uploaded_at", "scanned_at", "closed_at", "granted_at", "decided_at",
)  # fmt: skip


def as_events(rng: random.Random, facts: Facts, *, on_time: bool = False) -> list[dict[str, Any]]:
    """Let the facts arrive in any order, days late, some of them twice."""
    events = []
    for topic, value in facts:
        own = next(value[name] for name in OWN_TIMES if name in value)
        delay = 0 if on_time else rng.choice((0, 0, HOUR_MS, DAY_MS, 9 * DAY_MS))
        events.append({"topic": topic, "timestamp": own + delay, "value": value})
    if not on_time:
        events += [dict(event) for event in events if rng.random() < 0.1]
        rng.shuffle(events)
    if on_time or rng.random() < 0.6:
        events.sort(key=lambda event: event["timestamp"])
    return events
