"""What the orders stage says of a determination, a warning, a closure: to readers and to the shop.

What lives here: the fields, ids and notifications of output records. What must not: any decision.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Literal

from streams.core.facts.events import KEY_BYTES_MAX, VALUE_BYTES_MAX
from streams.core.facts.order import DeadlineTold, Occurrence, Order
from streams.core.facts.outputs import (
    DeadLetter,
    DeadLetterReason,
    DeadlineChanged,
    DeadlineWarning,
    Determined,
    Notification,
    OrderClosure,
    Output,
    Refund,
    RefusedValue,
    Revised,
    RevocationReason,
    Revoked,
    Source,
    Timeout,
    Value,
)


def determined(
    order_id: str, order: Order, occurrence: Occurrence, policy: str, log_time: int
) -> list[Output]:
    """Say that a violation stands from now on."""
    value = Timeout(
        deadline=occurrence.deadline,
        determined_at=occurrence.determined_at,
        kind=occurrence.kind,
        occurrence=occurrence.number,
        order_id=order_id,
        policy=policy,
        product_ids=order.product_ids,
        revision=occurrence.revision,
        shop_id=order.shop_id,
        type="timeout.determined",
        violation_id=violation_id(order_id, occurrence),
    )
    return _timeout(value, value.determined_at, log_time)


def revoked(
    order_id: str, order: Order, occurrence: Occurrence, policy: str, log_time: int,
    reason: RevocationReason, cause: str,
) -> list[Output]:  # fmt: skip
    """Say that a violation stands no longer."""
    value = Timeout(
        cause=cause,
        deadline=occurrence.deadline,
        determined_at=occurrence.determined_at,
        kind=occurrence.kind,
        occurrence=occurrence.number,
        order_id=order_id,
        policy=policy,
        product_ids=order.product_ids,
        reason=reason,
        revision=occurrence.revision,
        revoked_at=log_time,
        shop_id=order.shop_id,
        type="timeout.revoked",
        violation_id=violation_id(order_id, occurrence),
    )
    return _timeout(value, log_time, log_time)


def warning(order_id: str, order: Order, kind: str, deadline: int, at: int) -> list[Output]:
    """Warn that a deadline comes near."""
    lead = deadline - at
    value = DeadlineWarning(
        deadline=deadline,
        kind=kind,
        lead=lead,
        order_id=order_id,
        shop_id=order.shop_id,
        warned_at=at,
    )
    name = f"{order_id}:{kind}:{deadline}:{lead}"
    return _with_notification(
        "deadline-warning", order.shop_id, value, at, name, "deadline-warning", order_id, at
    )


def deadline_changed(
    order_id: str, order: Order, old_deadline: int | None, now: DeadlineTold, log_time: int
) -> Output:
    """Say that exemptions have moved a deadline."""
    value = DeadlineChanged(
        exemption_ids=now.exemption_ids,
        kind=now.kind,
        new_deadline=now.deadline,
        old_deadline=old_deadline,
        order_id=order_id,
        shop_id=order.shop_id,
        type="deadline-changed",
    )
    name = f"{order_id}:{now.kind}:{value.type}:{now.revision}"
    key = order.shop_id.encode()
    return Output(value.type, key, value, log_time, name, value.type, log_time, order_id)


def closure(
    order_id: str, order: Order, closed_at: int, path: Literal["original", "alternative"],
    log_time: int,
) -> list[Output]:  # fmt: skip
    """Close an order as unshipped, or send its refund on another path."""
    value = OrderClosure(
        closed_at=closed_at,
        order_id=order_id,
        reason="unshipped",
        refund=Refund(amount=order.paid_amount, currency=order.currency, path=path),
        shop_id=order.shop_id,
    )
    name = f"{order_id}:order-closure:{path}"
    return _with_notification(
        "order-closure", order.shop_id, value, log_time, name, "order-closure", order_id, closed_at
    )


def dead_letter(
    partition: int, topic: str, offset: int, timestamp: int, key: bytes | None,
    raw: bytes | None, reason: DeadLetterReason, detail: str, log_time: int,
) -> Output:  # fmt: skip
    """Set a record aside with the reason: whole, unless no topic could hold it."""
    raw, left_out = _cut(
        "raw", raw.raw if type(raw) is RefusedValue else raw or b"", VALUE_BYTES_MAX
    )
    detail += left_out
    if key is not None:
        key, left_out = _cut("the key", key, KEY_BYTES_MAX)
        detail += left_out
    value = DeadLetter(
        detail=detail,
        raw=base64.b64encode(raw).decode(),
        reason=reason,
        source=Source(offset=offset, partition=partition, timestamp=timestamp, topic=topic),
    )
    place = f"{topic}:{partition}:{offset}"
    return Output("dead-letter", key, value, log_time, place, "dead-letter", log_time, place)


def _cut(name: str, content: bytes, bytes_max: int) -> tuple[bytes, str]:
    """Shorten what is too long; return it, and what to say of it."""
    if len(content) <= bytes_max:
        return content, ""
    digest = hashlib.sha256(content).hexdigest()
    said = f"; {name} has the first {bytes_max} of {len(content)} bytes, SHA-256 {digest}"
    return content[:bytes_max], said


def determined_item(
    order_id: str, order: Order, occurrence: Occurrence, log_time: int
) -> Determined:
    """Tell the shop that a violation stands, with all that its version and charges follow from."""
    return Determined(
        category=order.category,
        determined_at=occurrence.determined_at,
        goods_amount=order.goods_amount,
        kind=occurrence.kind,
        log_time_ms=log_time,
        occurrence=occurrence.number,
        order_id=order_id,
        paid_amount=order.paid_amount,
        paid_at=order.paid_at,
        penalty_waived=occurrence.penalty_waived,
        placed_at=order.placed_at,
        platform=order.platform,
        product_ids=order.product_ids,
        revision=occurrence.revision,
        shop_id=order.shop_id,
        shop_level=order.shop_level,
        violation_id=violation_id(order_id, occurrence),
    )


def revised_item(order_id: str, order: Order, occurrence: Occurrence, log_time: int) -> Revised:
    """Tell the shop that a violation has begun to cost something, or ended to."""
    return Revised(
        determined_at=occurrence.determined_at,
        log_time_ms=log_time,
        order_id=order_id,
        penalty_waived=occurrence.penalty_waived,
        revision=occurrence.revision,
        shop_id=order.shop_id,
        violation_id=violation_id(order_id, occurrence),
    )


def revoked_item(order_id: str, order: Order, occurrence: Occurrence, log_time: int) -> Revoked:
    """Tell the shop that a violation stands no longer."""
    return Revoked(
        determined_at=occurrence.determined_at,
        log_time_ms=log_time,
        order_id=order_id,
        revision=occurrence.revision,
        shop_id=order.shop_id,
        violation_id=violation_id(order_id, occurrence),
    )


def violation_id(order_id: str, occurrence: Occurrence) -> str:
    """`{order_id}:{kind}:{n}`."""
    return f"{order_id}:{occurrence.kind}:{occurrence.number}"


def _timeout(value: Timeout, instant: int, log_time: int) -> list[Output]:
    name = f"{value.violation_id}:{value.revision}:{value.type}"
    return _with_notification(
        "timeout", value.shop_id, value, log_time, name, value.type, value.violation_id, instant
    )


def _with_notification(
    topic: str, shop_id: str, value: Value, log_time: int, name: str, kind: str, subject: str,
    instant: int,
) -> list[Output]:  # fmt: skip
    """Pair a record with the message that tells the shop; both carry the record's id."""
    key = shop_id.encode()
    message = Notification(
        channel="in-site-message",
        effective_at=instant,
        shop_id=shop_id,
        subjects=[subject],
        template=kind,
    )
    return [
        Output(topic, key, value, log_time, name, kind, log_time, subject),
        Output("notification", key, message, log_time, name, "notification", instant, subject),
    ]
