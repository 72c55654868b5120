"""Rules in sentences that a seller understands.

What lives here: each part of a policy in words. What must not: how files spell it (`show`), and
which parts differ (`diff`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from streams.core.facts.events import ExemptionGranted, Scope
from streams.core.facts.money import money
from streams.core.rules.phrases import duration_text, parse_deadline
from streams.core.rules.policy import Account, Amount, Cap, Deadline, Kind, Sanction, Tier, When
from streams.core.words import counted
from streams.rulebook.money import share_text
from streams.rulebook.values import time_of_day_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STARTS = {
    "placed": "placing",
    "paid": "payment",
    "uploaded": "the first upload",
    "promised": "the promised time",
    "agreed": "the agreed time",
}
_STOPS = {"uploaded": "upload", "scanned": "first scan", "closed": "close"}
_ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}
_SPANS = {"day": "a day", "week": "a week", "month": "a month", "quarter": "a quarter"}
_AMOUNTS = {"paid_amount": "what was paid", "goods_amount": "the price of the goods"}


def instant_words(instant: int, zone: str) -> str:
    """Write an instant as a clock of the zone shows it."""
    local = (_EPOCH + timedelta(milliseconds=instant)).astimezone(ZoneInfo(zone))
    fraction = f".{instant % 1000:03}" if instant % 1000 else ""
    return f"{local:%Y-%m-%d %H:%M:%S}{fraction}"


def length_words(length_ms: int) -> str:
    """Write a duration with a space: `48 h`."""
    text = duration_text(length_ms)
    unit = text.lstrip("0123456789")
    return f"{text.removesuffix(unit)} {unit}"


def deadline_words(deadline: Deadline, zone: str) -> str:
    """Say when something is due: `48 h after payment`."""
    start, amount = _STARTS[deadline.start], deadline.amount
    if deadline.form == "instant":
        return f"at {instant_words(amount, zone)}, whenever it began"
    if deadline.form == "end-of-day":
        return f"{length_words(amount)} after the end of the day of {start}"
    nth = _ORDINALS.get(amount, f"{amount}th")
    if deadline.form == "calendar-days":
        if not amount:
            return f"at the end of the day of {start}"
        return f"at the end of the {nth} calendar day after {start}"
    if deadline.form == "working-days":
        if not amount:
            return f"at the end of the first working day from {start} on"
        return f"at the end of the {nth} working day after {start}"
    return f"at {start}" if not amount else f"{length_words(amount)} after {start}"


def until_words(until: tuple[str, ...]) -> str:
    """Say what stops a clock."""
    return " or ".join(_STOPS[each] for each in until) or "nothing"


def repeats_words(kind: Kind) -> str:
    """Say how often a violation is found again."""
    if kind.times == 1:
        return "never"
    return f"every {length_words(kind.every)}, {kind.times} times in all"


def warnings_words(kind: Kind) -> str:
    """Say when the shop is warned."""
    leads = [length_words(lead) for lead in kind.warn_before]
    return f"{' and '.join(leads)} before" if leads else "never"


def limit_words(kind: Kind) -> str:
    """Say what a fact exactly at the deadline is."""
    return "in time" if kind.on_time_at_limit else "late"


def parcels_words(kind: Kind) -> str:
    """Say which tracking numbers need a scan."""
    return "each number needs a scan" if kind.parcels == "all" else "one scanned number suffices"


def other_deadlines_words(kind: Kind, zone: str) -> str | None:
    """Say the deadlines of orders for which others hold; `None` if there are none."""
    parts = [
        f"for {when_words(other.when)}: {_deadlines_words(other.deadlines, zone)}"
        for other in kind.instead
    ]
    return "; ".join(parts) or None


def _deadlines_words(deadlines: dict[str, Deadline], zone: str) -> str:
    return ", ".join(
        f"mode {mode} due {deadline_words(deadline, zone)}" for mode, deadline in deadlines.items()
    )


def kind_words(kind: Kind, zone: str) -> str:
    """Say all of a kind of violation."""
    others = other_deadlines_words(kind, zone)
    parts = [
        _deadlines_words(kind.deadlines, zone),
        others,
        f"stopped by {until_words(kind.until)}",
        f"found again {repeats_words(kind)}",
        f"the shop is warned {warnings_words(kind)}",
        f"a fact exactly at the deadline is {limit_words(kind)}",
        parcels_words(kind),
    ]
    return "; ".join(part for part in parts if part)


def when_words(when: When) -> str:
    """Say which orders an `instead` is for."""
    parts = []
    if when.shop_levels is not None:
        parts.append(f"shop level {' or '.join(when.shop_levels)}")
    if when.categories is not None:
        parts.append(f"category {' or '.join(when.categories)}")
    return ", ".join(parts)


def amount_words(amount: Amount, unit_name: str) -> str:
    """Say what one violation costs."""
    if amount.of is None:
        return money(amount.tiers[0].flat, unit_name)
    parts = []
    for tier in amount.tiers:
        bound = "" if tier.up_to is None else f"up to {money(tier.up_to, unit_name)}: "
        parts.append(bound + _tier_words(tier, unit_name))
    return f"by {_AMOUNTS[amount.of]}: {'; '.join(parts)}"


def _tier_words(tier: Tier, unit_name: str) -> str:
    words = share_text(tier.per_mille) if tier.per_mille else money(tier.flat, unit_name)
    if tier.at_least:
        words += f", at least {money(tier.at_least, unit_name)}"
    if tier.at_most is not None:
        words += f", at most {money(tier.at_most, unit_name)}"
    return words


def caps_words(caps: tuple[Cap, ...], unit_name: str) -> str:
    """Say the most an account charges."""
    parts = []
    for cap in caps:
        if cap.span == "order":
            parts.append(f"{counted(cap.limit, 'charge')} an order")
        elif cap.span == "rolling":
            parts.append(f"{money(cap.limit, unit_name)} in {counted(cap.days, 'day')}")
        else:
            parts.append(f"{money(cap.limit, unit_name)} {_SPANS[cap.span]}")
    return f"at most {', '.join(parts)}" if parts else "without caps"


def settlement_words(account: Account) -> str:
    """Say when an account charges."""
    if account.settle_at is None:
        return "at once"
    return f"together on the next day at {time_of_day_text(account.settle_at)}"


def account_words(account: Account) -> str:
    """Say all of an account."""
    instead = "".join(
        f"; for {when_words(other.when)} "
        + " and ".join(
            words
            for words in (
                other.amount and amount_words(other.amount, account.unit),
                None if other.caps is None else caps_words(other.caps, account.unit),
            )
            if words
        )
        for other in account.instead
    )
    return (
        f"{amount_words(account.amount, account.unit)} a violation, "
        f"{caps_words(account.caps, account.unit)}, charged {settlement_words(account)}{instead}"
    )


def sanction_words(sanction: Sanction, unit_name: str) -> str:
    """Say when a sanction comes."""
    if sanction.of == "account":
        what = f"{money(sanction.more_than, unit_name)} on {sanction.account}"
    else:
        what = f"{counted(sanction.more_than, 'violation')}"
    kinds = " or ".join(sanction.counts)
    span = counted(sanction.days, "day") if sanction.span == "rolling" else f"a {sanction.span}"
    where = "of one order" if sanction.of == "order" else f"of the shop within {span}"
    lasts = "" if sanction.lasts is None else f", for {length_words(sanction.lasts)}"
    return f"{sanction.action} for more than {what} ({kinds}) {where}{lasts}"


def exemption_words(exemption: ExemptionGranted, zone: str) -> str:
    """Say what an exemption does, and for whom."""
    effect = exemption.effect
    if effect.waive:
        does = "no violation"
    elif effect.waive_penalty:
        does = "violations cost nothing"
    elif effect.extend_to is not None:
        does = f"not due before {instant_words(effect.extend_to, zone)}"
    elif effect.extend_by is not None:
        does = f"due {length_words(effect.extend_by)} later"
    elif effect.set_to is not None:
        does = f"due at {instant_words(effect.set_to, zone)}"
    else:
        does = f"due {deadline_words(parse_deadline(effect.limit or ''), zone)}"
    kinds = f" ({', '.join(exemption.kinds)})" if exemption.kinds else ""
    return f"{does}{kinds} for {scope_words(exemption.scope, zone)}"


def scope_words(scope: Scope, zone: str) -> str:
    """Say which orders a scope covers."""
    parts = []
    for name in scope.__struct_fields__:
        value = getattr(scope, name)
        if value is None:
            continue
        if isinstance(value, Scope):
            parts.append(f"but not {scope_words(value, zone)}")
        elif name == "agreed":
            parts.append("with an agreed date" if value else "without an agreed date")
        elif isinstance(value, list):
            parts.append(f"{name.replace('_', ' ')} {', '.join(value)}")
        else:
            parts.append(f"{name.replace('_', ' ')} {instant_words(value, zone)}")
    return "orders " + ", ".join(parts) if parts else "all orders"
