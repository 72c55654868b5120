"""Input facts, one frozen struct a topic.

Field types carry the JSON Schema; `streams.codec.decode` turns bytes into these and checks what a
type cannot say. Nothing here decides anything. Times are epoch milliseconds (UTC), money is in
minor units.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

# The last millisecond of year 9999, which systems write for "never".
TIME_MS_MAX = 253_402_300_799_999

# The pattern stands in the schema only: the decoder checks it with one search over all identifiers
# of an event, which costs a fifth of a regular expression a field.
IDENTIFIER_PATTERN = r"^[^:\u0000-\u001f\u007f-\u009f]{1,128}$"
Identifier = Annotated[
    str,
    Meta(min_length=1, max_length=128, extra_json_schema={"pattern": IDENTIFIER_PATTERN}),
]
# An appeal's own name: it is never part of another id, and appeal systems build it from the
# violation_id, colons and all.
AppealId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        extra_json_schema={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$"},
    ),
]
Instant = Annotated[int, Meta(ge=0, le=TIME_MS_MAX, description="epoch milliseconds, UTC")]
Duration = Annotated[int, Meta(ge=1, le=TIME_MS_MAX, description="milliseconds")]
Amount = Annotated[int, Meta(ge=0, le=2**53 - 1, description="minor units of the currency")]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3, description="ISO 4217")]
# `{order_id}:{kind}:{occurrence}`
ViolationId = Annotated[str, Meta(min_length=5, max_length=300)]

# Lower-case words joined by `-`; which there are is the applying policy's to say.
ModeName = Annotated[str, Meta(max_length=64, pattern="^[a-z0-9]+(-[a-z0-9]+)*$")]
# A deadline as a policy file writes it, such as `48h after paid`.
DeadlinePhrase = Annotated[str, Meta(min_length=1, max_length=100)]


class OrderPaid(Struct, frozen=True, kw_only=True, gc=False):
    """The order exists and is paid."""

    order_id: Identifier
    shop_id: Identifier
    product_ids: Annotated[
        list[Identifier],
        Meta(min_length=1, max_length=1000, extra_json_schema={"uniqueItems": True}),
    ]
    shipping_mode: ModeName
    placed_at: Instant
    paid_at: Instant
    paid_amount: Amount
    currency: Currency = "CNY"
    region: Identifier | None = None
    ship_from_region: Identifier | None = None
    promised_ship_by: Instant | None = None
    platform: Identifier | None = None
    shop_level: Identifier | None = None
    category: Identifier | None = None
    goods_amount: Amount | None = None
    agreed_ship_by: Instant | None = None
    warehouse: Identifier | None = None


class TrackingNumberUploaded(Struct, frozen=True, kw_only=True, gc=False):
    """The shop says it shipped. The earliest upload starts a clock; a replaced number does not."""

    order_id: Identifier
    tracking_number: Identifier
    carrier: Identifier
    uploaded_at: Instant
    replaces: Identifier | None = None


class FirstScan(Struct, frozen=True, kw_only=True, gc=False):
    """The carrier has the parcel. The earliest scan of the order counts."""

    order_id: Identifier
    tracking_number: Identifier
    carrier: Identifier
    scanned_at: Instant


class OrderClosed(Struct, frozen=True, kw_only=True, gc=False):
    """The order ended without shipping: whatever is due after `closed_at` is not judged."""

    order_id: Identifier
    closed_at: Instant
    reason: Literal["refund-agreed", "refunded", "cancelled"]


class Effect(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an exemption does to a deadline; exactly one field is given.

    `waive_penalty` leaves the deadline: the violation stands and costs nothing.
    """

    waive: Literal[True] | None = None
    extend_to: Instant | None = None
    extend_by: Duration | None = None
    set_to: Instant | None = None
    limit: DeadlinePhrase | None = None
    waive_penalty: Literal[True] | None = None


class Scope(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Which orders an exemption covers: every field given must match, `{}` covers all.

    A list matches by membership (an empty list nothing); `*_from` and `*_until` are inclusive.
    `deadline_*` is compared with the deadline before any exemption. `agreed` asks whether the order
    has an agreed date; `not` is a scope that must not match.
    """

    order_ids: list[Identifier] | None = None
    shop_ids: list[Identifier] | None = None
    regions: list[Identifier] | None = None
    ship_from_regions: list[Identifier] | None = None
    shipping_modes: list[ModeName] | None = None
    paid_from: Instant | None = None
    paid_until: Instant | None = None
    deadline_from: Instant | None = None
    deadline_until: Instant | None = None
    platforms: list[Identifier] | None = None
    shop_levels: list[Identifier] | None = None
    categories: list[Identifier] | None = None
    agreed: bool | None = None
    not_: Scope | None = field(default=None, name="not")


class ExemptionGranted(Struct, frozen=True, kw_only=True, gc=False):
    """A platform exemption, or an approved report of a shop or order."""

    exemption_id: Identifier
    source: Literal["platform", "report"]
    granted_at: Instant
    effect: Effect
    scope: Scope
    kinds: list[Identifier] | None = []


class AppealDecided(Struct, frozen=True, kw_only=True, gc=False):
    """An appeal's outcome. A granted one means the violation never stands again."""

    appeal_id: AppealId
    violation_id: ViolationId
    order_id: Identifier
    outcome: Literal["granted", "rejected"]
    decided_at: Instant


class RefundFailed(Struct, frozen=True, kw_only=True, gc=False):
    """The refund on the original payment path failed."""

    order_id: Identifier
    failed_at: Instant


LaterFact = TrackingNumberUploaded | FirstScan | OrderClosed | AppealDecided | RefundFailed
Event = OrderPaid | LaterFact | ExemptionGranted

# A larger value is refused unread: a topic's limit holds for compressed batches, and both what is
# kept of a record and its dead letter must stay writable.
VALUE_BYTES_MAX = 8 * 1024 * 1024
# A dead letter keeps so much of a key; those of events are a tenth of it at most.
KEY_BYTES_MAX = 4096
