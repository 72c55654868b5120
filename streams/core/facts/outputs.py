"""Output records, one struct a topic, and the items the orders stage sends to the shops stage.

Fields stand in alphabetical order, so that encoding a struct gives canonical JSON (sorted keys);
a unit test holds that. `None` fields are left out.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct

from streams.core.facts.events import Amount, Identifier, Instant, ViolationId

RevocationReason = Literal["exemption", "appeal", "late-evidence"]
DeadLetterReason = Literal[
    "malformed",
    "schema",
    "unknown-topic",
    "wrong-key",
    "invalid",
    "time-in-future",
    "conflict",
    "no-order",
    "too-late",
    "unreadable",
    "wrong-partition",
    "no-policy",
]


class RefusedValue(bytes):
    """The value of a record that was refused before it was decoded, behind a byte of its own.

    That byte keeps whatever reads JSON from taking the value for an event.
    """

    reason: DeadLetterReason
    detail: str

    @classmethod
    def of(cls, raw: bytes, reason: DeadLetterReason, detail: str) -> RefusedValue:
        """Mark a value."""
        value = cls(b"\0" + raw)
        value.reason, value.detail = reason, detail
        return value

    @property
    def raw(self) -> bytes:
        """The value as it was."""
        return self[1:]


class Timeout(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A violation determined, or a determination revoked (topic `timeout`)."""

    cause: str | None = None
    deadline: Instant
    determined_at: Instant
    kind: str
    occurrence: int
    order_id: Identifier
    policy: str
    product_ids: list[Identifier]
    reason: RevocationReason | None = None
    revision: int
    revoked_at: Instant | None = None
    shop_id: Identifier
    type: Literal["timeout.determined", "timeout.revoked"]
    violation_id: ViolationId


class Penalty(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One entry of a shop's append-only journal (topic `penalty`); a reversal is negative."""

    account: str
    amount: int
    batch_id: str | None = None
    day: str
    effective_at: Instant
    entry_id: str
    order_id: Identifier
    shop_id: Identifier
    type: Literal["penalty.charged", "penalty.reversed"]
    unit: str
    violation_id: ViolationId


class ProductBan(Struct, frozen=True, kw_only=True, gc=False):
    """A product of a shop is banned, or no longer (topic `product-ban`)."""

    effective_at: Instant
    order_id: Identifier
    product_id: Identifier
    shop_id: Identifier
    type: Literal["product-ban.imposed", "product-ban.lifted"]
    violation_id: ViolationId


class DeadlineWarning(Struct, frozen=True, kw_only=True, gc=False):
    """A deadline comes near (topic `deadline-warning`); `warned_at` is deadline - lead."""

    deadline: Instant
    kind: str
    lead: int
    order_id: Identifier
    shop_id: Identifier
    warned_at: Instant


class Notification(Struct, frozen=True, kw_only=True, gc=False):
    """A message for the shop's in-site mail box (topic `notification`)."""

    channel: Literal["in-site-message"]
    effective_at: Instant
    shop_id: Identifier
    subjects: list[str]
    template: str


class DeadlineChanged(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Exemptions have moved the deadline of an order (topic `deadline-changed`).

    The last record of an order and kind says what holds now; without a `new_deadline` the kind is
    waived, without `exemption_ids` the deadline is the rules' own again.
    """

    exemption_ids: list[Identifier]
    kind: str
    new_deadline: Instant | None = None
    old_deadline: Instant | None = None
    order_id: Identifier
    shop_id: Identifier
    type: Literal["deadline-changed"]


class ShopAction(Struct, frozen=True, kw_only=True, gc=False):
    """A sanction on a whole shop is in force, or no longer (topic `shop-action`).

    `violation_id` and `order_id` are those that brought the change about; of an action that ended
    by itself, those that had imposed it.
    """

    action: str
    effective_at: Instant
    order_id: Identifier
    platform: str
    shop_id: Identifier
    type: Literal["shop-action.imposed", "shop-action.lifted"]
    violation_id: ViolationId


class Refund(Struct, frozen=True, kw_only=True, gc=False):
    """How the buyer gets the money back."""

    amount: Amount
    currency: str
    path: Literal["original", "alternative"]


class OrderClosure(Struct, frozen=True, kw_only=True, gc=False):
    """An order closed because it was never shipped (topic `order-closure`)."""

    closed_at: Instant
    order_id: Identifier
    reason: Literal["unshipped"]
    refund: Refund
    shop_id: Identifier


class Source(Struct, frozen=True, kw_only=True, gc=False):
    """Where a dead letter came from."""

    offset: int
    partition: int
    timestamp: int
    topic: str


class DeadLetter(Struct, frozen=True, kw_only=True, gc=False):
    """A record that could not be taken, whole (topic `dead-letter`); `raw` is base64."""

    detail: str
    raw: str
    reason: DeadLetterReason
    source: Source


Value = (
    Timeout
    | Penalty
    | ProductBan
    | ShopAction
    | DeadlineWarning
    | DeadlineChanged
    | Notification
    | OrderClosure
    | DeadLetter
)


class Output(NamedTuple):
    """A record the core asks to be written.

    `log_time_ms` is L: the timer's due time if it fired on time, else the effective timestamp of
    the record that caused it. `id` is deterministic and unique within `topic`.
    """

    topic: str
    key: bytes | None
    value: Value
    log_time_ms: int
    id: str
    type: str
    time_ms: int
    subject: str


class ShopItem(Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """Base of what the orders stage tells the shops stage (topic `shop-violations`)."""

    log_time_ms: int
    order_id: Identifier
    shop_id: Identifier


class Determined(ShopItem, frozen=True, kw_only=True, tag="determined", gc=False):
    """A violation stands from now on, with all that its version and its charges follow from."""

    category: Identifier | None = None
    determined_at: Instant
    goods_amount: Amount | None = None
    kind: str
    occurrence: int
    paid_amount: Amount = 0
    paid_at: Instant = 0
    penalty_waived: bool = False
    placed_at: Instant = 0
    platform: Identifier | None = None
    product_ids: list[Identifier]
    revision: int
    shop_level: Identifier | None = None
    violation_id: ViolationId


class Revised(ShopItem, frozen=True, kw_only=True, tag="revised", gc=False):
    """A violation that stands costs something from now on, or nothing any more."""

    determined_at: Instant
    penalty_waived: bool
    revision: int
    violation_id: ViolationId


class Revoked(ShopItem, frozen=True, kw_only=True, tag="revoked", gc=False):
    """A violation stands no longer."""

    determined_at: Instant
    revision: int
    violation_id: ViolationId


class Released(ShopItem, frozen=True, kw_only=True, tag="released", gc=False):
    """The order's state is gone: no correction of its violations can come any more."""


class FrontierMark(Struct, frozen=True, kw_only=True, tag_field="type", tag="mark", gc=False):
    """No item of this source partition with a log time below `frontier_ms` will follow.

    Topic `frontier-marks`; older programs wrote marks without `app_id` to `shop-violations`.
    """

    app_id: str = ""
    frontier_ms: int
    source: int


class MarkRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="request", gc=False):
    """Somebody waits for every frontier to pass this instant (topic `frontier-marks`)."""

    app_id: str
    beyond_ms: int


ShopMessage = Determined | Revised | Revoked | Released | FrontierMark
MarkMessage = FrontierMark | MarkRequest
