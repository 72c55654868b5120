"""Single facts, determinations and journal entries in a line each."""

from __future__ import annotations

from typing import Any

from streams.core.facts.money import money
from streams.core.facts.outputs import Penalty, Timeout
from streams.engine.explain import KnownFact

_FACT_WORDS = {
    "tracking-number-uploaded": "tracking number uploaded",
    "first-scan": "first scan",
    "order-closed": "closed",
    "appeal-decided": "appeal",
    "refund-failed": "refund failed",
}


def event_text(event: Timeout) -> str:
    """Write a determination or a revocation."""
    if event.revoked_at is None:
        return f"determined, revision {event.revision}"
    named = event.reason if event.reason in ("exemption", "appeal") else "late"
    return f"revoked, revision {event.revision}: {named} {event.cause}"


def entry_text(entry: Penalty) -> str:
    """Write an entry of the journal."""
    verb = "charged" if entry.amount > 0 else "reversed"
    return f"{entry.account} {verb}: {money(abs(entry.amount), entry.unit)} of {entry.day}"


def fact_text(fact: KnownFact) -> str:
    """Write an accepted fact for people."""
    fields: dict[str, Any] = fact.fields
    text = _FACT_WORDS[fact.topic]
    if "tracking_number" in fields:
        text += f": {fields['carrier']} {fields['tracking_number']}"
        if fields.get("replaces") is not None:
            text += f", replaces {fields['replaces']}"
    elif fact.topic == "order-closed":
        text += f": {fields['reason']}"
    elif fact.topic == "appeal-decided":
        text += f" {fields['appeal_id']} {fields['outcome']}: {fields['violation_id']}"
    if fact.topic != "appeal-decided" and not fact.counts:
        text += " (an earlier one counts)"
    return text
