"""What a policy file says that is allowed and probably not meant.

What lives here: warnings. What must not: mistakes, which the reader finds.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from statistics import median_low
from typing import Any

from streams.core.facts.events import Scope
from streams.core.facts.money import money
from streams.core.rules.book import ANY_PLATFORM
from streams.core.rules.phrases import parse_deadline
from streams.core.rules.policy import (
    DAY_MS,
    Account,
    Amount,
    Cap,
    Deadline,
    Policy,
    When,
    WorkWeek,
)
from streams.core.words import counted
from streams.rulebook import older
from streams.rulebook.holidays import LAST_YEAR
from streams.rulebook.lines import Path, line_of, lines_of, path_text
from streams.rulebook.loading import PolicyFile
from streams.rulebook.walk import Mistake

# Holidays that a moon or a decree sets are known a few years ahead. Where the years up to the last
# have clearly fewer than past ones, their lists are incomplete; a single thin year is an accident.
_KNOWN_YEARS, _FUTURE_YEARS = range(2016, 2026), range(2026, LAST_YEAR)
_ENOUGH_PERCENT = 75
_TERMS_MAX = 1_000
_DAYS_AFTER_MIDNIGHT = re.compile(r"end of the day ([0-9]+)d after ([a-z]+)")
_Warning = tuple[Path, str]


def warnings(found: Sequence[tuple[PolicyFile, Policy]]) -> list[Mistake]:
    """List what is allowed and probably not meant, file by file, by line."""
    listed = [
        _placed(file, path, message)
        for file, policy in found
        for path, message in (
            *_of_kinds(policy),
            *_of_accounts(policy),
            *_of_exemptions(policy),
            *_of_calendar(policy),
            *_of_texts(tomllib.loads(file.text), ()),
        )
    ]
    listed += _of_versions(found)
    return sorted(listed, key=lambda each: (each.origin, each.line))


def _placed(file: PolicyFile, path: Path, message: str) -> Mistake:
    # In an old file, the key that stands there.
    path = older.old_path(older.modernised(tomllib.loads(file.text))[1], path)
    return Mistake(file.origin, line_of(lines_of(file.text), path) or 0, path_text(path), message)


def _of_kinds(policy: Policy) -> Iterator[_Warning]:
    for name, kind in policy.kinds.items():
        path: Path = ("violation", name)
        if not kind.deadlines and not kind.instead:
            yield path, "has no deadline, so it is never found"
        if "closed" not in kind.until:
            yield (*path, "until"), "lacks closed: orders that were refunded will be fined"
        for place, other in enumerate(kind.instead):
            for mode in other.deadlines:
                if mode not in kind.deadlines:
                    yield (
                        (*path, "instead", place),
                        f"has mode {mode}, which other orders of this kind do not have",
                    )
            earlier = kind.instead[:place]
            if all(
                _covered(other.when, [each.when for each in earlier if mode in each.deadlines])
                for mode in other.deadlines
            ):
                yield (*path, "instead", place), _NEVER_COUNTS
        for at, deadline in _deadlines(policy, name):
            ends_at_start = deadline.start == "uploaded" and "uploaded" in kind.until
            if ends_at_start and (deadline.amount or deadline.form != "elapsed"):
                yield at, "is never late: the upload that starts this clock stops it"
        if kind.parcels == "all" and "scanned" not in kind.until:
            yield (*path, "parcels"), "has no effect, as until lacks scanned"
        if kind.times == 1 and kind.every != DAY_MS:
            yield (*path, "every"), "has no effect, as times is 1"
    levels = _terms(policy)
    if levels > _TERMS_MAX:
        yield (), f"tells apart {counted(levels, 'group')} of modes, shop levels and categories"


_NEVER_COUNTS = "never counts: earlier ones are for the same orders"


def _covered(when: When, earlier: Sequence[When]) -> bool:
    """Tell whether each order of a condition is one of an earlier condition, which counts first."""
    return all(
        any(each.matches(level, category) for each in earlier)
        for level in _values(when.shop_levels)
        for category in _values(when.categories)
    )


def _values(names: tuple[str, ...] | None) -> tuple[str | None, ...]:
    # Where any value will do, an order without one stands for those that nothing names.
    return (None,) if names is None else names


def _deadlines(policy: Policy, name: str) -> Iterator[tuple[Path, Deadline]]:
    kind, path = policy.kinds[name], ("violation", name)
    for mode, deadline in kind.deadlines.items():
        yield (*path, "deadline", mode), deadline
    for place, other in enumerate(kind.instead):
        for mode, deadline in other.deadlines.items():
            yield (*path, "instead", place, "deadline", mode), deadline


def _of_texts(value: Any, path: Path) -> Iterator[_Warning]:
    """Find what only the file's own words show: a policy has milliseconds."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _of_texts(each, (*path, key))
    match = _DAYS_AFTER_MIDNIGHT.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        days, start = int(match[1]), match[2]
        yield (
            path,
            (
                f"counts {counted(days, 'day')} of 24 hours from that midnight on. Write "
                f'"end of the day {24 * days}h after {start}" if this is meant, or '
                f'"{days} calendar days after {start}"'
            ),
        )


def _terms(policy: Policy) -> int:
    whens = [other.when for kind in policy.kinds.values() for other in kind.instead]
    whens += [other.when for account in policy.accounts for other in account.instead]
    levels = {name for when in whens for name in when.shop_levels or ()}
    categories = {name for when in whens for name in when.categories or ()}
    return len(policy.modes) * (len(levels) + 1) * (len(categories) + 1)


def _of_accounts(policy: Policy) -> Iterator[_Warning]:
    for place, account in enumerate(policy.accounts):
        path: Path = ("account", place)
        for number, other in enumerate(account.instead):
            earlier = account.instead[:number]
            amounts = [each.when for each in earlier if each.amount is not None]
            caps = [each.when for each in earlier if each.caps is not None]
            if (other.amount is None or _covered(other.when, amounts)) and (
                other.caps is None or _covered(other.when, caps)
            ):
                yield (*path, "instead", number), _NEVER_COUNTS
        told: dict[_Warning, None] = {}
        for when in ((None, None), *_groups(account)):
            amount, limits = account.amount_for(when), account.caps_for(when)
            for cap in limits:
                message = _too_low(cap, amount, account.unit)
                if message is not None:
                    names = zip(("shop level", "category"), when, strict=True)
                    whose = ", ".join(f"{what} {name}" for what, name in names if name is not None)
                    message += f" ({whose})" if whose else ""
                    key = "rolling" if cap.span == "rolling" else f"per_{cap.span}"
                    instead = [each.caps is limits for each in account.instead]
                    at = ("instead", instead.index(True)) if any(instead) else ()
                    told[(*path, *at, "caps", key), message] = None
        yield from told
    charged = {kind for account in policy.accounts for kind in account.kinds}
    if policy.accounts:
        for name in policy.kinds:
            if name not in charged:
                yield ("violation", name), "costs nothing: no [[account]] has it among its kinds"


def _groups(account: Account) -> Iterator[tuple[str | None, str | None]]:
    """Name a shop level and a category of each kind of order that an account tells apart."""
    for other in account.instead:
        for level in _values(other.when.shop_levels):
            for category in _values(other.when.categories):
                yield level, category


def _too_low(cap: Cap, amount: Amount, unit: str) -> str | None:
    """Say so if a cap is below what some violations cost at least, so that they cost nothing."""
    if cap.span == "order":
        return None
    charges = [charge for charge in _least_charges(amount) if charge]
    above = [charge for charge in charges if charge > cap.limit]
    if not above:
        return None
    said = f"of {money(cap.limit, unit)} is below one charge of {money(min(above), unit)}: "
    if len(above) == len(charges):
        return f"{said}it would never charge"
    return f"{said}orders that cost so much would not be charged at all"


def _least_charges(amount: Amount) -> Iterator[int]:
    """Yield the least that one violation costs, tier by tier."""
    first = 0
    for tier in amount.tiers:
        share = first * tier.per_mille // 1_000
        charge = max(tier.flat + share, tier.at_least)
        yield charge if tier.at_most is None else min(charge, tier.at_most)
        first = 0 if tier.up_to is None else tier.up_to + 1


def _of_exemptions(policy: Policy) -> Iterator[_Warning]:
    for place, exemption in enumerate(policy.exemptions):
        path: Path = ("exemption", place, "for")
        scope: Scope | None = exemption.scope
        while scope is not None:
            yield from ((path, message) for message in _of_scope(scope, policy))
            scope, path = scope.not_, (*path, "not")


def _of_scope(scope: Scope, policy: Policy) -> Iterator[str]:
    for name in scope.__struct_fields__:
        if getattr(scope, name) == []:
            yield f"matches no order: {name} is empty"
    for mode in scope.shipping_modes or ():
        if mode not in policy.modes:
            modes = ", ".join(policy.modes) or "none"
            yield f"names mode {mode}, which no kind has a deadline for; modes: {modes}"
    named = scope.platforms
    if named and policy.platform not in (*named, ANY_PLATFORM):
        yield f"matches no order: these rules are of platform {policy.platform}"


def _of_calendar(policy: Policy) -> Iterator[_Warning]:
    week = policy.work_week
    counting = [
        path
        for name in policy.kinds
        for path, deadline in _deadlines(policy, name)
        if deadline.form == "working-days"
    ]
    counting += [
        ("exemption", place, "deadline")
        for place, exemption in enumerate(policy.exemptions)
        if parse_deadline(exemption.effect.limit or "as agreed").form == "working-days"
    ]
    stated = week.weekend or week.holidays or week.days_off or week.make_up_days
    if (stated or week.cut_off is not None) and not counting:
        yield ("working_days",), "has no effect: no deadline is in working days"
    if counting and not (week.weekend or week.holidays):
        yield counting[0], "counts every day: [working_days] has neither weekend nor holidays"
    since = _partly_known_since(week)
    if since is not None:
        message = (
            f"{week.holidays}: not all are known from {since} on; from then on deadlines "
            "count holidays as working days, until days_off names them"
        )
        yield ("working_days", "holidays"), message


def _partly_known_since(week: WorkWeek) -> int | None:
    """Return the year from which on a country's holidays are not all known; `None` if they are."""
    if week.holidays is None:
        return None
    known = Counter(date.fromordinal(day).year for day in week.holiday_ordinals)
    usual = median_low(known[year] for year in _KNOWN_YEARS)
    known.update(date.fromordinal(day).year for day in week.days_off)
    since = None
    for year in reversed(_FUTURE_YEARS):
        if known[year] and known[year] * 100 >= usual * _ENOUGH_PERCENT:
            break
        since = year
    return since


def _of_versions(found: Sequence[tuple[PolicyFile, Policy]]) -> Iterator[Mistake]:
    by_platform: dict[str, list[tuple[PolicyFile, Policy]]] = {}
    for file, policy in found:
        by_platform.setdefault(policy.platform, []).append((file, policy))
    for versions in by_platform.values():
        versions.sort(key=lambda each: each[1].effective_from or -1)
        if versions[0][1].effective_from is not None:
            file, policy = versions[0]
            yield _placed(
                file, ("effective_from",),
                f"starts the first rules of platform {policy.platform}: older orders are refused "
                "as no-policy",
            )  # fmt: skip
        for (_, former), (file, newer) in pairwise(versions):
            if former.effective_from is not None and former.effective_by != newer.effective_by:
                yield _placed(
                    file, ("effective_by",),
                    f"is {newer.effective_by}, of {former.label} it is {former.effective_by}: "
                    "orders between the two starts are judged by whichever applies to them",
                )  # fmt: skip
            gone = [mode for mode in former.modes if mode not in newer.modes]
            if gone:
                yield _placed(
                    file, ("violation",),
                    f"lacks mode {', '.join(gone)} of {former.label}: such orders are refused from "
                    "its start on",
                )  # fmt: skip
