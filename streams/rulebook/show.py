"""A policy as the file it would be, every default spelled out: the reader's inverse.

What lives here: how each part of a policy is written. What must not: values themselves (`money`,
`phrases`), other ways to put rules in words (`words`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from streams.core.facts.events import ExemptionGranted, Scope
from streams.core.facts.money import is_currency, points_class
from streams.core.rules.phrases import deadline_text, duration_text, parse_deadline
from streams.core.rules.policy import (
    Account,
    Amount,
    Cap,
    Deadline,
    Kind,
    Policy,
    Sanction,
    Tier,
    When,
)
from streams.rulebook.money import Unit, amount_text, share_text, unit_of
from streams.rulebook.values import AT_ONCE, WEEKDAYS, time_of_day_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER = {"day": "per_day", "week": "per_week", "month": "per_month", "quarter": "per_quarter"}


def policy_text(policy: Policy) -> str:
    """Write a policy as a file."""
    blocks = [
        _header(policy),
        *(_kind(name, kind) for name, kind in policy.kinds.items()),
        *(_account(account) for account in policy.accounts),
        *(_sanction(sanction, policy) for sanction in policy.sanctions),
        *(_exemption(exemption) for exemption in policy.exemptions),
        _work_week(policy),
        _table(
            "[retention]",
            ("clean", _text(duration_text(policy.retention.clean))),
            ("violated", _text(duration_text(policy.retention.violated))),
        ),
        _processing(policy),
    ]
    return "\n".join("\n".join(lines) + "\n" for lines in blocks)


def instant_text(instant: int) -> str:
    """Write an instant as TOML does, in UTC."""
    moment = _EPOCH + timedelta(milliseconds=instant)
    fraction = f".{instant % 1000:03}" if instant % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def counted_text(sanction: Sanction) -> str:
    """Write what a sanction counts, as a file does."""
    if sanction.of == "order":
        return "one order"
    whose = "the shop" if sanction.of == "shop" else f"account {sanction.account}"
    if sanction.span == "rolling":
        return f"{whose}, last {sanction.days} days"
    return f"{whose}, {'today' if sanction.span == 'day' else f'this {sanction.span}'}"


def _text(value: str) -> str:
    # The one character that JSON allows in a text and TOML does not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(values: Iterable[str]) -> str:
    return "[" + ", ".join(values) + "]"


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _inline(*entries: tuple[str, str | None]) -> str:
    return (
        "{ " + ", ".join(f"{key} = {value}" for key, value in entries if value is not None) + " }"
    )


def _table(header: str, *entries: tuple[str, str | None]) -> list[str]:
    lines = [header] if header else []
    for key, value in entries:
        lines.append(f"# {key} is not set" if value is None else f"{key} = {value}")
    return lines


def _header(policy: Policy) -> list[str]:
    since, closes = policy.effective_from, policy.close_unshipped
    return _table(
        "",
        ("platform", _text(policy.platform)),
        ("name", _text(policy.name)),
        ("version", str(policy.version)),
        ("time_zone", _text(policy.time_zone)),
        ("effective_from", None if since is None else instant_text(since)),
        ("effective_by", _text(policy.effective_by)),
        ("default_platform", _flag(policy.default_platform)),
        (
            "close_unshipped",
            None if closes is None else _text(f"{duration_text(closes)} after placed"),
        ),
    )


def _deadline(deadline: Deadline) -> str:
    if deadline.form == "instant":
        return instant_text(deadline.amount)
    return _text(deadline_text(deadline))


def _when(when: When) -> str:
    return _inline(
        *(
            (name, None if names is None else _list(map(_text, names)))
            for name, names in (("shop_levels", when.shop_levels), ("categories", when.categories))
        )
    )


def _kind(name: str, kind: Kind) -> list[str]:
    lines = _table(
        f"[violation.{name}]",
        ("until", _list(map(_text, kind.until))),
        ("every", _text(duration_text(kind.every))),
        ("times", str(kind.times)),
        ("warn_before", _list(_text(duration_text(lead)) for lead in kind.warn_before)),
        ("limit", _text("on-time-at-limit" if kind.on_time_at_limit else "late-at-limit")),
        ("parcels", _text(kind.parcels)),
    )
    instead = [
        _inline(
            ("when", _when(other.when)),
            ("deadline", _inline(*((m, _deadline(d)) for m, d in other.deadlines.items()))),
        )
        for other in kind.instead
    ]
    lines += _many("instead", instead)
    lines += ["", f"[violation.{name}.deadline]"]
    return lines + [f"{mode} = {_deadline(deadline)}" for mode, deadline in kind.deadlines.items()]


def _many(key: str, values: list[str]) -> list[str]:
    if not values:
        return []
    return [f"{key} = [", *(f"    {value}," for value in values), "]"]


def _amount(amount: Amount, unit: Unit) -> str:
    def written(value: int) -> str:
        return _text(amount_text(value, unit))

    def tier(one: Tier) -> str:
        return _inline(
            ("up_to", None if one.up_to is None else written(one.up_to)),
            ("charge", None if one.per_mille else written(one.flat)),
            ("share", _text(share_text(one.per_mille)) if one.per_mille else None),
            ("at_least", written(one.at_least) if one.at_least else None),
            ("at_most", None if one.at_most is None else written(one.at_most)),
        )

    if amount.of is None:
        return written(amount.tiers[0].flat)
    tiers = ", ".join(tier(each) for each in amount.tiers)
    return _inline(("of", _text(amount.of)), ("tiers", f"[{tiers}]"))


def _caps(caps: tuple[Cap, ...], unit: Unit) -> str:
    entries = []
    for cap in caps:
        limit = _text(amount_text(cap.limit, unit))
        if cap.span == "order":
            entries.append(("charges_per_order", str(cap.limit)))
        elif cap.span == "rolling":
            entries.append(("rolling", _inline(("days", str(cap.days)), ("amount", limit))))
        else:
            entries.append((_PER[cap.span], limit))
    return _inline(*entries) if entries else "{}"


def _account(account: Account) -> list[str]:
    unit, settle = unit_of(account.unit), AT_ONCE
    if account.settle_at is not None:
        settle = f"next day at {time_of_day_text(account.settle_at)}"
    key, code = "unit", account.unit
    if points_class(account.unit):
        key, code = "points", points_class(account.unit)
    elif is_currency(account.unit):
        key = "currency"
    lines = _table(
        "[[account]]",
        ("name", _text(account.name)),
        ("kinds", _list(map(_text, account.kinds))),
        (key, _text(code)),
        ("amount", _amount(account.amount, unit)),
        ("caps", _caps(account.caps, unit)),
        ("settle", _text(settle)),
    )
    instead = [
        _inline(
            ("when", _when(other.when)),
            ("amount", None if other.amount is None else _amount(other.amount, unit)),
            ("caps", None if other.caps is None else _caps(other.caps, unit)),
        )
        for other in account.instead
    ]
    return lines + _many("instead", instead)


def _sanction(sanction: Sanction, policy: Policy) -> list[str]:
    more_than = str(sanction.more_than)
    if sanction.of == "account":
        units = [each.unit for each in policy.accounts if each.name == sanction.account]
        more_than = _text(amount_text(sanction.more_than, unit_of(units[0])))
    return _table(
        "[[sanction]]",
        ("counts", _list(map(_text, sanction.counts))),
        ("of", _text(counted_text(sanction))),
        ("more_than", more_than),
        ("action", _text(sanction.action)),
        ("lasts", None if sanction.lasts is None else _text(duration_text(sanction.lasts))),
    )


def _scope(scope: Scope) -> str:
    entries: list[tuple[str, str | None]] = []
    for name in scope.__struct_fields__:
        value: Any = getattr(scope, name)
        if value is None:
            continue
        if isinstance(value, Scope):
            entries.append(("not", _scope(value)))
        elif isinstance(value, bool):
            entries.append((name, _flag(value)))
        elif isinstance(value, list):
            entries.append((name, _list(map(_text, value))))
        else:
            entries.append((name, instant_text(value)))
    return _inline(*entries) if entries else "{}"


def _exemption(exemption: ExemptionGranted) -> list[str]:
    effect = exemption.effect
    entries: list[tuple[str, str]] = []
    if effect.waive:
        entries.append(("waive", "true"))
    if effect.waive_penalty:
        entries.append(("waive_penalty", "true"))
    for key, instant in (("extend_to", effect.extend_to), ("set_to", effect.set_to)):
        if instant is not None:
            entries.append((key, instant_text(instant)))
    if effect.extend_by is not None:
        entries.append(("extend_by", _text(duration_text(effect.extend_by))))
    if effect.limit is not None:
        entries.append(("deadline", _deadline(parse_deadline(effect.limit))))
    kinds = [("kinds", _list(map(_text, exemption.kinds)))] if exemption.kinds else []
    return _table(
        "[[exemption]]",
        ("name", _text(exemption.exemption_id)),
        *kinds,
        ("for", _scope(exemption.scope)),
        *entries,
    )


def _work_week(policy: Policy) -> list[str]:
    week = policy.work_week

    def dates(ordinals: tuple[int, ...]) -> Iterator[str]:
        return (date.fromordinal(ordinal).isoformat() for ordinal in ordinals)

    return _table(
        "[working_days]",
        ("weekend", _list(_text(WEEKDAYS[day]) for day in week.weekend)),
        ("holidays", None if week.holidays is None else _text(week.holidays)),
        ("days_off", _list(dates(week.days_off))),
        ("make_up_days", _list(dates(week.make_up_days))),
        ("cut_off", None if week.cut_off is None else _text(time_of_day_text(week.cut_off))),
    )


def _processing(policy: Policy) -> list[str]:
    processing = policy.processing
    return _table(
        "[processing]",
        ("grace", _text(duration_text(processing.grace))),
        ("future_tolerance", _text(duration_text(processing.future_tolerance))),
        ("earliest", instant_text(processing.earliest)),
        ("facts_wait", _text(duration_text(processing.facts_wait))),
        ("late_payment", _text(duration_text(processing.late_payment))),
    )
