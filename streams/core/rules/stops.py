"""What stops a clock: the earliest of the facts that a kind is stopped by.

What lives here: which fact ends a kind, and when. What must not: deadlines.
"""

from __future__ import annotations

from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.rules.policy import KindRules


def stop_instant(
    rules: KindRules, uploaded_at: int | None, scanned_at: int | None, closed_at: int | None
) -> int:
    """Earliest fact that stops a kind; what is due after it does not hold. Equality is late."""
    stop = END_OF_TIME_MS
    stopped_by = rules.stopped_by
    if scanned_at is not None and "first-scan" in stopped_by:
        stop = scanned_at
    if closed_at is not None and closed_at < stop and "order-closed" in stopped_by:
        stop = closed_at
    if uploaded_at is not None and uploaded_at < stop and "tracking-number-uploaded" in stopped_by:
        stop = uploaded_at
    return stop
