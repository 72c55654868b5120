"""The rules of all platforms and times: which version an order is judged by, and what it says.

What lives here: the choice of a version, and of a version the part that concerns an order. What
must not: what the rules come to (the other files of this room).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


class Clocked(NamedTuple):
    """A kind as it holds for an order: `deadline` is `None` if it has no clock for the mode."""

    name: str
    kind: Kind
    deadline: Deadline | None


class Terms(NamedTuple):
    """What a version says of orders of one mode, shop level and category."""

    version: Version
    kinds: tuple[Clocked, ...]


class Version:
    """A policy made ready to judge by.

    Attributes:
        modes: The shipping modes it defines, as keys.
        clock: Its calendar and deadlines.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.clock = Clock(policy.time_zone, policy.work_week)
        self.modes = dict.fromkeys(policy.modes)
        self._levels = _named(policy, "shop_levels")
        self._categories = _named(policy, "categories")
        self._terms: dict[tuple[str, str | None, str | None], Terms] = {}
        self._costs: dict[str, tuple[tuple[Account, ...], tuple[Sanction, ...]]] = {}

    def terms(self, mode: str, shop_level: str | None, category: str | None) -> Terms:
        """Return what holds for the orders of a mode, shop level and category."""
        # Levels and categories that no rule names are all the same.
        level = shop_level if shop_level in self._levels else None
        category = category if category in self._categories else None
        key = mode if mode in self.modes else "", level, category
        found = self._terms.get(key)
        if found is None:
            kinds = tuple(
                Clocked(name, kind, kind.deadline_for(mode, level, category))
                for name, kind in self.policy.kinds.items()
            )
            found = self._terms[key] = Terms(self, kinds)
        return found

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
        for policy in sorted(policies, key=_start, reverse=True):
            of_platform = self.versions.get(policy.platform, ())
            self.versions[policy.platform] = (*of_platform, Version(policy))
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

    def terms_of(self, order: Order) -> Terms | None:
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
