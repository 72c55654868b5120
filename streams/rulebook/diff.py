"""What differs between two sets of rules, in words.

What lives here: which parts are compared with which. What must not: the words (`words`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import NamedTuple, TypeVar

from streams.core.rules.policy import Account, Kind, Policy, Sanction
from streams.rulebook import words
from streams.rulebook.values import WEEKDAYS, time_of_day_text

T = TypeVar("T")
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


def differences(before: Sequence[Policy], now: Sequence[Policy]) -> list[Difference]:
    """Compare two rulebooks, platform by platform, version by version in order of their starts."""
    found: list[Difference] = []
    platforms = dict.fromkeys(policy.platform for policy in (*before, *now))
    if (
        len(dict.fromkeys(p.platform for p in before))
        == 1
        == len(dict.fromkeys(p.platform for p in now))
    ):
        # Rules of another platform are compared as a whole: that is what was asked for.
        found += _one("platform", before[0].platform, now[0].platform)
        found += _versions(before, now)
        return found
    for platform in platforms:
        found += _versions(
            [policy for policy in before if policy.platform == platform],
            [policy for policy in now if policy.platform == platform],
        )
    return found


def _versions(before: Sequence[Policy], now: Sequence[Policy]) -> Iterator[Difference]:
    olds, news = (sorted(each, key=lambda p: p.effective_from or -1) for each in (before, now))
    while olds and news:
        # The latest of both sides are one rule and its successor.
        yield from _policies(olds.pop(), news.pop())
    for policy in reversed(olds):
        yield Difference(f"rules {policy.label}", _since(policy), None)
    for policy in reversed(news):
        yield Difference(f"rules {policy.label}", None, _since(policy))


def _policies(old: Policy, new: Policy) -> Iterator[Difference]:
    yield from _one("rules", old.label, new.label)
    yield from _one("for orders", _since(old), _since(new))
    yield from _one("time zone", old.time_zone, new.time_zone)
    yield from _one(
        "orders that name no platform",
        "are these rules'" if old.default_platform else None,
        "are these rules'" if new.default_platform else None,
    )
    yield from _one("an unshipped order closes", _closure(old), _closure(new))
    for name in dict.fromkeys([*old.kinds, *new.kinds]):
        yield from _kinds(name, old.kinds.get(name), new.kinds.get(name), old, new)
    yield from _matched("account", old.accounts, new.accounts, _account_name, words.account_words)
    yield from _matched(
        "sanction", old.sanctions, new.sanctions, _sanction_name,
        lambda each: words.sanction_words(each, _unit(each, new if each in new.sanctions else old)),
    )  # fmt: skip
    yield from _matched(
        "exemption", old.exemptions, new.exemptions, lambda each: each.exemption_id,
        lambda each: words.exemption_words(each, new.time_zone),
    )  # fmt: skip
    if [each.exemption_id for each in old.exemptions] != [
        each.exemption_id for each in new.exemptions
    ] and {each.exemption_id for each in old.exemptions} == {
        each.exemption_id for each in new.exemptions
    }:
        yield _one_of("order of exemptions", old, new)
    yield from _work_weeks(old, new)
    for about, section in (("retention", "retention"), ("processing", "processing")):
        for field in getattr(old, section).__struct_fields__:
            a, b = getattr(getattr(old, section), field), getattr(getattr(new, section), field)
            write = words.length_words
            if field == "earliest":
                yield from _one(
                    f"{about}: {field}", words.instant_words(a, old.time_zone),
                    words.instant_words(b, new.time_zone),
                )  # fmt: skip
            else:
                yield from _one(f"{about}: {field.replace('_', ' ')}", write(a), write(b))


def _one_of(about: str, old: Policy, new: Policy) -> Difference:
    names = [", ".join(e.exemption_id for e in each.exemptions) for each in (old, new)]
    return Difference(about, names[0], names[1])


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


def _kinds(
    name: str, old: Kind | None, new: Kind | None, before: Policy, now: Policy
) -> Iterator[Difference]:
    olds = {} if old is None else old.deadlines
    news = {} if new is None else new.deadlines
    for mode in dict.fromkeys([*olds, *news]):
        due = [
            f"due {words.deadline_words(deadlines[mode], policy.time_zone)}"
            if mode in deadlines
            else None
            for deadlines, policy in ((olds, before), (news, now))
        ]
        yield from _one(f"{name}, order in mode {mode}", due[0], due[1])
    if old is None or new is None:
        return
    yield from _one(
        f"{name}, the clock is stopped by", words.until_words(old.until),
        words.until_words(new.until),
    )  # fmt: skip
    yield from _one(f"{name}, found again", _repeats(old), _repeats(new))
    yield from _one(f"{name}, the shop is warned", _warnings(old), _warnings(new))
    yield from _one(f"{name}, a fact exactly at the deadline is", _limit(old), _limit(new))
    yield from _one(f"{name}, scans", _parcels(old), _parcels(new))
    yield from _one(f"{name}, other deadlines", _instead(old, before), _instead(new, now))


def _repeats(kind: Kind) -> str:
    if kind.times == 1:
        return "never"
    return f"every {words.length_words(kind.every)}, {kind.times} times in all"


def _warnings(kind: Kind) -> str:
    leads = [words.length_words(lead) for lead in kind.warn_before]
    return f"{' and '.join(leads)} before" if leads else "never"


def _limit(kind: Kind) -> str:
    return "in time" if kind.on_time_at_limit else "late"


def _parcels(kind: Kind) -> str:
    return "each number needs one" if kind.parcels == "all" else "one number's suffices"


def _instead(kind: Kind, policy: Policy) -> str:
    parts = [
        f"for {words.when_words(other.when)} "
        + ", ".join(
            f"{mode} {words.deadline_words(deadline, policy.time_zone)}"
            for mode, deadline in other.deadlines.items()
        )
        for other in kind.instead
    ]
    return "; ".join(parts) or "none"


def _account_name(account: Account) -> str:
    return f"{account.name} ({', '.join(account.kinds)})"


def _sanction_name(sanction: Sanction) -> str:
    return f"{sanction.action} ({', '.join(sanction.counts)})"


def _unit(sanction: Sanction, policy: Policy) -> str:
    units = [each.unit for each in policy.accounts if each.name == sanction.account]
    return units[0] if units else ""


def _matched(
    what: str, olds: Sequence[T], news: Sequence[T], name: Callable[[T], str],
    say: Callable[[T], str],
) -> Iterator[Difference]:  # fmt: skip
    """Compare the parts of two lists that have one name, the n-th of a name with the n-th."""
    sides: list[dict[tuple[str, int], T]] = []
    for parts in (olds, news):
        side: dict[tuple[str, int], T] = {}
        for part in parts:
            key = name(part)
            side[key, sum(each[0] == key for each in side)] = part
        sides.append(side)
    before, now = sides
    for place in dict.fromkeys([*before, *now]):
        old, new = before.get(place), now.get(place)
        if old != new:
            yield Difference(
                f"{what} {place[0]}",
                None if old is None else say(old),
                None if new is None else say(new),
            )


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
        gone = _dates([day for day in olds if day not in frozenset(news)])
        come = _dates([day for day in news if day not in frozenset(olds)])
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
