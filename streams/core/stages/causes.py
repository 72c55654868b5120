"""What a revocation is put down to.

What lives here: the reason and cause of a `timeout.revoked`. What must not: whether a determination
holds (`judging`).
"""

from __future__ import annotations

from streams.core.facts.events import AppealDecided, Event, ExemptionGranted
from streams.core.facts.inputs import INPUT_OF_TYPE
from streams.core.facts.outputs import RevocationReason
from streams.core.rules.book import Terms


def reason_of(cause: Event | None, violation_id: str, terms: Terms) -> tuple[RevocationReason, str]:
    """Name what a revocation comes from: an exemption, an appeal, or evidence of a topic.

    A timer, or an appeal that did not grant this violation, revokes only where other rules than
    today's made the determination.
    """
    if isinstance(cause, ExemptionGranted):
        return "exemption", cause.exemption_id
    if isinstance(cause, AppealDecided) and (
        (cause.violation_id, cause.outcome) == (violation_id, "granted")
    ):
        return "appeal", cause.appeal_id
    if cause is None or isinstance(cause, AppealDecided):
        return "late-evidence", terms.version.policy.label
    return "late-evidence", INPUT_OF_TYPE[type(cause)].topic
