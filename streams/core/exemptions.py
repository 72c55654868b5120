"""The exemptions of a partition, and which of them concern an order.

What lives here: what each exemption is looked up by. What must not: whether a scope covers an order
and what that does to a deadline (`clock`).
"""

from __future__ import annotations

from bisect import insort
from operator import attrgetter

from streams.core.clock import Clock, covers, exempted_deadline, reaches
from streams.core.events import ExemptionGranted, OrderPaid
from streams.core.judging import DeadlineOf
from streams.core.order import Order, subject_of

_GRANT_ORDER = attrgetter("granted_at", "exemption_id")


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
