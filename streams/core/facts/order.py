"""Keyed state of one order: its facts, and what was made of them.

What lives here: the state's shape and how a fact enters it. What must not: rules (`deadlines`,
`judging`) or anything about other orders (`orders`).
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from streams.core.facts.accepted import ClosedFact, Fact, RefundFact, ScanFact, UploadFact
from streams.core.facts.events import OrderPaid
from streams.core.facts.instants import END_OF_TIME_MS


class Order(Struct, frozen=True, array_like=True, gc=False):
    """What `order-paid` said, but for the id."""

    shop_id: str
    product_ids: list[str]
    shipping_mode: str
    placed_at: int
    paid_at: int
    paid_amount: int
    currency: str
    region: str | None
    ship_from_region: str | None
    promised_ship_by: int | None
    platform: str | None = None
    shop_level: str | None = None
    category: str | None = None
    goods_amount: int | None = None
    agreed_ship_by: int | None = None
    warehouse: str | None = None


class Subject(NamedTuple):
    """What an exemption's scope is tested against."""

    order_id: str
    shop_id: str
    region: str | None
    ship_from_region: str | None
    shipping_mode: str
    paid_at: int
    platform: str | None
    shop_level: str | None
    category: str | None
    agreed: bool


class Occurrence(Struct, array_like=True, gc=False):
    """The n-th determination of a kind: its last revision and whether that stands."""

    kind: str
    number: int
    revision: int
    standing: bool
    deadline: int
    determined_at: int
    penalty_waived: bool = False


class Waiting(Struct, frozen=True, array_like=True, gc=False):
    """A fact whose order is not known yet, with all a dead letter needs."""

    expires_at: int
    input_id: int
    offset: int
    timestamp: int
    raw: bytes
    fact: Fact


class DeadlineTold(Struct, frozen=True, array_like=True, gc=False):
    """The last `deadline-changed` of a kind."""

    kind: str
    deadline: int | None
    """`None`: waived."""
    exemption_ids: list[str]
    revision: int


class OrderState(Struct, gc=False):
    """Keyed state of one order: what was said of it, and what was made of that."""

    due_ms: int = END_OF_TIME_MS
    last_change_ms: int = 0
    retiring: bool = False
    """Nothing is pending: `due_ms` is when the state goes."""
    told: bool = False
    """The shops stage knows a violation of it, and must hear of what becomes of it."""
    plan: int = 0
    """Which part of the rules holds for it (`Rulebook.terms_of`); 0 where that is not known."""
    exempt: bool = False
    """An exemption reaches it, at some deadline."""
    order: Order | None = None
    """`None` while only waiting facts are known."""
    facts: list[Fact] = []
    """The accepted events but `order-paid`, in order of arrival."""
    uploaded_at: int | None = None
    """This and what follows from here to `appealed` is what judging needs of the facts."""
    scanned_at: int | None = None
    closed_at: int | None = None
    refund_failed_at: int | None = None
    appealed: list[str] = []
    """Violations that a granted appeal has lifted for good."""
    occurrences: list[Occurrence] = []
    closed_original: bool = False
    closed_alternative: bool = False
    waiting: list[Waiting] = []
    deadlines_told: list[DeadlineTold] = []

    @property
    def eventful(self) -> bool:
        """Whether more than facts is kept: determinations, standing or revoked, or a closure."""
        return bool(self.occurrences) or self.closed_original

    @property
    def resting(self) -> bool:
        """Whether it waits to be forgotten, and nobody must hear of it then."""
        return self.retiring and not self.told


def know(state: OrderState, order: Order) -> None:
    """Let an order be paid; the facts that waited for it become its own."""
    state.order = order
    waiting, state.waiting = state.waiting, []
    for entry in waiting:
        learn(state, entry.fact)


def learn(state: OrderState, fact: Fact) -> bool:
    """Add a fact; False if it was known."""
    if fact in state.facts:
        return False
    state.facts.append(fact)
    heed(state, fact)
    return True


def heed(state: OrderState, fact: Fact) -> None:
    """Let judging know of a fact: the earliest of its kind counts."""
    if isinstance(fact, UploadFact):
        if state.uploaded_at is None or fact.uploaded_at < state.uploaded_at:
            state.uploaded_at = fact.uploaded_at
    elif isinstance(fact, ScanFact):
        if state.scanned_at is None or fact.scanned_at < state.scanned_at:
            state.scanned_at = fact.scanned_at
    elif isinstance(fact, ClosedFact):
        if state.closed_at is None or fact.closed_at < state.closed_at:
            state.closed_at = fact.closed_at
    elif isinstance(fact, RefundFact):
        if state.refund_failed_at is None or fact.failed_at < state.refund_failed_at:
            state.refund_failed_at = fact.failed_at
    elif fact.outcome == "granted":
        state.appealed.append(fact.violation_id)


def subject_of(order_id: str, order: Order | OrderPaid, platform: str) -> Subject:
    """Gather what an exemption's scope is tested against.

    Args:
        platform: The one whose rules the order is judged by, named in the order or not.
    """
    return Subject(
        order_id, order.shop_id, order.region, order.ship_from_region, order.shipping_mode,
        order.paid_at, platform, order.shop_level, order.category,
        order.agreed_ship_by is not None,
    )  # fmt: skip


def find_occurrence(state: OrderState, kind: str, number: int) -> Occurrence | None:
    """Find the n-th determination of a kind, standing or revoked."""
    for occurrence in state.occurrences:
        if occurrence.number == number and occurrence.kind == kind:
            return occurrence
    return None
