"""Why an order stands as it does: its deadline, each determination and each charge, step by step.

An explanation is arithmetic over evidence: nothing is judged again. What stands is what the
worker's state says; the arithmetic says why, and `expected` differs from `standing` where the
worker judged by other rules or has not come that far.
"""

from __future__ import annotations

from datetime import date
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
from streams.core.facts.inputs import INPUT_OF_TYPE, own_time
from streams.core.facts.instants import NEVER_MS
from streams.core.facts.order import (
    Order,
    OrderState,
    find_occurrence,
)
from streams.core.facts.outputs import (
    DeadLetter,
    DeadlineChanged,
    OrderClosure,
    ProductBan,
    ShopAction,
    Timeout,
)
from streams.core.rules.book import Rulebook, Terms
from streams.core.rules.deadlines import start_of
from streams.core.rules.judging import clock_of, closure_due
from streams.core.rules.phrases import deadline_text
from streams.core.rules.policy import Deadline, Kind, Policy, Start
from streams.core.rules.repeats import occurrence_due
from streams.core.rules.stops import all_scanned, boundary_ms
from streams.engine.charges import Charge, SanctionCount, ShopAccount
from streams.engine.evidence import Evidence
from streams.engine.exemption_steps import ExemptionStep, exemption_steps

_TOPICS = {
    "uploaded": "tracking-number-uploaded",
    "scanned": "first-scan",
    "closed": "order-closed",
}

Verdict = Literal["stands", "stopped", "waived", "appealed", "pending", "no-clock"]


class KnownFact(Struct, frozen=True, kw_only=True):
    """An accepted event; `counts` is false where an earlier one of its kind is known."""

    at: int
    counts: bool
    fields: dict[str, Any]
    topic: str


class VersionStep(Struct, frozen=True, kw_only=True):
    """A version of the order's platform, and whether the order is judged by it.

    It starts at `effective_from` (`None`: from the beginning), and the order's `effective_by` is
    `at`. Of those that have started, the latest applies.
    """

    applies: bool
    at: int
    effective_by: Literal["placed", "paid"]
    effective_from: int | None
    policy: str


class DayStep(Struct, frozen=True, kw_only=True):
    """A local date that a deadline of working days looked at."""

    date: str
    why: str
    works: bool


class ClockStep(Struct, frozen=True, kw_only=True):
    """The deadline before any exemption, and how it follows from the start."""

    days: list[DayStep]
    """Of working days: the dates after the one that the start counts for."""
    deadline: int
    form: Literal["elapsed", "end-of-day", "calendar-days", "working-days", "instant"]
    limit: int
    """Milliseconds, or days of a form that counts days."""
    rule: str
    """As a policy file writes it."""
    start: Start
    started_at: int


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
    late_after: int
    """How long after a due time a fact is late: 0 where a fact at the deadline is."""
    needs: Start | None
    """What starts the clock of the order's shipping mode, `None` if it has none."""
    stop: Stop | None
    stopped_by: list[str]
    """Topics of the facts that could stop it."""
    waived_by: list[str]
    """The exemptions that waive what its violations cost."""


class RefusedRecord(DeadLetter, frozen=True, kw_only=True, gc=False):
    """A dead letter of the order, and when a repair of it was last sent, `None` if never."""

    resent_at: int | None


class Explanation(Struct, frozen=True, kw_only=True):
    """All there is to say of one order. Instants are epoch milliseconds, `None` for "all"."""

    account_until: int | None
    actions: list[ShopAction]
    """Those on the order's shop that its violations brought about."""
    bans: list[ProductBan]
    closes_at: int | None
    """When the order closes by itself, `None` if it does not (any more)."""
    closures: list[OrderClosure]
    deadline_changes: list[DeadlineChanged]
    facts: list[KnownFact]
    forgotten: bool
    judged_by: str
    kinds: list[KindExplanation]
    order: dict[str, Any]
    policy: str
    processed_until: int | None
    refused: list[RefusedRecord]
    sanctions: list[SanctionCount]
    stale: bool
    """More was written after the state that there is: what stands is what was written."""
    time_zone: str
    totals: dict[str, int]
    """What the journal holds of the order, by unit."""
    versions: list[VersionStep]
    """Of its platform, the latest first."""


def explain(evidence: Evidence, rulebook: Rulebook) -> Explanation:
    """Explain an order that is known.

    Raises:
        ValueError: The evidence holds no such order.
    """
    state, order = evidence.known()
    terms = rulebook.terms_of(order)
    policy = None if terms is None else terms.version.policy
    kinds_of_rules = () if policy is None else policy.kinds
    names = dict.fromkeys([*kinds_of_rules, *(one.kind for one in evidence.timeouts)])
    account = ShopAccount(evidence, rulebook)
    totals: dict[str, int] = {}
    for entry in evidence.penalties:
        totals[entry.unit] = totals.get(entry.unit, 0) + entry.amount
    grace = rulebook.processing.grace
    kinds = [_explain_kind(kind, evidence, terms, account, grace) for kind in names]
    violations = {f"{evidence.order_id}:{one.kind}:{one.occurrence}" for one in evidence.timeouts}
    return Explanation(
        account_until=_until(evidence.account_until_ms),
        actions=[one for one in evidence.actions if one.violation_id in violations],
        bans=evidence.bans,
        closes_at=None if evidence.forgotten else _closes_at(policy, order, evidence),
        closures=evidence.closures,
        deadline_changes=evidence.deadline_changes,
        facts=_facts(state),
        forgotten=evidence.forgotten,
        judged_by=evidence.judged_by or rulebook.label,
        kinds=kinds,
        order={"order_id": evidence.order_id}
        | {field: getattr(order, field) for field in Order.__struct_fields__},
        policy="none" if policy is None else policy.label,
        processed_until=_until(evidence.processed_until_ms),
        refused=[
            RefusedRecord(**asdict(letter), resent_at=evidence.resent.at_ms(letter.source))
            for letter in evidence.dead_letters
        ],
        sanctions=account.sanctions(evidence.order_id),
        stale=_is_stale(evidence, state),
        time_zone=rulebook.time_zone if policy is None else policy.time_zone,
        totals=totals,
        versions=_versions(rulebook, order),
    )


def _versions(rulebook: Rulebook, order: Order) -> list[VersionStep]:
    """Say which versions there are for an order, and which one holds."""
    platform = rulebook.platform_of(order.platform)
    applied = rulebook.version_of(order.platform, order.placed_at, order.paid_at)
    return [
        VersionStep(
            applies=version is applied,
            at=order.paid_at if version.policy.effective_by == "paid" else order.placed_at,
            effective_by=version.policy.effective_by,
            effective_from=version.policy.effective_from,
            policy=version.policy.label,
        )
        for version in (() if platform is None else rulebook.versions[platform])
    ]


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


def _closes_at(policy: Policy | None, order: Order, evidence: Evidence) -> int | None:
    state, _ = evidence.known()
    if policy is None or policy.close_unshipped is None:
        return None
    if state.closed_original or evidence.closures:
        return None
    return _until(closure_due(policy.close_unshipped, order.placed_at, state))


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
    kind: str, evidence: Evidence, terms: Terms | None, account: ShopAccount, grace: int
) -> KindExplanation:
    state, order = evidence.known()
    clocked = None
    if terms is not None:
        clocked = next((each for each in terms.kinds if each.name == kind), None)
    rules = None if clocked is None else clocked.kind
    rule = None if clocked is None else clocked.deadline
    clock: ClockStep | None = None
    steps: list[ExemptionStep] = []
    deadline: int | None = None
    running = None
    if terms is not None and rule is not None:
        running = clock_of(terms, rule, order, state.uploaded_at)
        if running is not None:
            deadline = running[1]
            clock = _clock_step(terms, rule, order, state, deadline)
            steps = exemption_steps(kind, running, evidence, order, terms)
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
    for number in range(1, max([*numbers, 0 if rules is None else rules.times]) + 1):
        violation_id = f"{evidence.order_id}:{kind}:{number}"
        revision, revoked = max(_held(state, kind, number), _written(evidence, kind, number))
        due = None
        if rules is not None and deadline is not None:
            due = occurrence_due(rules, deadline, number)
        expected: Verdict = "no-clock" if clock is None else "waived"
        if due is not None:
            judged_below = evidence.processed_until_ms - grace
            late = due + boundary_ms(rules, deadline) if rules and deadline is not None else due
            shipped = rules is not None and _each_parcel(rules) and all_scanned(state.facts, late)
            expected = _expected(late, stop, shipped, violation_id in appeals, judged_below)
        determinations.append(
            Determination(
                charges=account.charges(violation_id, kind, revision, standing=not revoked),
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
        late_after=0 if rules is None or deadline is None else boundary_ms(rules, deadline),
        needs=None if rule is None else rule.start,
        stop=stop,
        stopped_by=[] if rules is None else [_TOPICS[each] for each in rules.until],
        waived_by=[
            each.exemption_id for each in steps if each.covers and each.effect.waive_penalty
        ],
    )


def _clock_step(
    terms: Terms, rule: Deadline, order: Order, state: OrderState, deadline: int
) -> ClockStep:
    start = start_of(
        rule, order.placed_at, order.paid_at, order.promised_ship_by, order.agreed_ship_by,
        state.uploaded_at,
    )  # fmt: skip
    started_at = deadline if start is None else start
    days = []
    if rule.form == "working-days":
        days = [
            DayStep(date=date.fromordinal(day.ordinal).isoformat(), why=day.why, works=day.works)
            for day in terms.version.clock.counted_days(rule, started_at)
            if day is not None
        ]
    return ClockStep(
        days=days,
        deadline=deadline,
        form=rule.form,
        limit=0 if rule.form == "instant" else rule.amount,
        rule=deadline_text(rule),
        start=rule.start,
        started_at=started_at,
    )


def _each_parcel(rules: Kind) -> bool:
    return rules.parcels == "all" and "scanned" in rules.until


def _expected(
    late: int, stop: Stop | None, shipped: bool, appealed: bool, judged_below: int
) -> Verdict:
    """Judge one determination by when a fact is late for it."""
    if shipped or (stop is not None and stop.at < late):
        return "stopped"
    if appealed:
        return "appealed"
    return "stands" if late < judged_below else "pending"


def _stop(rules: Kind, state: OrderState) -> Stop | None:
    """Find the fact that `stop_instant` gives the instant of."""
    known = {
        "uploaded": state.uploaded_at,
        "scanned": None if _each_parcel(rules) else state.scanned_at,
        "closed": state.closed_at,
    }
    stops = [
        Stop(at=at, topic=_TOPICS[name]) for name in rules.until if (at := known[name]) is not None
    ]
    return min(stops, key=attrgetter("at"), default=None)
