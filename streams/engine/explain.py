"""Why an order stands as it does: its deadline, each determination and each charge, step by step.

An explanation is arithmetic over evidence: nothing is judged again. What stands is what the
worker's state says; the arithmetic says why, and `expected` differs from `standing` where the
worker judged by other rules or has not come that far.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

from streams.core.facts.accepted import (
    AppealFact,
    ClosedFact,
    Fact,
    RefundFact,
    ScanFact,
    UploadFact,
)
from streams.core.facts.events import Effect, ExemptionGranted
from streams.core.facts.inputs import INPUT_OF_TYPE, own_time
from streams.core.facts.instants import NEVER_MS
from streams.core.facts.order import (
    Order,
    OrderState,
    Subject,
    find_occurrence,
    subject_of,
)
from streams.core.facts.outputs import DeadLetter, OrderClosure, ProductBan, Timeout
from streams.core.rules.deadlines import running_clock
from streams.core.rules.exemptions import covers, exempted_deadline
from streams.core.rules.judging import closure_due
from streams.core.rules.policy import KindRules, Policy
from streams.core.rules.repeats import occurrence_due
from streams.engine.charges import Charge, ShopAccount
from streams.engine.evidence import Evidence

Verdict = Literal["stands", "stopped", "waived", "appealed", "pending", "no-clock"]


class KnownFact(Struct, frozen=True, kw_only=True):
    """An accepted event; `counts` is false where an earlier one of its kind is known."""

    at: int
    counts: bool
    fields: dict[str, Any]
    topic: str


class ClockStep(Struct, frozen=True, kw_only=True):
    """Start + limit, the deadline before any exemption."""

    deadline: int
    limit: int
    start: Literal["placed", "uploaded", "promised"]
    started_at: int


class Outside(Struct, frozen=True, kw_only=True):
    """The field that leaves an order out of an exemption: what the order has, what was wanted.

    `wanted` are the members of a list, or the first and the last instant of `paid` or `deadline`.
    """

    field: str
    given: str | int | None
    wanted: list[Any]


class ExemptionStep(Struct, frozen=True, kw_only=True):
    """What an exemption did to the deadline; after one that waives there is none."""

    covers: bool
    deadline_after: int | None
    deadline_before: int
    effect: Effect
    exemption_id: str
    granted_at: int
    outside: Outside | None
    source: str


class Stop(Struct, frozen=True, kw_only=True):
    """The earliest fact that stops a kind; what is due at or before it is late."""

    at: int
    topic: str


class Determination(Struct, frozen=True, kw_only=True):
    """The n-th determination of a kind; `due` is its instant under the deadline that holds."""

    charges: list[Charge]
    due: int | None
    expected: Verdict
    history: list[Timeout]
    number: int
    revision: int
    standing: bool
    violation_id: str


class KindExplanation(Struct, frozen=True, kw_only=True):
    """One kind of violation of the order."""

    appeals: dict[str, str]
    """Granted appeals by violation_id."""
    clock: ClockStep | None
    deadline: int | None
    """The deadline that holds, `None` without a clock or where the kind is waived."""
    determinations: list[Determination]
    exemptions: list[ExemptionStep]
    """In the order they apply, up to one that waives."""
    kind: str
    needs: Literal["placed", "uploaded", "promised"] | None
    """What starts the clock of the order's shipping mode, `None` if it has none."""
    stop: Stop | None
    stopped_by: list[str]
    """Topics of the facts that could stop it."""


class RefusedRecord(DeadLetter, frozen=True, kw_only=True, gc=False):
    """A dead letter of the order, and when a repair of it was last sent, `None` if never."""

    resent_at: int | None


class Explanation(Struct, frozen=True, kw_only=True):
    """All there is to say of one order. Instants are epoch milliseconds, `None` for "all"."""

    account_until: int | None
    bans: list[ProductBan]
    closes_at: int | None
    """When the order closes by itself, `None` if it does not (any more)."""
    closures: list[OrderClosure]
    facts: list[KnownFact]
    forgotten: bool
    judged_by: str
    kinds: list[KindExplanation]
    order: dict[str, Any]
    policy: str
    processed_until: int | None
    refused: list[RefusedRecord]
    stale: bool
    """More was written after the state that there is: what stands is what was written."""
    time_zone: str
    totals: dict[str, int]
    """What the journal holds of the order, by unit."""


def explain(evidence: Evidence, policy: Policy) -> Explanation:
    """Explain an order that is known.

    Raises:
        ValueError: The evidence holds no such order.
    """
    state, order = evidence.known()
    names = dict.fromkeys([*policy.violations, *(one.kind for one in evidence.timeouts)])
    account = ShopAccount(evidence, policy)
    totals: dict[str, int] = {}
    for entry in evidence.penalties:
        totals[entry.unit] = totals.get(entry.unit, 0) + entry.amount
    kinds = [_explain_kind(kind, evidence, policy, account) for kind in names]
    return Explanation(
        account_until=_until(evidence.account_until_ms),
        bans=evidence.bans,
        closes_at=None if evidence.forgotten else _closes_at(policy, order, evidence),
        closures=evidence.closures,
        facts=_facts(state),
        forgotten=evidence.forgotten,
        judged_by=evidence.judged_by or policy.label,
        kinds=kinds,
        order={"order_id": evidence.order_id}
        | {field: getattr(order, field) for field in Order.__struct_fields__},
        policy=policy.label,
        processed_until=_until(evidence.processed_until_ms),
        refused=[
            RefusedRecord(**asdict(letter), resent_at=evidence.resent.at_ms(letter.source))
            for letter in evidence.dead_letters
        ],
        stale=_is_stale(evidence, state),
        time_zone=str(policy.time_zone),
        totals=totals,
    )


# Facts


def _facts(state: OrderState) -> list[KnownFact]:
    facts = [
        KnownFact(
            at=own_time(fact),
            counts=_counts(state, fact),
            fields=asdict(fact),
            topic=INPUT_OF_TYPE[type(fact)].topic,
        )
        for fact in state.facts
    ]
    return sorted(facts, key=attrgetter("at"))


def _counts(state: OrderState, fact: Fact) -> bool:
    """Tell whether judging reads a fact: the earliest of its kind, or an appeal that granted."""
    if isinstance(fact, AppealFact):
        return fact.outcome == "granted"
    earliest = {
        UploadFact: state.uploaded_at,
        ScanFact: state.scanned_at,
        ClosedFact: state.closed_at,
        RefundFact: state.refund_failed_at,
    }
    return own_time(fact) == earliest[type(fact)]


def _closes_at(policy: Policy, order: Order, evidence: Evidence) -> int | None:
    state, _ = evidence.known()
    if policy.closure is None or state.closed_original or evidence.closures:
        return None
    return _until(closure_due(policy.closure, order.placed_at, state))


def _is_stale(evidence: Evidence, state: OrderState) -> bool:
    """Look whether something was written that the state does not know of.

    A state that is determined and forgotten within one checkpoint is never written, and outputs are
    read after the state.
    """
    if evidence.closures and not state.closed_original:
        return True
    return any(
        _written(evidence, one.kind, one.occurrence) > _held(state, one.kind, one.occurrence)
        for one in evidence.timeouts
    )


def _held(state: OrderState, kind: str, number: int) -> tuple[int, bool]:
    """Tell revision and whether it is revoked, as the state has them; larger is newer."""
    occurrence = find_occurrence(state, kind, number)
    return (0, True) if occurrence is None else (occurrence.revision, not occurrence.standing)


def _written(evidence: Evidence, kind: str, number: int) -> tuple[int, bool]:
    """Tell the same as the outputs have it."""
    found = [
        (one.revision, one.revoked_at is not None)
        for one in evidence.timeouts
        if one.kind == kind and one.occurrence == number
    ]
    return max(found, default=(0, True))


def _until(instant: int) -> int | None:
    return instant if instant < NEVER_MS else None


# Deadline and determinations


def _explain_kind(
    kind: str, evidence: Evidence, policy: Policy, account: ShopAccount
) -> KindExplanation:
    state, order = evidence.known()
    rules = policy.violations.get(kind)
    rule = None if rules is None else rules.deadline.get(order.shipping_mode)
    running = running_clock(rule, order.placed_at, order.promised_ship_by, state.uploaded_at)
    clock: ClockStep | None = None
    steps: list[ExemptionStep] = []
    deadline: int | None = None
    if running is not None and rule is not None:
        _, deadline = running
        clock = ClockStep(
            deadline=deadline,
            limit=int(rule.limit),
            start=rule.start,
            started_at=deadline - rule.limit,
        )
        steps = _exemption_steps(kind, deadline, evidence, order)
        deadline = steps[-1].deadline_after if steps else deadline
    appeals = {
        fact.violation_id: fact.appeal_id
        for fact in state.facts
        if isinstance(fact, AppealFact) and fact.outcome == "granted"
    }
    stop = None if rules is None else _stop(rules, state)
    history = [one for one in evidence.timeouts if one.kind == kind]
    numbers = [one.occurrence for one in history]
    determinations = []
    for number in range(1, max([*numbers, 0 if rules is None else rules.occurrences_max]) + 1):
        violation_id = f"{evidence.order_id}:{kind}:{number}"
        revision, revoked = max(_held(state, kind, number), _written(evidence, kind, number))
        due = None
        if rules is not None and deadline is not None:
            due = occurrence_due(rules, deadline, number)
        expected: Verdict = "no-clock" if clock is None else "waived"
        if due is not None:
            judged_below = evidence.processed_until_ms - policy.grace
            expected = _expected(due, stop, violation_id in appeals, judged_below)
        determinations.append(
            Determination(
                charges=account.charges(violation_id, revision, standing=not revoked),
                due=due,
                expected=expected,
                history=[one for one in history if one.occurrence == number],
                number=number,
                revision=revision,
                standing=not revoked,
                violation_id=violation_id,
            )
        )
    return KindExplanation(
        appeals=appeals,
        clock=clock,
        deadline=deadline,
        determinations=determinations,
        exemptions=steps,
        kind=kind,
        needs=None if rule is None else rule.start,
        stop=stop,
        stopped_by=[] if rules is None else list(rules.stopped_by),
    )


def _expected(due: int, stop: Stop | None, appealed: bool, judged_below: int) -> Verdict:
    """Judge one determination by its due time."""
    if stop is not None and stop.at < due:
        return "stopped"
    if appealed:
        return "appealed"
    return "stands" if due < judged_below else "pending"


def _stop(rules: KindRules, state: OrderState) -> Stop | None:
    """Find the fact that `stop_instant` gives the instant of."""
    known = {
        "tracking-number-uploaded": state.uploaded_at,
        "first-scan": state.scanned_at,
        "order-closed": state.closed_at,
    }
    stops = [
        Stop(at=at, topic=topic) for topic in rules.stopped_by if (at := known[topic]) is not None
    ]
    return min(stops, key=attrgetter("at"), default=None)


def _exemption_steps(
    kind: str, original: int, evidence: Evidence, order: Order
) -> list[ExemptionStep]:
    """Apply the exemptions one by one; their scopes see the deadline before any of them."""
    subject = subject_of(evidence.order_id, order)
    steps: list[ExemptionStep] = []
    deadline: int | None = original
    grant_order = attrgetter("granted_at", "exemption_id")
    for exemption in sorted(evidence.exemptions.values(), key=grant_order):
        if deadline is None:
            break
        before = deadline
        covered = covers(exemption, kind, subject, original)
        if covered:
            deadline = exempted_deadline(before, [exemption])
        steps.append(
            ExemptionStep(
                covers=covered,
                deadline_after=deadline,
                deadline_before=before,
                effect=exemption.effect,
                exemption_id=exemption.exemption_id,
                granted_at=exemption.granted_at,
                outside=None if covered else outside(exemption, kind, subject, original),
                source=exemption.source,
            )
        )
    return steps


def outside(
    exemption: ExemptionGranted, kind: str, subject: Subject, deadline: int
) -> Outside | None:
    """Name the first field of an exemption that leaves an order out, `None` if it covers it."""
    scope = exemption.scope
    lists = (
        ("kinds", exemption.kinds or None, kind),
        ("order_ids", scope.order_ids, subject.order_id),
        ("shop_ids", scope.shop_ids, subject.shop_id),
        ("regions", scope.regions, subject.region),
        ("ship_from_regions", scope.ship_from_regions, subject.ship_from_region),
        ("shipping_modes", scope.shipping_modes, subject.shipping_mode),
    )
    for field, members, value in lists:
        if members is not None and value not in members:
            return Outside(field=field, given=value, wanted=list(members))
    bounds = (
        ("paid", scope.paid_from, subject.paid_at, scope.paid_until),
        ("deadline", scope.deadline_from, deadline, scope.deadline_until),
    )
    for field, first, at, last in bounds:
        if (first is not None and at < first) or (last is not None and at > last):
            return Outside(field=field, given=at, wanted=[first, last])
    return None
