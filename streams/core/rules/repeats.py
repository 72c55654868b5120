"""When the determinations of a kind that goes on are due.

What lives here: the due time of the n-th determination. What must not: whether it holds
(`judging`).
"""

from __future__ import annotations

from streams.core.rules.policy import Kind


def occurrence_due(kind: Kind, deadline: int, occurrence: int) -> int:
    """Instant at which the n-th determination of a kind is due (n from 1)."""
    return deadline + (occurrence - 1) * kind.every
