"""From an order's facts and a deadline rule to a running clock.

What lives here: when a clock starts and the deadline before exemptions. What must not: what moves a
deadline (`exemptions`), what stops a clock (`stops`), state.
"""

from __future__ import annotations

from streams.core.rules.policy import DeadlineRule

# A running clock: when it started and the deadline before any exemption. A plain tuple: one is
# made whenever an order is judged.
Clock = tuple[int, int]


def running_clock(
    rule: DeadlineRule | None, placed_at: int, promised_ship_by: int | None, uploaded_at: int | None
) -> Clock | None:
    """Start an order's clock under one rule; `None` while it has no start."""
    if rule is None:
        return None
    if rule.start == "placed":
        return placed_at, placed_at + rule.limit
    if rule.start == "uploaded":
        return None if uploaded_at is None else (uploaded_at, uploaded_at + rule.limit)
    return None if promised_ship_by is None else (placed_at, promised_ship_by + rule.limit)
