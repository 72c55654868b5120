"""What one order's facts call for at one instant: revocations, what is due, the next timer.

What lives here: whether a determination, warning or closure holds, and when it is due (the rules
are told in `docs/rules.md`, "Judging an order"). What must not: what is then put out and kept
(`orders`), and each rule's own arithmetic (the other files of this room).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streams.core.facts.events import ExemptionGranted, OrderPaid
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.order import Occurrence, Order, OrderState, Subject
from streams.core.rules.book import Terms
from streams.core.rules.deadlines import start_of
from streams.core.rules.exemptions import Ruling, Running, apply_exemptions, covers
from streams.core.rules.policy import Deadline, Kind
from streams.core.rules.repeats import occurrence_due
from streams.core.rules.stops import all_scanned, boundary_ms, stop_instant

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
Rulings = dict[str, Ruling]
"""What exemptions make of each kind whose clock runs."""


def rulings_of(
    terms: Terms, order: Order, state: OrderState, subject: Subject,
    exemptions: Sequence[ExemptionGranted],
) -> Rulings:  # fmt: skip
    """Apply exemptions, in their order, to every clock of an order that runs."""

    def running_of(deadline: Deadline) -> Running | None:
        return clock_of(terms, deadline, order, state.uploaded_at)

    rulings: Rulings = {}
    for name, _, deadline in terms.kinds:
        running = None if deadline is None else running_of(deadline)
        if running is not None:
            rulings[name] = apply_exemptions(exemptions, name, subject, running, running_of)
    return rulings


def concerns(
    exemption: ExemptionGranted, terms: Terms, subject: Subject, order: Order,
    uploaded_at: int | None,
) -> bool:  # fmt: skip
    """Tell whether an exemption covers a kind of an order whose clock runs."""
    for name, _, deadline in terms.kinds:
        running = deadline and clock_of(terms, deadline, order, uploaded_at)
        if running and covers(exemption, name, subject, running[1]):
            return True
    return False


def clock_of(
    terms: Terms, deadline: Deadline, order: Order | OrderPaid, uploaded_at: int | None
) -> Running | None:
    """Start the clock of an order under a deadline; `None` while what it counts from is not known.

    Warnings come after the start, of a promised or agreed time after the placing.
    """
    start = start_of(
        deadline, order.placed_at, order.paid_at, order.promised_ship_by, order.agreed_ship_by,
        uploaded_at,
    )  # fmt: skip
    if start is None:
        return None
    runs_from = order.placed_at if deadline.start in ("promised", "agreed") else start
    return runs_from, terms.version.clock.deadline_at(deadline, start)


def judge(
    terms: Terms, order: Order, state: OrderState, order_id: str, limit: int, on_timer: bool,
    rulings: Rulings | None,
) -> Verdict:  # fmt: skip
    """Compare what stands with what the facts call for.

    Args:
        limit: What is due at or before it is due now.
        on_timer: A timer fired at `limit`; a warning is given at no other instant.
        rulings: What the order's exemptions come to, `None` where there are none.
    """
    revoked: list[Occurrence] = []
    due_now: list[Due] = []
    next_due = END_OF_TIME_MS
    uploaded_at, occurrences, appealed = state.uploaded_at, state.occurrences, state.appealed
    for name, kind, rule_ in terms.kinds:
        if rulings is not None:
            ruling = rulings.get(name)
            running = None if ruling is None else ruling.running
        else:
            running = None if rule_ is None else clock_of(terms, rule_, order, uploaded_at)
        stop = stop_instant(kind, uploaded_at, state.scanned_at, state.closed_at)
        standing: list[int] = []
        if occurrences:
            for occurrence in occurrences:
                if not occurrence.standing or occurrence.kind != name:
                    continue
                if _holds(occurrence, kind, running, stop, order_id, state):
                    standing.append(occurrence.number)
                else:
                    revoked.append(occurrence)
        if running is None:
            continue
        start, deadline = running
        each_parcel = kind.parcels == "all" and "scanned" in kind.until
        for lead in kind.warn_before:
            at = deadline - lead
            if start < at <= stop and not (each_parcel and all_scanned(state.facts, at)):
                if at > limit:
                    if at < next_due:
                        next_due = at
                elif on_timer and at == limit:
                    due_now.append(Due(at, WARNING, 0, name, deadline))
        boundary = boundary_ms(kind, deadline) if kind.on_time_at_limit else 0
        late = deadline + boundary
        if late > limit and not occurrences and not appealed and not each_parcel:
            # Most orders, most of the time: the first determination is still to come, or never.
            if late <= stop and late < next_due:
                next_due = late
            continue
        for number in range(1, kind.times + 1):
            if late > stop:
                break
            if (
                number not in standing
                and not (appealed and f"{order_id}:{name}:{number}" in appealed)
                and not (each_parcel and all_scanned(state.facts, late))
            ):
                if late > limit:
                    if late < next_due:
                        next_due = late
                    break
                due_now.append(Due(late - boundary, name, number, name, deadline))
            late += kind.every
    if occurrences:
        # Other rules made them, and today's do not know their kind.
        known = terms.version.policy.kinds
        revoked += [each for each in occurrences if each.standing and each.kind not in known]
    close_unshipped = terms.version.policy.close_unshipped
    if close_unshipped is not None and not state.closed_original:
        due = closure_due(close_unshipped, order.placed_at, state)
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
    occurrence: Occurrence, kind: Kind, running: Running | None, stop: int, order_id: str,
    state: OrderState,
) -> bool:  # fmt: skip
    """Tell whether a standing determination still follows from the facts."""
    if running is None:
        return False
    deadline = running[1]
    due = occurrence_due(kind, deadline, occurrence.number)
    late = due + boundary_ms(kind, deadline)
    return (
        occurrence.number <= kind.times
        and occurrence.deadline == deadline
        and occurrence.determined_at == due
        and late <= stop
        and f"{order_id}:{occurrence.kind}:{occurrence.number}" not in state.appealed
        and not (
            kind.parcels == "all" and "scanned" in kind.until and all_scanned(state.facts, late)
        )
    )


def closure_due(after_placed: int, placed_at: int, state: OrderState) -> int:
    """When the order closes as unshipped, `END_OF_TIME_MS` if an earlier fact prevents it."""
    due = placed_at + after_placed
    if (
        (state.uploaded_at is not None and state.uploaded_at < due)
        or (state.scanned_at is not None and state.scanned_at < due)
        or (state.closed_at is not None and state.closed_at < due)
    ):
        return END_OF_TIME_MS
    return due


def _number(occurrence: Occurrence) -> tuple[int, str]:
    return occurrence.number, occurrence.kind
