"""Valid events and rules that unit tests start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from streams.core.facts.inputs import INPUT_OF_TOPIC
from streams.core.rules.book import Rulebook
from streams.engine.records import InRecord
from streams.rulebook import load_rulebook
from streams.rulebook.reader import read_policy

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PLACED_AT = 1_670_315_340_000  # 2022-12-06 16:29:00 +08:00, a Tuesday
DEADLINE = PLACED_AT + 72 * HOUR_MS
# The default policy as the first releases had it: such files are read as before.
POLICY_TEXT = (Path(__file__).parent / "douyin-first-scan-1.toml").read_text("utf-8")

Value = dict[str, Any]


def policy_with(*changes: tuple[str, str]) -> Rulebook:
    """Return the default policy with pieces of its text replaced."""
    text = POLICY_TEXT
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} stands {text.count(old)} times in the policy")
        text = text.replace(old, new)
    return rulebook_of(text)


def rulebook_of(text: str) -> Rulebook:
    """Return the rules that a file of this text would have."""
    policy, mistakes = read_policy(text, "changed.toml")
    if policy is None:
        raise ValueError("\n".join(map(str, mistakes)))
    return Rulebook([policy])


POLICY = policy_with()
# Due at the same instants as the first kind; nothing stops it.
SECOND_KIND = """
[violations.no-scan]
stopped_by = []
repeat_every = "24h"
occurrences_max = 1
deadline.normal = { start = "placed", limit = "72h" }

"""
TWO_KINDS = policy_with(("[closure]", f"{SECOND_KIND}[closure]"))


DEFAULT = load_rulebook(["douyin-first-scan"])
"""The rules that a worker without others judges by."""


def rulebook_with(rulebook: Rulebook = POLICY, **fields: Any) -> Rulebook:
    """Return rules of one policy with some of its fields replaced."""
    (policy,) = rulebook.policies
    return Rulebook([msgspec.structs.replace(policy, **fields)])


def paid(order_id: str = "O1", **fields: Any) -> Value:
    """Return an order-paid value."""
    return {
        "order_id": order_id,
        "shop_id": "S1",
        "product_ids": ["P1"],
        "shipping_mode": "normal",
        "placed_at": PLACED_AT,
        "paid_at": PLACED_AT,
        "paid_amount": 9900,
    } | fields


def upload(order_id: str = "O1", uploaded_at: int = PLACED_AT, **fields: Any) -> Value:
    """Return a tracking-number-uploaded value."""
    parcel = {"order_id": order_id, "tracking_number": "T1", "carrier": "SF"}
    return parcel | {"uploaded_at": uploaded_at} | fields


def scan(order_id: str = "O1", scanned_at: int = PLACED_AT, **fields: Any) -> Value:
    """Return a first-scan value."""
    parcel = {"order_id": order_id, "tracking_number": "T1", "carrier": "SF"}
    return parcel | {"scanned_at": scanned_at} | fields


def closed(order_id: str = "O1", closed_at: int = PLACED_AT, **fields: Any) -> Value:
    """Return an order-closed value."""
    return {"order_id": order_id, "closed_at": closed_at, "reason": "refunded"} | fields


def exemption(exemption_id: str = "X1", **fields: Any) -> Value:
    """Return an exemption-granted value that waives everything."""
    return {
        "exemption_id": exemption_id,
        "source": "platform",
        "granted_at": PLACED_AT,
        "effect": {"waive": True},
        "scope": {},
    } | fields


def appeal(violation_id: str = "O1:late-scan:1", **fields: Any) -> Value:
    """Return an appeal-decided value that grants."""
    return {
        "appeal_id": "A1",
        "violation_id": violation_id,
        "order_id": "O1",
        "outcome": "granted",
        "decided_at": PLACED_AT,
    } | fields


def refund_failed(order_id: str = "O1", failed_at: int = PLACED_AT) -> Value:
    """Return a refund-failed value."""
    return {"order_id": order_id, "failed_at": failed_at}


# One valid value of every input topic, by rank.
VALUES = (paid(), upload(), scan(), closed(), exemption(), appeal(), refund_failed())


def raw(value: Any) -> bytes:
    """Encode a value as a producer would."""
    return json.dumps(value, ensure_ascii=False).encode()


def own_time(topic: str, value: Value) -> int:
    """Return an event's own time."""
    at: int = value[INPUT_OF_TOPIC[topic].own_time]
    return at


def record(topic: str, value: Value, timestamp: int | None = None, offset: int = 0) -> InRecord:
    """Return an event as a source hands it over, by default at its own time."""
    at = own_time(topic, value) if timestamp is None else timestamp
    key = value.get("order_id")
    return InRecord(offset, at, None if key is None else key.encode(), raw(value))


def line(topic: str, value: Any, **fields: Any) -> bytes:
    """Return an event as a line of a `simulate` file."""
    return raw({"topic": topic, "value": value} | fields)
