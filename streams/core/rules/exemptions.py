"""The exemptions of a partition: which of them cover an order, and what they do to its deadlines.

What lives here: scopes, effects, and what each exemption is looked up by. What must not: where a
deadline comes from (`deadlines`) and what follows from it (`judging`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple

from streams.core.facts.events import Effect, ExemptionGranted, Scope
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.order import Subject
from streams.core.rules.phrases import parse_deadline
from streams.core.rules.policy import Deadline

_GRANT_ORDER = attrgetter("granted_at", "exemption_id")

Running = tuple[int, int]
"""A running clock: warnings come after the first instant, the second is the deadline."""
RunningOf = Callable[[Deadline], Running | None]
"""The clock of one order under a deadline rule; `None` while it has no start."""


class Ruling(NamedTuple):
    """What holds for one kind of one order after exemptions."""

    running: Running | None
    """`None`: waived, or another rule's clock has not started."""
    penalty_waived: bool
    by_rules: Running | None
    """The clock after the policy's own exemptions, before any that was granted."""
    moved_by: tuple[str, ...]
    """The granted exemptions that moved the deadline or waived the kind, in their order."""


def is_own(exemption: ExemptionGranted) -> bool:
    """Tell whether an exemption is the policy's own: those apply first, as granted at 0."""
    return not exemption.granted_at


def paid_window(scope: Scope) -> tuple[int, int]:
    """Return the first and the last time of payment that a scope may cover."""
    until = END_OF_TIME_MS if scope.paid_until is None else scope.paid_until
    return scope.paid_from or 0, until


def starts_at_upload(exemption: ExemptionGranted) -> bool:
    """Tell whether an exemption makes an upload start a clock."""
    limit = exemption.effect.limit
    return limit is not None and parse_deadline(limit).start == "uploaded"


def covers(exemption: ExemptionGranted, kind: str, subject: Subject, deadline: int) -> bool:
    """Tell whether an exemption applies to one kind of one order.

    Args:
        deadline: The deadline before any exemption.
    """
    return (not exemption.kinds or kind in exemption.kinds) and _in_scope(
        exemption.scope, subject, deadline
    )


def _in_scope(scope: Scope, subject: Subject, deadline: int) -> bool:
    return (
        _names(scope, subject)
        and _within(scope.deadline_from, deadline, scope.deadline_until)
        and (scope.not_ is None or not _in_scope(scope.not_, subject, deadline))
    )


def reaches(scope: Scope, subject: Subject) -> bool:
    """Tell whether a scope covers an order at some deadline."""
    excluded = scope.not_
    return _names(scope, subject) and (
        excluded is None
        or excluded.deadline_from is not None
        or excluded.deadline_until is not None
        or excluded.not_ is not None
        or not _names(excluded, subject)
    )


def _names(scope: Scope, subject: Subject) -> bool:
    """Test all of a scope but deadlines and what must not match."""
    return (
        _member(scope.order_ids, subject.order_id)
        and _member(scope.shop_ids, subject.shop_id)
        and _member(scope.regions, subject.region)
        and _member(scope.ship_from_regions, subject.ship_from_region)
        and _member(scope.shipping_modes, subject.shipping_mode)
        and _within(scope.paid_from, subject.paid_at, scope.paid_until)
        and _member(scope.platforms, subject.platform)
        and _member(scope.shop_levels, subject.shop_level)
        and _member(scope.categories, subject.category)
        and (scope.agreed is None or scope.agreed == subject.agreed)
    )


def _member(allowed: Iterable[str] | None, value: str | None) -> bool:
    return allowed is None or (value is not None and value in allowed)


def _within(first: int | None, value: int, last: int | None) -> bool:
    return (first is None or first <= value) and (last is None or value <= last)


def apply_exemptions(
    exemptions: Iterable[ExemptionGranted], kind: str, subject: Subject, running: Running,
    running_of: RunningOf,
) -> Ruling:  # fmt: skip
    """Apply the exemptions that cover a kind of an order, in their order.

    Args:
        running: The kind's clock before any exemption.
        running_of: Starts another clock for the order, for the effect `limit`.
    """
    base = running[1]
    now: Running | None = running
    by_rules: Running | None = running
    waived = False
    moved_by: list[str] = []
    for exemption in exemptions:
        if not covers(exemption, kind, subject, base):
            continue
        effect = exemption.effect
        if effect.waive_penalty:
            waived = True
            continue
        before = now
        now = apply_effect(effect, now, running_of)
        if is_own(exemption):
            by_rules = now
        elif now != before:
            moved_by.append(exemption.exemption_id)
        if effect.waive:
            break
    return Ruling(now, waived, by_rules, tuple(moved_by))


def apply_effect(effect: Effect, running: Running | None, running_of: RunningOf) -> Running | None:
    """Apply one effect to a clock, which another rule may have left without a start."""
    if effect.waive:
        return None
    if effect.limit is not None:
        return running_of(parse_deadline(effect.limit))
    if running is None:
        return None
    runs_from, deadline = running
    if effect.extend_to is not None:
        return runs_from, max(deadline, effect.extend_to)
    if effect.extend_by is not None:
        return runs_from, deadline + effect.extend_by
    return running if effect.set_to is None else (runs_from, effect.set_to)


class Exemptions:
    """Exemptions granted in a partition, by id; the orders or shops that one names find it.

    Attributes:
        orders: Keys of orders that one names.
        shops: Shops that one names, encoded.
        windows: Times of payment that the others cover.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, ExemptionGranted] = {}
        self._wide: list[ExemptionGranted] = []
        self._of_shop: dict[str, list[ExemptionGranted]] = {}
        self._of_order: dict[str, list[ExemptionGranted]] = {}
        self.orders: dict[bytes, None] = {}
        self.shops: dict[bytes, None] = {}
        self.windows: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, exemption_id: str) -> ExemptionGranted | None:
        """Return the exemption of an id."""
        return self._by_id.get(exemption_id)

    def add(self, exemption: ExemptionGranted) -> None:
        """Keep a new exemption."""
        self._by_id[exemption.exemption_id] = exemption
        scope = exemption.scope
        if scope.order_ids is not None:
            for order_id in dict.fromkeys(scope.order_ids):
                self.orders[order_id.encode()] = None
                insort(self._of_order.setdefault(order_id, []), exemption, key=_GRANT_ORDER)
        elif scope.shop_ids is not None:
            for shop_id in dict.fromkeys(scope.shop_ids):
                self.shops[shop_id.encode()] = None
                insort(self._of_shop.setdefault(shop_id, []), exemption, key=_GRANT_ORDER)
        else:
            insort(self._wide, exemption, key=_GRANT_ORDER)
            self.windows.append(paid_window(scope))

    def candidates(self, order_id: str, shop_id: str) -> list[ExemptionGranted]:
        """List those that may cover an order, in (granted_at, exemption_id) order."""
        own = [*self._of_order.get(order_id, ()), *self._of_shop.get(shop_id, ())]
        return sorted([*self._wide, *own], key=_GRANT_ORDER) if own else self._wide

    def none_concern(self, subject: Subject) -> bool:
        """Tell whether no exemption can cover an order, at whatever deadline."""
        return not (
            subject.order_id in self._of_order
            or subject.shop_id in self._of_shop
            or any(reaches(exemption.scope, subject) for exemption in self._wide)
        )
