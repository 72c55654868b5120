"""The rules of all platforms and times: which version an order is judged by, and what it says.

What lives here: the choice of a version, and of a version the part that concerns an order. What
must not: what the rules come to (the other files of this room).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

from streams.core.facts.events import OrderPaid
from streams.core.facts.order import Order
from streams.core.rules.deadlines import Clock
from streams.core.rules.policy import (
    BAN,
    Account,
    Cap,
    Deadline,
    Kind,
    Policy,
    Processing,
    Sanction,
    reach_days,
)
from streams.core.time.calendar import Calendar, longest_days

ANY_PLATFORM = "any"
"""The platform of a policy that names none: it takes every order, and stands alone."""


NUMBER_MAX = 0xFFFF
"""The largest number that a state can carry."""
_Group = tuple[str, str | None, str | None]


class Clocked(NamedTuple):
    """A kind as it holds for an order: `deadline` is `None` if it has no clock for the mode."""

    name: str
    kind: Kind
    deadline: Deadline | None


class Terms(NamedTuple):
    """What a version says of orders of one mode, shop level and category."""

    version: Version
    kinds: tuple[Clocked, ...]
    number: int
    """Names this part of a rulebook in states; 0: the mode is not one of the version's."""


class Version:
    """A policy made ready to judge by.

    Attributes:
        modes: The shipping modes it defines, as keys.
        clock: Its calendar and deadlines.
    """

    def __init__(self, policy: Policy, numbers: Iterator[int]) -> None:
        self.policy = policy
        self.clock = Clock(policy.time_zone, policy.work_week)
        self.modes = dict.fromkeys(policy.modes)
        self.shop_levels = _named(policy, "shop_levels")
        self.categories = _named(policy, "categories")
        self._terms: dict[_Group, Terms] = {}
        for mode in self.modes:
            for level in (None, *self.shop_levels):
                for category in (None, *self.categories):
                    group = mode, level, category
                    self._terms[group] = self._terms_for(group, next(numbers))
        self._costs: dict[str, tuple[tuple[Account, ...], tuple[Sanction, ...]]] = {}

    def terms(self, mode: str, shop_level: str | None, category: str | None) -> Terms:
        """Return what holds for the orders of a mode, shop level and category."""
        # Levels and categories that no rule names are all the same.
        level = shop_level if shop_level in self.shop_levels else None
        category = category if category in self.categories else None
        group = mode, level, category
        found = self._terms.get(group)
        return self._terms_for(group, 0) if found is None else found

    @property
    def all_terms(self) -> Iterable[tuple[tuple[str, str | None, str | None], Terms]]:
        """Every mode, shop level and category that is told apart, with what holds for it."""
        return self._terms.items()

    def _terms_for(self, group: _Group, number: int) -> Terms:
        kinds = tuple(
            Clocked(name, kind, kind.deadline_for(*group))
            for name, kind in self.policy.kinds.items()
        )
        return Terms(self, kinds, number if number <= NUMBER_MAX else 0)

    def accounts(self, kind: str) -> tuple[Account, ...]:
        """Return the accounts that a violation of a kind is charged to, in the file's order."""
        return self._of_kind(kind)[0]

    def sanctions(self, kind: str) -> tuple[Sanction, ...]:
        """Return the sanctions that count violations of a kind, in the file's order."""
        return self._of_kind(kind)[1]

    def _of_kind(self, kind: str) -> tuple[tuple[Account, ...], tuple[Sanction, ...]]:
        found = self._costs.get(kind)
        if found is None:
            accounts = tuple(each for each in self.policy.accounts if kind in each.kinds)
            sanctions = tuple(each for each in self.policy.sanctions if kind in each.counts)
            found = self._costs[kind] = accounts, sanctions
        return found


class Rulebook:
    """All versions of all platforms.

    Attributes:
        versions: By platform, the one that starts last first.
        processing: How events are taken, whatever their platform.
        default_platform: The platform of orders that name none; `None` if they must name one.
        kinds: Every kind of any version, with the most determinations it may have.
        has_account: Whether any violation costs its shop anything.
        acts_on_shops: Whether any sanction is an action on a whole shop.
        calendar: For what no rules judge any more.
        looks_back_days: How many local days before its week a violation's cap or sanction may look
            back, at most.
        known_ms: How long after its placing an order may still be known, at most.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.policies = tuple(policies)
        self.versions: dict[str, tuple[Version, ...]] = {}
        numbers = count(1)
        for policy in sorted(policies, key=_start, reverse=True):
            of_platform = self.versions.get(policy.platform, ())
            self.versions[policy.platform] = (*of_platform, Version(policy, numbers))
        self.processing: Processing = policies[0].processing
        defaults = [each.platform for each in policies if each.default_platform]
        platforms = list(self.versions)
        self.default_platform = (
            defaults[0] if defaults else platforms[0] if len(platforms) == 1 else None
        )
        self.kinds: dict[str, int] = {}
        for policy in policies:
            for name, kind in policy.kinds.items():
                self.kinds[name] = max(kind.times, self.kinds.get(name, 0))
        self.has_account = any(policy.has_account for policy in policies)
        sanctions = [each for policy in policies for each in policy.sanctions]
        self.acts_on_shops = any(each.action != BAN for each in sanctions)
        self.calendar: Calendar = self.versions[platforms[0]][0].clock.calendar
        self.looks_back_days = max([0, *map(_looks_back_days, _caps(policies))])
        self.looks_back_days = max([self.looks_back_days, *map(reach_days, sanctions)])
        self.known_ms = max(
            (policy.close_unshipped or 0) + max(policy.retention.clean, policy.retention.violated)
            for policy in policies
        )

    def __reduce__(self) -> tuple[type[Rulebook], tuple[tuple[Policy, ...]]]:
        # What is made ready of the policies is made again where it is used.
        return Rulebook, (self.policies,)

    @property
    def label(self) -> str:
        """All versions, `name@version` joined by `+`."""
        return "+".join(policy.label for policy in self.policies)

    @property
    def digest(self) -> str:
        """Identify what all versions say, whatever their names."""
        if len(self.policies) == 1:
            return self.policies[0].digest
        said = "+".join(sorted(policy.digest for policy in self.policies))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def modes(self) -> list[str]:
        """The shipping modes of all versions, in the order of the policies."""
        return list(dict.fromkeys(mode for policy in self.policies for mode in policy.modes))

    @property
    def time_zone(self) -> str:
        """The first policy's: for instants of no order."""
        return self.policies[0].time_zone

    def platform_of(self, platform: str | None) -> str | None:
        """Return the platform whose rules hold for an order that names one, or none.

        `None` if no rules do.
        """
        if ANY_PLATFORM in self.versions:
            return ANY_PLATFORM
        if platform is None:
            return self.default_platform
        return platform if platform in self.versions else None

    def version_of(self, platform: str | None, placed_at: int, paid_at: int) -> Version | None:
        """Return the version that an order is judged by, by its own facts alone; `None` if none is.

        Args:
            platform: As the order names it.
        """
        found = self.platform_of(platform)
        if found is None:
            return None
        for version in self.versions[found]:
            policy = version.policy
            since = policy.effective_from
            if since is None or since <= (paid_at if policy.effective_by == "paid" else placed_at):
                return version
        return None

    def why_none(self, platform: str | None) -> str:
        """Say why no version applies to an order that names this platform, or none."""
        found = self.platform_of(platform)
        platforms = ", ".join(sorted(self.versions))
        if found is not None:
            first = self.versions[found][-1].policy
            return (
                f"the order is older than the first rules of platform {found}, which start with "
                f"{first.label} (effective_by {first.effective_by})"
            )
        if platform is None:
            return f"the order names no platform, and the rules are for several: {platforms}"
        return f"there are no rules for platform {platform}; the rules are for {platforms}"

    def terms_of(self, order: Order | OrderPaid) -> Terms | None:
        """Return what an order is judged by, `None` if no version applies."""
        version = self.version_of(order.platform, order.placed_at, order.paid_at)
        if version is None:
            return None
        return version.terms(order.shipping_mode, order.shop_level, order.category)


def _caps(policies: Sequence[Policy]) -> Iterable[Cap]:
    for policy in policies:
        for account in policy.accounts:
            yield from account.caps
            for other in account.instead:
                yield from other.caps or ()


def _looks_back_days(cap: Cap) -> int:
    if cap.span == "order" or cap.span == "day" or cap.span == "week":
        return 0
    return longest_days(cap.span, cap.days)


def _start(policy: Policy) -> int:
    return -1 if policy.effective_from is None else policy.effective_from


def _named(policy: Policy, field: str) -> dict[str, None]:
    """Collect the shop levels or categories that any rule of a policy tells apart."""
    instead = [
        *(other.when for kind in policy.kinds.values() for other in kind.instead),
        *(other.when for account in policy.accounts for other in account.instead),
    ]
    lists: Iterable[Sequence[str] | None] = (getattr(when, field) for when in instead)
    return {name: None for names in lists for name in names or ()}
