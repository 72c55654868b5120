"""What an order keeps of the events that were accepted after it was paid.

One struct an event: its fields but the `order_id`, in their order, as an array that begins with the
input's storage id (`inputs`). An optional field that an event gains is added at the end with a
default: what was stored before reads as if it had been sent without the field, so a copy of that
event that arrives again equals it.
"""

from __future__ import annotations

from msgspec import Struct


class UploadFact(Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A tracking number was uploaded."""

    tracking_number: str
    carrier: str
    uploaded_at: int
    replaces: str | None = None


class ScanFact(Struct, frozen=True, array_like=True, gc=False, tag=2):
    """The carrier scanned a parcel for the first time."""

    tracking_number: str
    carrier: str
    scanned_at: int


class ClosedFact(Struct, frozen=True, array_like=True, gc=False, tag=3):
    """The order was closed."""

    closed_at: int
    reason: str


class AppealFact(Struct, frozen=True, array_like=True, gc=False, tag=5):
    """An appeal was decided."""

    appeal_id: str
    violation_id: str
    outcome: str
    decided_at: int


class RefundFact(Struct, frozen=True, array_like=True, gc=False, tag=6):
    """The refund on the original path failed."""

    failed_at: int


Fact = UploadFact | ScanFact | ClosedFact | AppealFact | RefundFact
