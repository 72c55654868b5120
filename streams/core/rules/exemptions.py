"""The exemptions of a partition: which of them cover an order, and what they do to its deadlines.

What lives here: scopes, effects, and what each exemption is looked up by. What must not: where a
deadline comes from (`deadlines`) and what follows from it (`judging`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from operator import attrgetter

from streams.core.facts.events import ExemptionGranted, OrderPaid, Scope
from streams.core.facts.order import Order, Subject, subject_of
from streams.core.rules.deadlines import Clock
from streams.core.rules.judging import DeadlineOf

_GRANT_ORDER = attrgetter("granted_at", "exemption_id")


def covers(exemption: ExemptionGranted, kind: str, subject: Subject, deadline: int) -> bool:
    """Tell whether an exemption applies to one kind of one order.

    Args:
        deadline: The deadline before any exemption.
    """
    return (not exemption.kinds or kind in exemption.kinds) and _in_scope(
        exemption.scope, subject, deadline
    )


def _in_scope(scope: Scope, subject: Subject, deadline: int) -> bool:
    return reaches(scope, subject) and _within(scope.deadline_from, deadline, scope.deadline_until)


def reaches(scope: Scope, subject: Subject) -> bool:
    """Tell whether a scope covers an order at some deadline."""
    return (
        _member(scope.order_ids, subject.order_id)
        and _member(scope.shop_ids, subject.shop_id)
        and _member(scope.regions, subject.region)
        and _member(scope.ship_from_regions, subject.ship_from_region)
        and _member(scope.shipping_modes, subject.shipping_mode)
        and _within(scope.paid_from, subject.paid_at, scope.paid_until)
    )


def _member(allowed: Iterable[str] | None, value: str | None) -> bool:
    return allowed is None or (value is not None and value in allowed)


def _within(first: int | None, value: int, last: int | None) -> bool:
    return (first is None or first <= value) and (last is None or value <= last)


def exempted_deadline(deadline: int, exemptions: Iterable[ExemptionGranted]) -> int | None:
    """Apply the exemptions that cover an order, in (granted_at, exemption_id) order.

    Returns:
        The deadline that holds, or `None` where the violation is waived.
    """
    for exemption in exemptions:
        effect = exemption.effect
        if effect.waive:
            return None
        if effect.extend_to is not None:
            deadline = max(deadline, effect.extend_to)
        elif effect.extend_by is not None:
            deadline += effect.extend_by
    return deadline


class Exemptions:
    """Exemptions by id; those that name orders or shops are found by these."""

    def __init__(self) -> None:
        self._by_id: dict[str, ExemptionGranted] = {}
        self._wide: list[ExemptionGranted] = []
        self._of_shop: dict[str, list[ExemptionGranted]] = {}
        self._of_order: dict[str, list[ExemptionGranted]] = {}

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
                insort(self._of_order.setdefault(order_id, []), exemption, key=_GRANT_ORDER)
        elif scope.shop_ids is not None:
            for shop_id in dict.fromkeys(scope.shop_ids):
                insort(self._of_shop.setdefault(shop_id, []), exemption, key=_GRANT_ORDER)
        else:
            insort(self._wide, exemption, key=_GRANT_ORDER)

    def deadline_of(self, order_id: str, order: Order) -> DeadlineOf | None:
        """Say how the exemptions of an order move its deadlines; `None` where there are none."""
        own = [*self._of_order.get(order_id, ()), *self._of_shop.get(order.shop_id, ())]
        exemptions = sorted([*self._wide, *own], key=_GRANT_ORDER) if own else self._wide
        if not exemptions:
            return None
        subject = subject_of(order_id, order)

        def deadline_of(kind: str, clock: Clock) -> int | None:
            _, deadline = clock
            return exempted_deadline(
                deadline,
                [grant for grant in exemptions if covers(grant, kind, subject, deadline)],
            )

        return deadline_of

    def spare(self, order: OrderPaid) -> bool:
        """Tell whether no exemption can concern an order that has just been paid."""
        subject = subject_of(order.order_id, order)
        return not (
            order.order_id in self._of_order
            or order.shop_id in self._of_shop
            or any(reaches(exemption.scope, subject) for exemption in self._wide)
        )
