"""Why an order stands as it does: its deadline, each determination and each charge, step by step.

An explanation is arithmetic over evidence: nothing is judged anew. What stands is what the worker's
state says; the arithmetic says why, and `expected` differs from `standing` where the worker judged
by other rules or has not come that far.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from streams.core.clock import (
    NEVER_MS,
    Calendar,
    Subject,
    covers,
    exempted_deadline,
    occurrence_due,
    running_clock,
)
from streams.core.events import (
    APPEAL_DECIDED,
    EVENT_TYPES,
    FIRST_SCAN,
    INPUT_TOPICS,
    ORDER_CLOSED,
    OWN_TIME_FIELDS,
    REFUND_FAILED,
    TRACKING_NUMBER_UPLOADED,
    Effect,
    ExemptionGranted,
)
from streams.core.orders import Occurrence, Order, OrderState
from streams.core.outputs import DeadLetter, OrderClosure, Penalty, ProductBan, Timeout
from streams.core.policy import DepositRules, KindRules, PointsRules, Policy
from streams.core.shops import Violation
from streams.engine.evidence import Evidence

Account = Literal["points", "deposit"]
Cap = Literal["order", "day", "week"]
ChargeStatus = Literal["charged", "capped", "settles", "waiting", "none"]
Verdict = Literal["stands", "stopped", "waived", "appealed", "pending", "no-clock"]


class Fact(Struct, frozen=True, kw_only=True):
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


class Charge(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One violation on one account of its shop: the journal, and why it holds that.

    `charged`: it stands and is booked. `settles`: it will be, at `settles_at`. `capped`: of the
    `limit` an order, day or week has, `used` was used up before it. `waiting`: the account has not
    come to the violation, or to its end, yet. `none`: it does not stand and owes nothing.
    """

    account: Account
    balance: int
    cap: Cap | None = None
    entries: list[Penalty]
    limit: int | None = None
    settles_at: int | None = None
    status: ChargeStatus
    unit: str
    used: int | None = None


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


class Explanation(Struct, frozen=True, kw_only=True):
    """All there is to say of one order. Instants are epoch milliseconds, `None` for "all"."""

    account_until: int | None
    bans: list[ProductBan]
    closes_at: int | None
    """When the order closes by itself, `None` if it does not (any more)."""
    closures: list[OrderClosure]
    facts: list[Fact]
    forgotten: bool
    judged_by: str
    kinds: list[KindExplanation]
    order: dict[str, Any]
    policy: str
    processed_until: int | None
    refused: list[DeadLetter]
    time_zone: str
    totals: dict[str, int]
    """What the journal holds of the order, by unit."""


def explain(evidence: Evidence, policy: Policy) -> Explanation:
    """Explain an order that is known.

    Raises:
        ValueError: The evidence holds no such order.
    """
    state, order = evidence.known()
    kinds = dict.fromkeys([*policy.violations, *(one.kind for one in evidence.timeouts)])
    account = _ShopAccount(evidence, policy)
    totals: dict[str, int] = {}
    for entry in evidence.penalties:
        totals[entry.unit] = totals.get(entry.unit, 0) + entry.amount
    return Explanation(
        account_until=_until(evidence.account_until_ms),
        bans=evidence.bans,
        closes_at=_closes_at(policy, state, order),
        closures=evidence.closures,
        facts=_facts(state),
        forgotten=evidence.forgotten,
        judged_by=evidence.judged_by or policy.label,
        kinds=[_explain_kind(kind, evidence, policy, account) for kind in kinds],
        order={"order_id": evidence.order_id}
        | {field: getattr(order, field) for field in Order.__struct_fields__},
        policy=policy.label,
        processed_until=_until(evidence.processed_until_ms),
        refused=evidence.dead_letters,
        time_zone=policy.time_zone,
        totals=totals,
    )


def waiting_facts(state: OrderState) -> list[Fact]:
    """Facts that wait for their order, each with the instant it becomes a dead letter."""
    return [
        Fact(
            at=entry.expires_at,
            counts=False,
            fields=_named(entry.fact),
            topic=INPUT_TOPICS[entry.rank],
        )
        for entry in state.waiting
    ]


# Facts


def _facts(state: OrderState) -> list[Fact]:
    counting = {
        TRACKING_NUMBER_UPLOADED: state.uploaded_at,
        FIRST_SCAN: state.scanned_at,
        ORDER_CLOSED: state.closed_at,
        REFUND_FAILED: state.refund_failed_at,
    }
    facts = []
    for fact in state.facts:
        rank, fields = fact[0], _named(fact)
        at = fields[OWN_TIME_FIELDS[rank]]
        counts = fields["outcome"] == "granted" if rank == APPEAL_DECIDED else at == counting[rank]
        facts.append(Fact(at=at, counts=counts, fields=fields, topic=INPUT_TOPICS[rank]))
    return sorted(facts, key=attrgetter("at"))


def _named(fact: list[Any]) -> dict[str, Any]:
    """Give the fields of a fact in its list form their names."""
    names = [name for name in EVENT_TYPES[fact[0]].__struct_fields__ if name != "order_id"]
    return dict(zip(names, fact[1:], strict=True))


def _closes_at(policy: Policy, state: OrderState, order: Order) -> int | None:
    if policy.closure is None or state.closed_original:
        return None
    due = order.placed_at + policy.closure.after_placed
    ended = [state.uploaded_at, state.scanned_at, state.closed_at]
    return None if any(at is not None and at < due for at in ended) else due


def _until(reached_ms: int) -> int | None:
    return reached_ms if reached_ms < NEVER_MS else None


# Deadline and determinations


def _explain_kind(
    kind: str, evidence: Evidence, policy: Policy, account: _ShopAccount
) -> KindExplanation:
    state, order = evidence.known()
    rules = policy.violations.get(kind)
    rule = None if rules is None else rules.deadline.get(order.shipping_mode)
    running = running_clock(rule, order.placed_at, order.promised_ship_by, state.uploaded_at)
    clock, steps, deadline = None, [], None
    if running is not None and rule is not None:
        deadline = running.deadline
        clock = ClockStep(
            deadline=deadline, limit=rule.limit, start=rule.start, started_at=deadline - rule.limit
        )
        steps = _exemption_steps(kind, deadline, evidence, order)
        deadline = steps[-1].deadline_after if steps else deadline
    appeals = {
        fact[2]: fact[1]
        for fact in state.facts
        if fact[0] == APPEAL_DECIDED and fact[3] == "granted"
    }
    stop = None if rules is None else _stop(rules, state)
    history = [one for one in evidence.timeouts if one.kind == kind]
    numbers = [one.occurrence for one in history]
    determinations = []
    for number in range(1, max([*numbers, 0 if rules is None else rules.occurrences_max]) + 1):
        violation_id = f"{evidence.order_id}:{kind}:{number}"
        due = None
        if rules is not None and deadline is not None:
            due = occurrence_due(rules, deadline, number)
        expected: Verdict = (
            "no-clock"
            if clock is None
            else "waived"
            if due is None
            else "stopped"
            if stop is not None and stop.at < due
            else "appealed"
            if violation_id in appeals
            else "pending"
            if due >= evidence.processed_until_ms - policy.grace
            else "stands"
        )
        occurrence = _occurrence(state, kind, number)
        determinations.append(
            Determination(
                charges=account.charges(violation_id, occurrence),
                due=due,
                expected=expected,
                history=[one for one in history if one.occurrence == number],
                number=number,
                revision=0 if occurrence is None else occurrence.revision,
                standing=occurrence is not None and occurrence.standing,
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
    )


def _occurrence(state: OrderState, kind: str, number: int) -> Occurrence | None:
    return next(
        (one for one in state.occurrences if one.kind == kind and one.number == number), None
    )


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
    subject = Subject(
        evidence.order_id, order.shop_id, order.region, order.ship_from_region,
        order.shipping_mode, order.paid_at,
    )  # fmt: skip
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


# Charges


class _ShopAccount:
    """The shop's standing violations, in the order its caps take them."""

    def __init__(self, evidence: Evidence, policy: Policy) -> None:
        self._evidence = evidence
        self._policy = policy
        self._calendar = Calendar(policy.time_zone)
        self._standing = sorted(
            (one for one in evidence.violations.values() if one.standing),
            key=attrgetter("determined_at", "violation_id"),
        )

    def charges(self, violation_id: str, occurrence: Occurrence | None) -> list[Charge]:
        """Tell what a violation costs on each account; `occurrence` is the order's view of it."""
        entries = [one for one in self._evidence.penalties if one.violation_id == violation_id]
        if occurrence is None and not entries:
            return []
        violation = self._evidence.violations.get(violation_id)
        if violation is not None and (
            occurrence is None
            or violation.revision != occurrence.revision
            or violation.standing != occurrence.standing
        ):
            violation = None
        policy, charges = self._policy, []
        if policy.points is not None:
            own = [one for one in entries if one.account == "points"]
            charges.append(self._points(policy.points, violation, own))
        if policy.deposit is not None:
            own = [one for one in entries if one.account == "deposit"]
            charges.append(self._deposit(policy.deposit, violation, own))
        return charges

    def _points(
        self, rules: PointsRules, violation: Violation | None, entries: list[Penalty]
    ) -> Charge:
        charge = Charge(
            account="points",
            balance=sum(entry.amount for entry in entries),
            entries=entries,
            status=_status(violation, violation and violation.points, entries),
            unit=rules.unit,
        )
        if violation is None or charge.status != "capped":
            return charge
        day = self._calendar.local_day(violation.determined_at)
        before = self._before(violation)
        today = sum(one.points for one in before if self._day(one) == day.start)
        if rules.daily_max is not None and today + rules.per_violation > rules.daily_max:
            return replace(charge, cap="day", limit=rules.daily_max, used=today)
        week = sum(one.points for one in before if self._day(one) >= day.week_start)
        return replace(charge, cap="week", limit=rules.weekly_max, used=week)

    def _deposit(
        self, rules: DepositRules, violation: Violation | None, entries: list[Penalty]
    ) -> Charge:
        charge = Charge(
            account="deposit",
            balance=sum(entry.amount for entry in entries),
            entries=entries,
            status=_status(violation, violation and violation.deposit, entries),
            unit=rules.unit,
        )
        if violation is None:
            return charge
        if charge.status == "settles":
            at = self._calendar.next_day_at(violation.determined_at, rules.settle_at)
            return replace(charge, settles_at=at)
        if charge.status != "capped":
            return charge
        before = self._before(violation)
        of_order = sum(one.deposit > 0 for one in before if one.order_id == violation.order_id)
        if rules.charges_per_order_max is not None and of_order >= rules.charges_per_order_max:
            return replace(charge, cap="order", limit=rules.charges_per_order_max, used=of_order)
        day = self._day(violation)
        today = sum(one.deposit for one in before if self._day(one) == day)
        return replace(charge, cap="day", limit=rules.daily_max, used=today)

    def _before(self, violation: Violation) -> list[Violation]:
        return self._standing[: self._standing.index(violation)]

    def _day(self, violation: Violation) -> int:
        return self._calendar.local_day(violation.determined_at).start


def _status(
    violation: Violation | None, allocated: int | None, entries: list[Penalty]
) -> ChargeStatus:
    if violation is None:
        return "waiting"
    if not violation.standing:
        return "none"
    if not allocated:
        return "capped"
    return "charged" if sum(entry.amount for entry in entries) else "settles"
