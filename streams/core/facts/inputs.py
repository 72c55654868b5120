"""The input topics: one table of what is known of each.

What lives here: how a topic's records are ordered, keyed, timed and stored. What must not: what its
events mean for an order.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from streams.core.facts.accepted import (
    AppealFact,
    ClosedFact,
    Fact,
    RefundFact,
    ScanFact,
    UploadFact,
)
from streams.core.facts.events import (
    AppealDecided,
    Event,
    ExemptionGranted,
    FirstScan,
    LaterFact,
    OrderClosed,
    OrderPaid,
    RefundFailed,
    TrackingNumberUploaded,
)


class Input(NamedTuple):
    """An input topic and the type of its events."""

    id: int
    """Names the topic in stored states, for good: a new input takes the next number, whatever its
    rank."""
    topic: str
    event: type[Event]
    fact: type[Fact] | None
    """What an order keeps of an event; `None` where that is no list of facts."""
    key: str
    """The field that holds a record's key."""
    own_time: str
    """The field that holds the event's own time."""


# In the order of rank: a topic's place is the order of records with one effective timestamp.
INPUTS = (
    Input(0, "order-paid", OrderPaid, None, "order_id", "paid_at"),
    Input(
        1, "tracking-number-uploaded", TrackingNumberUploaded, UploadFact, "order_id", "uploaded_at"
    ),
    Input(2, "first-scan", FirstScan, ScanFact, "order_id", "scanned_at"),
    Input(3, "order-closed", OrderClosed, ClosedFact, "order_id", "closed_at"),
    Input(4, "exemption-granted", ExemptionGranted, None, "exemption_id", "granted_at"),
    Input(5, "appeal-decided", AppealDecided, AppealFact, "order_id", "decided_at"),
    Input(6, "refund-failed", RefundFailed, RefundFact, "order_id", "failed_at"),
)
INPUT_TOPICS = tuple(each.topic for each in INPUTS)
INPUT_OF_TOPIC = {each.topic: each for each in INPUTS}
INPUT_OF_ID = {each.id: each for each in INPUTS}
INPUT_OF_TYPE: dict[type[Struct], Input] = {each.event: each for each in INPUTS} | {
    each.fact: each for each in INPUTS if each.fact is not None
}
"""By the type of its events, and by that of its facts."""

# Ranks.
_RANK_OF = {each.event: rank for rank, each in enumerate(INPUTS)}
ORDER_PAID = _RANK_OF[OrderPaid]
TRACKING_NUMBER_UPLOADED = _RANK_OF[TrackingNumberUploaded]
FIRST_SCAN = _RANK_OF[FirstScan]
ORDER_CLOSED = _RANK_OF[OrderClosed]
EXEMPTION_GRANTED = _RANK_OF[ExemptionGranted]
APPEAL_DECIDED = _RANK_OF[AppealDecided]
REFUND_FAILED = _RANK_OF[RefundFailed]


def fact_of(event: LaterFact) -> Fact:
    """Turn an event about an order into what the order keeps of it."""
    fact = INPUT_OF_TYPE[type(event)].fact
    if fact is None:
        raise TypeError(f"an order keeps no list of {type(event).__name__}")
    return fact(*[getattr(event, name) for name in fact.__struct_fields__])


def own_time(one: LaterFact | Fact) -> int:
    """When an event happened, by its own account."""
    at: int = getattr(one, INPUT_OF_TYPE[type(one)].own_time)
    return at
