"""What differs between two sets of rules, in words.

What lives here: which parts are compared with which. What must not: the words (`words`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from streams.core.rules.policy import Policy
from streams.rulebook import words
from streams.rulebook.values import WEEKDAYS, time_of_day_text

_DAYS_SHOWN_MAX = 5


class Difference(NamedTuple):
    """One thing that differs; `None` where one side has nothing of it."""

    about: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.about}: new: {self.now}"
        if self.now is None:
            return f"{self.about}: no longer; before: {self.before}"
        return f"{self.about}: now {self.now}; before: {self.before}"


_Of = tuple[Policy, Difference]
"""What differs, and the rules it is about."""
_Named = tuple[str, str]
"""A part of a list: its name, by which two lists are compared, and its words."""


def differences(before: Sequence[Policy], now: Sequence[Policy]) -> list[Difference]:
    """Compare two rulebooks, platform by platform, each version with the one it takes over from.

    Where a rulebook has several versions, each difference names the rules it is about.
    """
    sides = (before, now)
    found: list[_Of] = []
    if all(len({policy.platform for policy in side}) == 1 for side in sides):
        # Rules of another platform are compared as a whole: that is what was asked for.
        named = _one("platform", before[0].platform, now[0].platform)
        found = [(now[0], each) for each in named]
        found += _versions(before, now)
    else:
        for platform in dict.fromkeys(policy.platform for policy in (*before, *now)):
            olds, news = ([each for each in side if each.platform == platform] for side in sides)
            found += _versions(olds, news)
    if max(map(len, sides)) == 1:
        return [each for _, each in found]
    return [each._replace(about=f"{rules.label}: {each.about}") for rules, each in found]


def _versions(before: Sequence[Policy], now: Sequence[Policy]) -> Iterator[_Of]:
    """Compare versions with the same start, then the rest from the latest on.

    What one side alone has is told as such, and compared with what the other has for its orders.
    """
    news = {_start(policy): policy for policy in now}
    same = [policy for policy in before if _start(policy) in news]
    pairs = [(old, news.pop(_start(old))) for old in same]
    olds = sorted((old for old in before if old not in same), key=_start)
    rest = sorted(news.values(), key=_start)
    while olds and rest:
        pairs.append((olds.pop(), rest.pop()))
    for old, new in sorted(pairs, key=lambda pair: _start(pair[1]), reverse=True):
        for each in _policies(old, new):
            yield new, each
    for policy in reversed(rest):
        yield policy, Difference("rules", None, f"for orders {_since(policy)}")
        for old in _in_force(before, policy):
            for each in _rules(old, policy):
                yield policy, each
    for policy in reversed(olds):
        yield policy, Difference("rules", f"for orders {_since(policy)}", None)
        for new in _in_force(now, policy):
            for each in _rules(policy, new):
                yield policy, each


def _start(policy: Policy) -> int:
    return -1 if policy.effective_from is None else policy.effective_from


def _in_force(policies: Sequence[Policy], other: Policy) -> list[Policy]:
    """Return the version that judges the orders from the start of another on, if there is one."""
    earlier = [policy for policy in policies if _start(policy) <= _start(other)]
    return sorted(earlier, key=_start)[-1:]


def _policies(old: Policy, new: Policy) -> Iterator[Difference]:
    yield from _one("rules", old.label, new.label)
    yield from _one("for orders", _since(old), _since(new))
    yield from _rules(old, new)


def _rules(old: Policy, new: Policy) -> Iterator[Difference]:
    """Compare what two versions say of the orders that they judge."""
    yield from _one("time zone", old.time_zone, new.time_zone)
    yield from _one(
        "orders that name no platform",
        "are these rules'" if old.default_platform else None,
        "are these rules'" if new.default_platform else None,
    )
    yield from _one("an unshipped order closes", _closure(old), _closure(new))
    for name in dict.fromkeys([*old.kinds, *new.kinds]):
        yield from _kinds(name, old, new)
    yield from _matched("account", old, new, _accounts)
    yield from _matched("sanction", old, new, _sanctions)
    yield from _matched("exemption", old, new, _exemptions)
    yield from _work_weeks(old, new)
    for section in ("retention", "processing"):
        for field in getattr(old, section).__struct_fields__:
            a, b = (
                words.instant_words(getattr(getattr(policy, section), field), policy.time_zone)
                if field == "earliest"
                else words.length_words(getattr(getattr(policy, section), field))
                for policy in (old, new)
            )
            yield from _one(f"{section}: {field.replace('_', ' ')}", a, b)


def _one(about: str, before: str | None, now: str | None) -> Iterator[Difference]:
    if before != now:
        yield Difference(about, before, now)


def _since(policy: Policy) -> str:
    if policy.effective_from is None:
        return "from the beginning"
    at = words.instant_words(policy.effective_from, policy.time_zone)
    return f"{policy.effective_by} from {at} on"


def _closure(policy: Policy) -> str | None:
    closes = policy.close_unshipped
    return None if closes is None else f"{words.length_words(closes)} after placing"


def _kinds(name: str, before: Policy, now: Policy) -> Iterator[Difference]:
    old, new = before.kinds.get(name), now.kinds.get(name)
    if old is None or new is None:
        sides = (
            None if kind is None else words.kind_words(kind, policy.time_zone)
            for kind, policy in ((old, before), (new, now))
        )
        yield from _one(f"violation {name}", *sides)
        return
    for mode in dict.fromkeys([*old.deadlines, *new.deadlines]):
        due = (
            f"due {words.deadline_words(kind.deadlines[mode], policy.time_zone)}"
            if mode in kind.deadlines
            else None
            for kind, policy in ((old, before), (new, now))
        )
        yield from _one(f"{name}, order in mode {mode}", *due)
    for about, write in (
        ("the clock is stopped by", lambda kind: words.until_words(kind.until)),
        ("found again", words.repeats_words),
        ("the shop is warned", words.warnings_words),
        ("a fact exactly at the deadline is", words.limit_words),
        ("parcels", words.parcels_words),
    ):
        yield from _one(f"{name}, {about}", write(old), write(new))
    instead = (
        words.other_deadlines_words(kind, policy.time_zone)
        for kind, policy in ((old, before), (new, now))
    )
    yield from _one(f"{name}, other deadlines", *instead)


def _accounts(policy: Policy) -> list[_Named]:
    return [
        (f"{each.name} ({', '.join(each.kinds)})", words.account_words(each))
        for each in policy.accounts
    ]


def _sanctions(policy: Policy) -> list[_Named]:
    units = {each.name: each.unit for each in reversed(policy.accounts)}
    return [
        (
            f"{each.action} ({', '.join(each.counts)})",
            words.sanction_words(each, units.get(each.account, "")),
        )
        for each in policy.sanctions
    ]


def _exemptions(policy: Policy) -> list[_Named]:
    zone = policy.time_zone
    return [(each.exemption_id, words.exemption_words(each, zone)) for each in policy.exemptions]


def _matched(
    what: str, old: Policy, new: Policy, said: Callable[[Policy], list[_Named]]
) -> Iterator[Difference]:
    """Compare two lists: the n-th of a name with the n-th, and the order of what both have."""
    before, now = (_by_name(said(side)) for side in (old, new))
    for key in dict.fromkeys([*before, *now]):
        yield from _one(f"{what} {key[0]}", before.get(key), now.get(key))
    orders = (
        "; ".join(key[0] for key in side if key in before and key in now) for side in (before, now)
    )
    yield from _one(f"order of {what}s", *orders)


def _by_name(named: list[_Named]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for name, said in named:
        found[name, sum(key[0] == name for key in found)] = said
    return found


def _work_weeks(old: Policy, new: Policy) -> Iterator[Difference]:
    a, b = old.work_week, new.work_week
    weekends = [", ".join(WEEKDAYS[day] for day in week.weekend) or "none" for week in (a, b)]
    yield from _one("weekend", weekends[0], weekends[1])
    yield from _one("public holidays of", a.holidays, b.holidays)
    for about, olds, news in (
        ("public holidays", a.holiday_ordinals, b.holiday_ordinals),
        ("days off", a.days_off, b.days_off),
        ("make-up days", a.make_up_days, b.make_up_days),
    ):
        was, will = frozenset(olds), frozenset(news)
        gone = _dates([day for day in olds if day not in will])
        come = _dates([day for day in news if day not in was])
        yield from _one(f"{about} that the other does not have", gone, come)
    cuts = [
        None if week.cut_off is None else f"from {time_of_day_text(week.cut_off)} on"
        for week in (a, b)
    ]
    yield from _one("orders count for the next day", cuts[0], cuts[1])


def _dates(ordinals: list[int]) -> str | None:
    shown = [date.fromordinal(day).isoformat() for day in ordinals[:_DAYS_SHOWN_MAX]]
    more = len(ordinals) - len(shown)
    return (", ".join(shown) + (f" and {more} more" if more else "")) or None
