"""What exemptions did to an order's deadline, one after the other, and why others did not.

What lives here: the steps, as arithmetic to show. What must not: any decision (`rules.exemptions`).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from msgspec import Struct

from streams.core.facts.events import Effect, ExemptionGranted, Scope
from streams.core.facts.order import Order, Subject, subject_of
from streams.core.rules.book import Terms
from streams.core.rules.exemptions import Running, apply_effect, covers, is_own
from streams.core.rules.judging import clock_of
from streams.engine.evidence import Evidence


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
    deadline_before: int | None
    effect: Effect
    exemption_id: str
    granted_at: int
    """0 for the policy's own."""
    outside: Outside | None
    source: str


def exemption_steps(
    kind: str, running: Running, evidence: Evidence, order: Order, terms: Terms
) -> list[ExemptionStep]:
    """Apply the exemptions one by one; their scopes see the deadline before any of them."""
    state, _ = evidence.known()
    policy = terms.version.policy
    subject = subject_of(evidence.order_id, order, policy.platform)
    steps: list[ExemptionStep] = []
    original = running[1]
    now: Running | None = running
    grant_order = attrgetter("granted_at", "exemption_id")
    for exemption in (*policy.exemptions, *sorted(evidence.exemptions.values(), key=grant_order)):
        before, effect = now, exemption.effect
        covered = covers(exemption, kind, subject, original)
        if covered and not effect.waive_penalty:
            now = apply_effect(
                effect, now, lambda rule: clock_of(terms, rule, order, state.uploaded_at)
            )
        steps.append(
            ExemptionStep(
                covers=covered,
                deadline_after=None if now is None else now[1],
                deadline_before=None if before is None else before[1],
                effect=effect,
                exemption_id=exemption.exemption_id,
                granted_at=exemption.granted_at,
                outside=None if covered else outside(exemption, kind, subject, original),
                source="policy" if is_own(exemption) else exemption.source,
            )
        )
        if covered and effect.waive:
            break
    return steps


def outside(
    exemption: ExemptionGranted, kind: str, subject: Subject, deadline: int
) -> Outside | None:
    """Name the first field of an exemption that leaves an order out, `None` if it covers it."""
    if exemption.kinds and kind not in exemption.kinds:
        return Outside(field="kinds", given=kind, wanted=list(exemption.kinds))
    return outside_scope(exemption.scope, subject, deadline)


def outside_scope(scope: Scope, subject: Subject, deadline: int) -> Outside | None:
    """Name the first field of a scope that leaves an order out, `None` if it matches."""
    lists = (
        ("order_ids", scope.order_ids, subject.order_id),
        ("shop_ids", scope.shop_ids, subject.shop_id),
        ("regions", scope.regions, subject.region),
        ("ship_from_regions", scope.ship_from_regions, subject.ship_from_region),
        ("shipping_modes", scope.shipping_modes, subject.shipping_mode),
        ("platforms", scope.platforms, subject.platform),
        ("shop_levels", scope.shop_levels, subject.shop_level),
        ("categories", scope.categories, subject.category),
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
    if scope.agreed is not None and scope.agreed != subject.agreed:
        return Outside(field="agreed", given=subject.agreed, wanted=[scope.agreed])
    if scope.not_ is not None and outside_scope(scope.not_, subject, deadline) is None:
        return Outside(field="not", given=subject.order_id, wanted=[])
    return None
