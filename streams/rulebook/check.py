"""What a policy file says that is allowed and probably not meant.

What lives here: warnings. What must not: mistakes, which the reader finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise

from streams.core.facts.money import money
from streams.core.rules.policy import Account, Policy
from streams.core.words import counted
from streams.rulebook.holidays import LAST_YEAR
from streams.rulebook.lines import Path, line_of, lines_of, path_text
from streams.rulebook.loading import PolicyFile
from streams.rulebook.walk import Mistake

# A lunar calendar is only predicted so far ahead; below this a country's list is incomplete.
_HOLIDAYS_A_YEAR_MIN = 3
_TERMS_MAX = 1_000


def warnings(found: Sequence[tuple[PolicyFile, Policy]]) -> list[Mistake]:
    """List what is allowed and probably not meant, file by file, by line."""
    listed = [
        _placed(file, path, message)
        for file, policy in found
        for path, message in (*_of_kinds(policy), *_of_accounts(policy), *_of_calendar(policy))
    ]
    listed += _of_versions(found)
    return sorted(listed, key=lambda each: (each.origin, each.line))


def _placed(file: PolicyFile, path: Path, message: str) -> Mistake:
    return Mistake(file.origin, line_of(lines_of(file.text), path) or 0, path_text(path), message)


def _of_kinds(policy: Policy) -> Iterator[tuple[Path, str]]:
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
            for before in kind.instead[:place]:
                if before.when == other.when and set(other.deadlines) <= set(before.deadlines):
                    yield (
                        (*path, "instead", place),
                        "never counts: an earlier one is for the same orders",
                    )
        if kind.times == 1 and kind.every != 86_400_000:
            yield (*path, "every"), "has no effect, as times is 1"
    levels = _terms(policy)
    if levels > _TERMS_MAX:
        yield (), f"tells apart {counted(levels, 'group')} of modes, shop levels and categories"


def _terms(policy: Policy) -> int:
    whens = [other.when for kind in policy.kinds.values() for other in kind.instead]
    whens += [other.when for account in policy.accounts for other in account.instead]
    levels = {name for when in whens for name in when.shop_levels or ()}
    categories = {name for when in whens for name in when.categories or ()}
    return len(policy.modes) * (len(levels) + 1) * (len(categories) + 1)


def _of_accounts(policy: Policy) -> Iterator[tuple[Path, str]]:
    for place, account in enumerate(policy.accounts):
        charge = _least_charge(account)
        for cap in account.caps:
            if cap.span != "order" and cap.limit < charge:
                key = "rolling" if cap.span == "rolling" else f"per_{cap.span}"
                limit, least = money(cap.limit, account.unit), money(charge, account.unit)
                message = f"of {limit} is below one charge of {least}: it would never charge"
                yield ("account", place, "caps", key), message
    charged = {kind for account in policy.accounts for kind in account.kinds}
    if policy.accounts:
        for name in policy.kinds:
            if name not in charged:
                yield ("violation", name), "costs nothing: no [[account]] has it among its kinds"


def _least_charge(account: Account) -> int:
    """Return the least that one violation costs, where it costs anything."""
    charges = [max(tier.flat, tier.at_least) for tier in account.amount.tiers if not tier.per_mille]
    charges += [tier.at_least for tier in account.amount.tiers if tier.per_mille]
    return min([charge for charge in charges if charge], default=0)


def _of_calendar(policy: Policy) -> Iterator[tuple[Path, str]]:
    week = policy.work_week
    counting: list[Path] = [
        ("violation", name, "deadline", mode)
        for name, kind in policy.kinds.items()
        for deadlines in (kind.deadlines, *(other.deadlines for other in kind.instead))
        for mode, deadline in deadlines.items()
        if deadline.form == "working-days"
    ]
    stated = week.weekend or week.holidays or week.days_off or week.make_up_days or week.cut_off
    if stated and not counting:
        yield ("working_days",), "has no effect: no deadline is in working days"
    if counting and not (week.weekend or week.holidays):
        yield counting[0], "counts every day: [working_days] has neither weekend nor holidays"
    if week.holidays is not None:
        years: dict[int, int] = {}
        for ordinal in week.holiday_ordinals:
            year = date.fromordinal(ordinal).year
            years[year] = years.get(year, 0) + 1
        missing = [
            year for year in range(2026, LAST_YEAR + 1) if years.get(year, 0) < _HOLIDAYS_A_YEAR_MIN
        ]
        if missing:
            message = (
                f"{week.holidays}: not all are known from {missing[0]} on; from then on deadlines "
                "count holidays as working days, until days_off names them"
            )
            yield ("working_days", "holidays"), message


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
        for (_, older), (file, newer) in pairwise(versions):
            if older.effective_from is not None and older.effective_by != newer.effective_by:
                yield _placed(
                    file, ("effective_by",),
                    f"is {newer.effective_by}, of {older.label} it is {older.effective_by}: orders "
                    "between the two starts are judged by whichever applies to them",
                )  # fmt: skip
            gone = [mode for mode in older.modes if mode not in newer.modes]
            if gone:
                yield _placed(
                    file, ("violation",),
                    f"lacks mode {', '.join(gone)} of {older.label}: such orders are refused from "
                    "its start on",
                )  # fmt: skip
