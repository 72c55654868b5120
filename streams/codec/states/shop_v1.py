"""Violations as version 1 of the shops changelog kept them: read by a restore, never written.

There were two accounts, `points` and `deposit`, and what the order of a violation was is not kept.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from streams.core.accounts.violation import Charge, Violation


class _Booking(Struct, array_like=True):
    amount: int = 0
    day: str = ""
    entries: int = 0
    unit: str = ""


class _Violation(Struct, array_like=True):
    shop_id: str
    violation_id: str
    order_id: str
    kind: str
    occurrence: int
    product_ids: list[str]
    determined_at: int
    revision: int
    standing: bool
    points: int
    deposit: int
    points_booked: _Booking
    deposit_booked: _Booking
    released: bool = False


_decode = msgspec.msgpack.Decoder(_Violation).decode


def unpack_violation(value: bytes | memoryview) -> Violation:
    """Read a violation of version 1; when it was determined stands for when it was placed."""
    old = _decode(value)
    charges = {
        account: Charge(allocated, booked.amount, booked.day, booked.entries, booked.unit)
        for account, allocated, booked in (
            ("deposit", old.deposit, old.deposit_booked),
            ("points", old.points, old.points_booked),
        )
        if allocated or booked.entries
    }
    return Violation(
        old.shop_id, old.violation_id, old.order_id, old.kind, old.occurrence, old.product_ids,
        old.determined_at, old.revision, old.standing, charges, old.released,
        placed_at=old.determined_at, paid_at=old.determined_at,
    )  # fmt: skip
