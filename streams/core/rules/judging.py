"""What one order's facts call for at one instant: revocations, what is due, the next timer.

What lives here: whether a determination, warning or closure holds, and when it is due (the rules
are told in `docs/semantics.md`, "Judging an order"). What must not: what is then put out and kept
(`orders`), deadline arithmetic (`clock`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.order import Occurrence, Order, OrderState
from streams.core.rules.deadlines import Clock, running_clock
from streams.core.rules.policy import ClosureRules, KindRules, Policy
from streams.core.rules.repeats import occurrence_due
from streams.core.rules.stops import stop_instant

WARNING = "deadline-warning"
CLOSURE = "order-closure"


class Due(NamedTuple):
    """Something due now; sorts in firing order: due, timer name, occurrence."""

    due: int
    timer: str
    number: int
    kind: str
    deadline: int


# Revocations; what is due now, in firing order; when the next timer is due (`END_OF_TIME_MS` if
# nothing is pending). A plain tuple: one is made whenever an order is judged.
Verdict = tuple[list[Occurrence], list[Due], int]
# The deadline that holds after exemptions, given the kind and its running clock.
DeadlineOf = Callable[[str, Clock], int | None]


def judge(
    policy: Policy, order: Order, state: OrderState, order_id: str, limit: int, on_timer: bool,
    deadline_of: DeadlineOf | None,
) -> Verdict:  # fmt: skip
    """Compare what stands with what the facts call for.

    Args:
        limit: What is due at or before it is due now.
        on_timer: A timer fired at `limit`; a warning is given at no other instant.
        deadline_of: Applies the exemptions of the order, `None` where there are none.
    """
    revoked: list[Occurrence] = []
    due_now: list[Due] = []
    next_due = END_OF_TIME_MS
    uploaded_at, occurrences, appealed = state.uploaded_at, state.occurrences, state.appealed
    for kind, rules in policy.violations.items():
        rule = rules.deadline.get(order.shipping_mode)
        clock = running_clock(rule, order.placed_at, order.promised_ship_by, uploaded_at)
        if clock is None:
            deadline = None
        else:
            start, deadline = clock
            if deadline_of is not None:
                deadline = deadline_of(kind, clock)
        stop = stop_instant(rules, uploaded_at, state.scanned_at, state.closed_at)
        standing: list[int] = []
        if occurrences:
            for occurrence in occurrences:
                if not occurrence.standing or occurrence.kind != kind:
                    continue
                if _holds(occurrence, rules, deadline, stop, order_id, appealed):
                    standing.append(occurrence.number)
                else:
                    revoked.append(occurrence)
        if deadline is None:
            continue
        for lead in rules.warn_before:
            at = deadline - lead
            if start < at <= stop:
                if at > limit:
                    if at < next_due:
                        next_due = at
                elif on_timer and at == limit:
                    due_now.append(Due(at, WARNING, 0, kind, deadline))
        if deadline > limit and not occurrences and not appealed:
            # Most orders, most of the time: the first determination is still to come, or never.
            if deadline <= stop and deadline < next_due:
                next_due = deadline
            continue
        due = deadline
        for number in range(1, rules.occurrences_max + 1):
            if due > stop:
                break
            if number not in standing and not (
                appealed and f"{order_id}:{kind}:{number}" in appealed
            ):
                if due > limit:
                    if due < next_due:
                        next_due = due
                    break
                due_now.append(Due(due, kind, number, kind, deadline))
            due += rules.repeat_every
    if occurrences:
        # Other rules made them, and today's do not know their kind.
        known = policy.violations
        revoked += [each for each in occurrences if each.standing and each.kind not in known]
    if policy.closure is not None and not state.closed_original:
        due = closure_due(policy.closure, order.placed_at, state)
        if due <= limit:
            due_now.append(Due(due, CLOSURE, 0, "", 0))
        elif due < next_due:
            next_due = due
    if len(revoked) > 1:
        revoked.sort(key=_number)
    if len(due_now) > 1:
        due_now.sort()
    return revoked, due_now, next_due


def _holds(
    occurrence: Occurrence, rules: KindRules, deadline: int | None, stop: int, order_id: str,
    appealed: list[str],
) -> bool:  # fmt: skip
    """Tell whether a standing determination still follows from the facts. Equality is late."""
    return (
        deadline is not None
        and occurrence.number <= rules.occurrences_max
        and occurrence.deadline == deadline
        and occurrence.determined_at == occurrence_due(rules, deadline, occurrence.number) <= stop
        and f"{order_id}:{occurrence.kind}:{occurrence.number}" not in appealed
    )


def closure_due(rules: ClosureRules, placed_at: int, state: OrderState) -> int:
    """When the order closes as unshipped, `END_OF_TIME_MS` if an earlier fact prevents it."""
    due = placed_at + rules.after_placed
    if (
        (state.uploaded_at is not None and state.uploaded_at < due)
        or (state.scanned_at is not None and state.scanned_at < due)
        or (state.closed_at is not None and state.closed_at < due)
    ):
        return END_OF_TIME_MS
    return due


def _number(occurrence: Occurrence) -> tuple[int, str]:
    return occurrence.number, occurrence.kind
