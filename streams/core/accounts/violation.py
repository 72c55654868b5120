"""Keyed state of the shops stage: a violation, and what it costs on each account.

What lives here: the state's shape. What must not: rules.
"""

from __future__ import annotations

from operator import attrgetter

from msgspec import Struct

from streams.core.facts.outputs import Determined


class Charge(Struct, array_like=True):
    """What a violation costs on one account, and what the journal holds of that."""

    allocated: int = 0
    """What caps leave of it, in the account's unit; 0 while the violation does not stand."""
    booked: int = 0
    day: str = ""
    entries: int = 0
    unit: str = ""
    """Of what is booked; the rules that named it may be gone when it is reversed."""


class Violation(Struct, array_like=True):
    """One violation of a shop, with the facts of its order that version and amounts follow from."""

    shop_id: str
    violation_id: str
    order_id: str
    kind: str
    occurrence: int
    product_ids: list[str]
    determined_at: int
    revision: int
    standing: bool
    charges: dict[str, Charge]
    """By account."""
    released: bool = False
    """Its order can no longer be corrected."""
    platform: str | None = None
    placed_at: int = 0
    paid_at: int = 0
    paid_amount: int = 0
    goods_amount: int | None = None
    shop_level: str | None = None
    category: str | None = None
    penalty_waived: bool = False
    revised: int = 0
    """How often its penalty was waived or called for again."""

    @property
    def counts(self) -> bool:
        """Whether it costs something and sanctions count it."""
        return self.standing and not self.penalty_waived

    @property
    def mark(self) -> str:
        """Name its present form: the revision, and how often its penalty was revised since."""
        return f"{self.revision}.{self.revised}" if self.revised else f"{self.revision}"


WALK_ORDER = attrgetter("determined_at", "violation_id")


def violation_of(item: Determined) -> Violation:
    """Begin the state of a violation that stands, not allocated yet."""
    return Violation(
        item.shop_id, item.violation_id, item.order_id, item.kind, item.occurrence,
        item.product_ids, item.determined_at, item.revision, True, {}, False, item.platform,
        # An older program did not say when its order was placed.
        item.placed_at or item.determined_at, item.paid_at or item.determined_at,
        item.paid_amount, item.goods_amount, item.shop_level, item.category,
        item.penalty_waived,
    )  # fmt: skip
