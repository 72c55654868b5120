"""Deadline arithmetic: when a clock runs, which exemptions apply, what stops a kind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streams.core.facts.events import ExemptionGranted
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.order import Subject
from streams.core.rules.deadlines import Clock, running_clock
from streams.core.rules.exemptions import covers, exempted_deadline
from streams.core.rules.policy import KindRules
from streams.core.rules.stops import stop_instant
from tests.unit.samples import DAY_MS, HOUR_MS, POLICY, exemption, policy_with

RULES = POLICY.violations["late-scan"].deadline
SUBJECT = Subject("O1", "S1", "CN-BJ", "CN-GD", "normal", 1000)


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
    mode: Any, promised: int | None, uploaded: int | None, clock: Clock | None
) -> None:
    """Each shipping mode has its start; without it no clock runs."""
    assert running_clock(RULES.get(mode), 100, promised, uploaded) == clock


def test_mode_without_a_rule_has_no_clock() -> None:
    """A policy may leave a shipping mode unjudged."""
    line = 'normal = { start = "placed", limit = "72h" }\n'
    rules = policy_with((line, "")).violations["late-scan"].deadline
    assert running_clock(rules.get("normal"), 100, 500, 300) is None


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
    ],
)
def test_exemptions_move_the_deadline_one_after_the_other(
    effects: list[dict[str, Any]], deadline: int | None
) -> None:
    """`extend_to` only ever moves later, `extend_by` adds, and a waiver ends it."""
    assert exempted_deadline(1000, [granted(effect=effect) for effect in effects]) == deadline


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
    rules: KindRules = changed.violations["late-scan"]
    assert stop_instant(rules, 30, 20, 10) == stop
    assert stop_instant(rules, None, None, None) == END_OF_TIME_MS
