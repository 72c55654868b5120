"""Deadline arithmetic: when a clock runs, which exemptions apply, what stops a kind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streams.core.facts.events import ExemptionGranted
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.order import Order, Subject
from streams.core.rules.book import Rulebook
from streams.core.rules.exemptions import Running, apply_exemptions, covers
from streams.core.rules.judging import clock_of
from streams.core.rules.stops import stop_instant
from tests.unit.samples import DAY_MS, HOUR_MS, POLICY, exemption, policy_with

SUBJECT = Subject(
    "O1", "S1", "CN-BJ", "CN-GD", "normal", 1000, "douyin", "gold", "fresh", agreed=True
)


def running(
    rulebook: Rulebook, mode: str, promised: int | None, uploaded: int | None
) -> Running | None:
    """Return the clock of an order placed at 100."""
    order = Order("S1", ["P1"], mode, 100, 100, 1, "CNY", None, None, promised)
    terms = rulebook.terms_of(order)
    assert terms is not None
    (late_scan,) = terms.kinds
    deadline = late_scan.deadline
    return None if deadline is None else clock_of(terms, deadline, order, uploaded)


def granted(**fields: Any) -> ExemptionGranted:
    """Return an exemption."""
    return msgspec.convert(exemption(**fields), ExemptionGranted)


@pytest.mark.parametrize(
    ("mode", "promised", "uploaded", "clock"),
    [
        ("normal", None, None, (100, 100 + 72 * HOUR_MS)),
        ("normal", 500, 300, (100, 100 + 72 * HOUR_MS)),
        ("express", None, None, None),
        ("express", 500, 300, (300, 300 + DAY_MS)),
        ("stepped", 500, 300, (300, 300 + DAY_MS)),
        ("presale", None, 300, None),
        ("presale", 500, 300, (100, 500)),
    ],
)
def test_clock_runs_from_what_the_mode_names(
    mode: Any, promised: int | None, uploaded: int | None, clock: Running | None
) -> None:
    """Each shipping mode has its start; without it no clock runs."""
    assert running(POLICY, mode, promised, uploaded) == clock


def test_mode_without_a_rule_has_no_clock() -> None:
    """A policy may leave a shipping mode unjudged."""
    line = 'normal = { start = "placed", limit = "72h" }\n'
    assert running(policy_with((line, "")), "normal", 500, 300) is None


@pytest.mark.parametrize(
    ("scope", "kinds", "covered"),
    [
        ({}, [], True),
        ({}, ["late-scan"], True),
        ({}, ["late-ship"], False),
        ({"order_ids": ["O0", "O1"]}, [], True),
        ({"order_ids": ["O"]}, [], False),
        ({"order_ids": []}, [], False),
        ({"shop_ids": ["S1"]}, [], True),
        ({"shop_ids": ["O1"]}, [], False),
        ({"regions": ["CN-BJ"]}, [], True),
        ({"regions": ["CN-GD"]}, [], False),
        ({"ship_from_regions": ["CN-GD"]}, [], True),
        ({"ship_from_regions": ["CN-BJ"]}, [], False),
        ({"shipping_modes": ["normal", "express"]}, [], True),
        ({"shipping_modes": ["express"]}, [], False),
        ({"paid_from": 1000, "paid_until": 1000}, [], True),
        ({"paid_from": 1001}, [], False),
        ({"paid_until": 999}, [], False),
        ({"deadline_from": 5000, "deadline_until": 5000}, [], True),
        ({"deadline_from": 5001}, [], False),
        ({"deadline_until": 4999}, [], False),
        ({"shop_ids": ["S1"], "regions": ["CN-XJ"]}, [], False),
        ({"platforms": ["douyin"]}, [], True),
        ({"platforms": ["tmall"]}, [], False),
        ({"shop_levels": ["gold"]}, [], True),
        ({"shop_levels": ["basic"]}, [], False),
        ({"categories": ["fresh"]}, [], True),
        ({"categories": ["books"]}, [], False),
        ({"agreed": True}, [], True),
        ({"agreed": False}, [], False),
        ({"not": {"regions": ["CN-BJ"]}}, [], False),
        ({"not": {"regions": ["CN-XJ"]}}, [], True),
        ({"not": {"deadline_from": 5001}}, [], True),
        ({"not": {"deadline_from": 5000}}, [], False),
        ({"not": {"not": {"regions": ["CN-BJ"]}}}, [], True),
    ],
)
def test_scope_and_kinds_decide_what_is_covered(
    scope: dict[str, Any], kinds: list[str], covered: bool
) -> None:
    """Every field given must match, ends included; an empty list matches nothing."""
    assert covers(granted(scope=scope, kinds=kinds), "late-scan", SUBJECT, 5000) is covered


@pytest.mark.parametrize("field", ["regions", "ship_from_regions"])
def test_order_without_the_field_matches_no_list(field: str) -> None:
    """A region an order does not name is in no scope that lists regions."""
    nowhere = SUBJECT._replace(region=None, ship_from_region=None)
    assert not covers(granted(scope={field: ["CN-BJ", "CN-GD"]}), "late-scan", nowhere, 5000)


@pytest.mark.parametrize(
    ("effects", "deadline"),
    [
        ([], 1000),
        ([{"extend_to": 3000}], 3000),
        ([{"extend_to": 500}], 1000),
        ([{"extend_by": 10}, {"extend_to": 3000}], 3000),
        ([{"extend_to": 3000}, {"extend_by": 10}], 3010),
        ([{"extend_by": 10}, {"waive": True}], None),
        ([{"set_to": 500}], 500),
        ([{"set_to": 500}, {"extend_by": 10}], 510),
        ([{"extend_by": 10}, {"limit": "2h after paid"}], 100 + 2 * HOUR_MS),
        ([{"limit": "2h after uploaded"}], None),
        ([{"limit": "2h after uploaded"}, {"limit": "1h after placed"}], 100 + HOUR_MS),
        ([{"waive": True}, {"limit": "1h after placed"}], None),
        ([{"waive_penalty": True}], 1000),
    ],
)
def test_exemptions_move_the_deadline_one_after_the_other(
    effects: list[dict[str, Any]], deadline: int | None
) -> None:
    """`extend_to` only ever moves later, `extend_by` adds, and a waiver ends it."""
    order = Order("S1", ["P1"], "normal", 100, 100, 1, "CNY", None, None, None)
    terms = POLICY.terms_of(order)
    assert terms is not None
    exemptions = [granted(effect=effect) for effect in effects]
    ruling = apply_exemptions(
        exemptions, "late-scan", SUBJECT, (100, 1000),
        lambda rule: clock_of(terms, rule, order, None),
    )  # fmt: skip
    assert (ruling.running and ruling.running[1]) == deadline
    assert ruling.penalty_waived is any("waive_penalty" in effect for effect in effects)


@pytest.mark.parametrize(
    ("topics", "stop"),
    [
        ("[]", END_OF_TIME_MS),
        ('["tracking-number-uploaded"]', 30),
        ('["first-scan"]', 20),
        ('["order-closed"]', 10),
        ('["tracking-number-uploaded", "first-scan"]', 20),
    ],
)
def test_earliest_named_fact_stops_a_kind(topics: str, stop: int) -> None:
    """Only the topics a kind names can stop it."""
    changed = policy_with(('["first-scan", "order-closed"]', topics))
    rules = changed.policies[0].kinds["late-scan"]
    assert stop_instant(rules, 30, 20, 10) == stop
    assert stop_instant(rules, None, None, None) == END_OF_TIME_MS
