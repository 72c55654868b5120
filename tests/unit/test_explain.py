"""`explain`: what it says is what stands, and the reasons are the rules'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cli.explanation import duration, told
from streams.core.facts.events import ExemptionGranted
from streams.core.facts.money import money
from streams.core.facts.order import Subject
from streams.core.rules.exemptions import covers
from streams.core.rules.policy import Policy
from streams.engine.charges import CapUse
from streams.engine.evidence import Evidence, evidence_of_events
from streams.engine.exemption_steps import outside
from streams.engine.explain import Determination, Explanation, explain
from tests.unit.samples import (
    DAY_MS,
    DEADLINE,
    DEFAULT,
    HOUR_MS,
    PLACED_AT,
    POLICY,
    appeal,
    exemption,
    line,
    paid,
    policy_with,
    rulebook_with,
    scan,
    upload,
)

CASES = sorted((Path(__file__).parents[1] / "scenarios" / "cases").glob("*.json"))


def explained(
    *lines: bytes, order_id: str = "O1", until: int | None = None, policy: Policy = POLICY
) -> Explanation:
    """Explain an order from lines."""
    return explain(evidence_of_events(lines, policy, until, order_id), policy)


def determinations(explanation: Explanation) -> list[Determination]:
    """Return the determinations of the only kind."""
    (kind,) = explanation.kinds
    return kind.determinations


def text(explanation: Explanation) -> str:
    """Tell an explanation as one string."""
    return "\n".join(line.text for line in told(explanation))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_an_explanation_agrees_with_what_stands(path: Path) -> None:
    """For every order of every scenario: the same violations, the same money, a reason for each."""
    case = json.loads(path.read_text(encoding="utf-8"))
    lines = [json.dumps(event).encode() for event in case["events"]]
    values = [event["value"] for event in case["events"] if isinstance(event.get("value"), dict)]
    ids = sorted({v["order_id"] for v in values if isinstance(v.get("order_id"), str)})
    standing: dict[str, int | None] = {}
    journal: dict[str, int] = {}
    for order_id in ids:
        evidence = evidence_of_events(lines, DEFAULT, None, order_id)
        if evidence.shop_id is None:
            continue
        explanation = explain(evidence, DEFAULT)
        for one in determinations(explanation):
            assert one.standing == (one.expected == "stands"), one
            if one.standing:
                standing[one.violation_id] = one.due
            for charge in one.charges:
                assert charge.status in (("charged", "capped") if one.standing else ("none",)), (
                    charge
                )
                assert (charge.balance != 0) == (charge.status == "charged")
        for unit, amount in explanation.totals.items():
            journal[unit] = journal.get(unit, 0) + amount
        assert text(explanation).startswith(f"Order {order_id} of shop ")
        assert msgspec.json.decode(msgspec.json.encode(explanation), type=Explanation) is not None
    wanted = case["expect"]
    assert standing == {
        violation_id: one["determined_at"] for violation_id, one in wanted["standing"].items()
    }
    sums: dict[str, int] = {}
    for entry in wanted["journal"]:
        sums[entry["unit"]] = sums.get(entry["unit"], 0) + entry["amount"]
    assert {unit: amount for unit, amount in journal.items() if amount} == sums


def test_a_late_scan_is_told_with_its_distance() -> None:
    """Before, at and after the due time are three different answers."""
    order = line("order-paid", paid())
    late = explained(order, line("first-scan", scan(scanned_at=DEADLINE + HOUR_MS)))
    assert "STANDS: the first scan came 1h after" in text(late)
    assert "none: the first scan came 23h before" in text(late)
    equal = explained(order, line("first-scan", scan(scanned_at=DEADLINE)))
    assert "STANDS: the first scan came at that very instant" in text(equal)
    on_time = explained(order, line("first-scan", scan(scanned_at=DEADLINE - 1)))
    assert text(on_time).startswith("Order O1 of shop S1: no violation stands, nothing is charged.")
    assert "none: the first scan came 1ms before" in text(on_time)


def test_exemptions_are_told_step_by_step() -> None:
    """Each one that covers the order moves the deadline from where the last one left it."""
    explanation = explained(
        line("order-paid", paid(region="CN-XJ")),
        line("exemption-granted", exemption("X2", granted_at=PLACED_AT + 2,
             effect={"extend_by": HOUR_MS}, scope={"regions": ["CN-XJ"]})),
        line("exemption-granted", exemption("X1", granted_at=PLACED_AT + 1,
             effect={"extend_to": DEADLINE + HOUR_MS})),
        line("exemption-granted", exemption("X3", granted_at=PLACED_AT + 3,
             effect={"extend_to": DEADLINE})),
        line("exemption-granted", exemption("X4", scope={"regions": ["CN-BJ"]})),
        line("exemption-granted", exemption("X5", scope={"order_ids": ["O2"]})),
        until=DEADLINE,
    )  # fmt: skip
    (kind,) = explanation.kinds
    steps = [
        (s.exemption_id, s.covers, s.deadline_before, s.deadline_after) for s in kind.exemptions
    ]
    first = DEADLINE + HOUR_MS
    assert steps == [
        ("X4", False, DEADLINE, DEADLINE),
        ("X1", True, DEADLINE, first),
        ("X2", True, first, first + HOUR_MS),
        ("X3", True, first + HOUR_MS, first + HOUR_MS),
    ]
    assert kind.deadline == first + HOUR_MS
    told_text = text(explanation)
    assert "exemption X3 (platform, granted 2022-12-06 16:29:00.003): extends it to" in told_text
    assert "which changes nothing" in told_text
    assert "exemption X4 leaves it out: regions CN-BJ; this one is CN-XJ" in told_text
    assert "X5" not in told_text


def test_a_waiver_ends_the_arithmetic() -> None:
    """No deadline is left, what stood stands no more, and its charges are taken back."""
    explanation = explained(
        line("order-paid", paid()),
        line("exemption-granted", exemption(granted_at=DEADLINE + 2 * DAY_MS)),
    )
    (kind,) = explanation.kinds
    assert kind.deadline is None
    assert [one.expected for one in kind.determinations] == ["waived"] * 3
    assert [len(one.history) for one in kind.determinations] == [2, 2, 0]
    assert explanation.totals == {"CNY": 0, "tenth-point:B": 0}
    assert "stands no more: exemption X1 waives it" in text(explanation)
    assert "revoked, revision 1: exemption X1" in text(explanation)


def test_a_granted_appeal_and_a_rejected_one() -> None:
    """The first is the reason; the second is a fact without effect."""
    violation_id, at = "O1:late-scan:2", DEADLINE + 3 * DAY_MS
    granted = explained(
        line("order-paid", paid()), line("appeal-decided", appeal(violation_id, decided_at=at))
    )
    assert [one.expected for one in determinations(granted)] == ["stands", "appealed", "stands"]
    assert "stands no more: appeal A1 was granted" in text(granted)
    rejected = explained(
        line("order-paid", paid()),
        line("appeal-decided", appeal(violation_id, decided_at=at, outcome="rejected")),
    )
    assert [one.standing for one in determinations(rejected)] == [True] * 3
    assert "appeal A1 rejected: O1:late-scan:2" in text(rejected)


def test_each_cap_is_named_with_what_was_used() -> None:
    """The order's charges, the day's money, the day's and the week's points."""
    orders = [
        line("order-paid", paid(f"O{n}", placed_at=PLACED_AT + n, paid_at=PLACED_AT + n))
        for n in range(1, 5)
    ]
    policy = policy_with(
        ("weekly_max = 20", "weekly_max = 5\ndaily_max = 3"),
        ("daily_max = 50000", "daily_max = 3000"),
    )
    last = determinations(explained(*orders, order_id="O4", policy=policy))
    caps = [
        [(c.account, c.cap.span, c.cap.limit, c.cap.used) for c in one.charges if c.cap]
        for one in last
    ]
    assert caps == [
        [("points", "day", 3, 3), ("deposit", "day", 3000, 3000)],
        [("points", "week", 5, 5), ("deposit", "day", 3000, 3000)],
        [("points", "week", 5, 5)],
    ]
    first = determinations(explained(orders[0]))[2].charges[1]
    assert first.cap == CapUse(
        span="order", limit=2, used=2, used_by=["O1:late-scan:1", "O1:late-scan:2"]
    )
    assert (
        "deposit: not charged, the order's 2 charges are used up (by O1:late-scan:1, "
        "O1:late-scan:2)"
    ) in text(explained(orders[0]))
    told_text = text(explained(*orders, order_id="O4", policy=policy))
    assert "deposit: not charged, the shop had 30.00 CNY of at most 30.00 CNY that day" in told_text
    assert "points: not charged, the shop had 0.5 B points of at most 0.5 B points" in told_text


def test_what_lies_ahead_is_told_as_of_a_time() -> None:
    """Between the first determination and its settlement: charged later, not due yet, closing."""
    explanation = explained(line("order-paid", paid()), until=DEADLINE + 1)
    first, second, _ = determinations(explanation)
    assert (first.standing, second.standing, second.expected) == (True, False, "pending")
    assert [charge.status for charge in first.charges] == ["charged", "settles"]
    assert "deposit: to be charged at 2022-12-10 00:00:00" in text(explanation)
    assert text(explanation).startswith(
        "Order O1 of shop S1: 1 late-scan violation stands, charged 0.1 B points; the rest is not "
        "settled yet (settles at 2022-12-10 00:00:00).\n"
    )
    assert "not due yet: no first scan or closing is known" in text(explanation)
    assert explanation.closes_at == PLACED_AT + 150 * DAY_MS
    assert explanation.processed_until == DEADLINE + 1


@pytest.mark.parametrize(
    ("until", "number", "expected"),
    [
        (DEADLINE + 1, 1, "charged 0.1 B points; the rest is not settled yet (settles at 2022-12"),
        (DEADLINE + 1, 2, "nothing is charged."),
        (None, 2, "charged 0.1 B points and 10.00 CNY."),
    ],
)
def test_a_violation_that_was_asked_for_comes_before_its_order(
    until: int | None, number: int, expected: str
) -> None:
    """Its own costs and its own determination, then the order as a whole."""
    explanation = explained(line("order-paid", paid()), until=until)
    violation_id = f"O1:late-scan:{number}"
    lines = [one.text for one in told(explanation, violation_id)]
    stands = determinations(explanation)[number - 1].standing
    head = f"Violation {violation_id} of shop S1: {'stands' if stands else 'does not stand'}, "
    assert lines[0].startswith(head + expected)
    assert lines[1].startswith(f"  {number}.  due ")
    assert lines[lines.index("") + 1].startswith("Order O1 of shop S1: ")


def test_points_alone_that_are_not_settled_are_not_called_free() -> None:
    """Rules whose money is settled at midnight have charged nothing before, and say so."""
    policy = policy_with(("weekly_max = 20", "weekly_max = 20\ndaily_max = 0"))
    explanation = explained(line("order-paid", paid()), until=DEADLINE + 1, policy=policy)
    assert text(explanation).startswith(
        "Order O1 of shop S1: 1 late-scan violation stands, not settled yet (settles at 2022-12-10 "
    )


def test_without_a_clock_there_is_nothing_to_judge() -> None:
    """An express order without an upload, and a presale without a promise, say what is missing."""
    express = explained(line("order-paid", paid(shipping_mode="express")))
    assert "no clock yet: it starts with the first tracking number" in text(express)
    assert {one.expected for one in determinations(express)} == {"no-clock"}
    presale = explained(line("order-paid", paid(shipping_mode="presale")))
    assert "no clock: the order promises no shipping time" in text(presale)
    started = explained(
        line("order-paid", paid(shipping_mode="express")),
        line("tracking-number-uploaded", upload(uploaded_at=PLACED_AT + HOUR_MS)),
        line("tracking-number-uploaded", upload(uploaded_at=PLACED_AT + 2 * HOUR_MS)),
    )
    assert "the clock starts: first upload" in text(started)
    assert "tracking number uploaded: SF T1 (an earlier one counts)" in text(started)


def test_other_rules_than_the_judges_are_told_as_such() -> None:
    """What stands is the judgement's; the arithmetic of other rules only says what it would be."""
    evidence = evidence_of_events([line("order-paid", paid())], POLICY, None, "O1")
    kinder = policy_with(("version = 1", "version = 2"), ('limit = "72h"', 'limit = "9000h"'))
    evidence.processed_until_ms = DEADLINE + 10 * DAY_MS
    explanation = explain(evidence, kinder)
    assert [one.standing for one in determinations(explanation)] == [True] * 3
    assert [one.expected for one in determinations(explanation)] == ["pending"] * 3
    assert "STANDS, though by these rules it would not" in text(explanation)
    assert "Explained by douyin-first-scan@2" in text(explanation)


def test_violation_of_rules_without_an_account_is_not_waited_for() -> None:
    """The shop was never told of it, and today's rules charge nothing for it."""
    free = rulebook_with(accounts=(), sanctions=())
    evidence = evidence_of_events([line("order-paid", paid())], free, None, "O1")
    explanation = explain(evidence, POLICY)
    assert [one.standing for one in determinations(explanation)] == [True] * 3
    assert "deposit: not charged, the rules it was determined by had no account" in text(
        explanation
    )


def test_a_forgotten_order_is_explained_from_its_file() -> None:
    """An order that came and went within the file is explained as if it had been kept."""
    lines = [
        line("order-paid", paid()),
        line("first-scan", scan(scanned_at=PLACED_AT + HOUR_MS)),
        *(
            line(topic, value("O2", **{time: PLACED_AT + 60 * DAY_MS}))
            for topic, value, time in (
                ("order-paid", paid, "paid_at"),
                ("first-scan", scan, "scanned_at"),
            )
        ),
    ]
    explanation = explained(*lines)
    assert explanation.forgotten
    assert "The order has been forgotten since" in text(explanation)
    assert [one.expected for one in determinations(explanation)] == ["stopped"] * 3


def test_an_unknown_order_leaves_what_waits_and_what_was_refused() -> None:
    """Facts without their order wait; a refused order-paid is among the dead letters."""
    waiting = evidence_of_events([line("first-scan", scan())], POLICY, PLACED_AT + 2, "O1")
    assert waiting.shop_id is None
    assert waiting.state is not None
    assert len(waiting.state.waiting) == 1
    with pytest.raises(ValueError, match="not known"):
        explain(waiting, POLICY)
    refused = evidence_of_events(
        [line("order-paid", {"order_id": "O1"}, timestamp=PLACED_AT)], POLICY, None, "O1"
    )
    assert refused.state is None
    assert [letter.reason for letter in refused.dead_letters] == ["schema"]


def test_refused_records_of_a_known_order_are_told() -> None:
    """A scan that was refused is the first thing a seller must hear of."""
    far = scan(scanned_at=PLACED_AT + DAY_MS)
    explanation = explained(
        line("order-paid", paid()), line("first-scan", far, timestamp=PLACED_AT)
    )
    assert "first-scan[0] offset 0: time-in-future" in text(explanation)


def test_evidence_passes_over_other_orders() -> None:
    """Ids that contain ours, other shops' bans and tombstones leave no trace."""
    evidence = evidence_of_events(
        [
            line("order-paid", paid(product_ids=["P1"])),
            line("order-paid", paid("O11", product_ids=["P2"])),
            line("order-paid", paid("O2", shop_id="S2")),
        ],
        POLICY, None, "O1",
    )  # fmt: skip
    assert {one.order_id for one in evidence.timeouts} == {"O1"}
    assert {one.order_id for one in evidence.penalties} == {"O1"}
    assert {(one.shop_id, one.product_id) for one in evidence.bans} == {("S1", "P1")}
    assert {one.shop_id for one in evidence.violations.values()} == {"S1"}
    evidence.orders_changelog([(b"O1", None)])
    assert evidence.forgotten
    assert evidence.shop_id == "S1"
    assert Evidence("O1").shop_id is None


NAMES = st.sampled_from(["A", "B"])
LISTS = st.none() | st.lists(NAMES, max_size=2)
BOUNDS = st.none() | st.integers(0, 4)


@given(
    agreed=st.sampled_from([None, True, False]),
    excepted=st.none() | st.fixed_dictionaries({"regions": st.lists(NAMES, max_size=1)}),
    fields=st.tuples(*[LISTS] * 8),
    modes=st.none() | st.lists(st.sampled_from(["normal", "express"]), max_size=2),
    bounds=st.tuples(BOUNDS, BOUNDS, BOUNDS, BOUNDS),
    region=st.none() | NAMES,
)
def test_a_field_is_named_exactly_where_an_exemption_does_not_cover(
    fields: tuple[Any, ...],
    modes: Any,
    bounds: tuple[Any, ...],
    region: str | None,
    agreed: bool | None,
    excepted: dict[str, Any] | None,
) -> None:
    """The reason given and the rule applied never disagree."""
    kinds, order_ids, shop_ids, regions, ship_from_regions, platforms, levels, categories = fields
    scope = {
        "order_ids": order_ids,
        "shop_ids": shop_ids,
        "regions": regions,
        "ship_from_regions": ship_from_regions,
        "shipping_modes": modes,
        "platforms": platforms,
        "shop_levels": levels,
        "categories": categories,
        "agreed": agreed,
        "not": excepted,
        "paid_from": bounds[0],
        "paid_until": bounds[1],
        "deadline_from": bounds[2],
        "deadline_until": bounds[3],
    }
    granted = msgspec.convert(exemption(scope=scope, kinds=kinds), ExemptionGranted)
    subject = Subject("A", "A", region, region, "normal", 2, "A", region, "A", agreed=True)
    named = outside(granted, "A", subject, 3)
    assert (named is None) == covers(granted, "A", subject, 3)


@pytest.mark.parametrize(
    ("amount", "unit", "expected"),
    [
        (1000, "CNY", "10.00 CNY"),
        (-5, "CNY", "-0.05 CNY"),
        (1000, "JPY", "1000 JPY"),
        (1234, "KWD", "1.234 KWD"),
        (11, "tenth-point:B", "1.1 B points"),
        (3, "stars", "3 stars"),
    ],
)
def test_amounts_are_written_for_people(amount: int, unit: str, expected: str) -> None:
    """Minor units become the unit people know, without floats."""
    assert money(amount, unit) == expected


@pytest.mark.parametrize(
    ("length_ms", "expected"),
    [
        (0, "0s"),
        (1, "1ms"),
        (72 * HOUR_MS, "72h"),
        (HOUR_MS + 61_000, "1h 1m 1s"),
        (150 * DAY_MS, "150d"),
        (5 * DAY_MS + HOUR_MS, "5d 1h"),
    ],
)
def test_durations_are_written_for_people(length_ms: int, expected: str) -> None:
    """Hours as the rules say them, days where hours would be many."""
    assert duration(length_ms) == expected


def test_an_instant_beyond_the_calendar_is_never() -> None:
    """An exemption "for ever" neither fails nor shows a year 10000."""
    forever = exemption(effect={"extend_to": 253_402_300_799_999})
    told_text = text(explained(line("order-paid", paid()), line("exemption-granted", forever)))
    assert "extends it to never" in told_text


# A state that is older than what was written


def torn(until: int) -> Evidence:
    """Gather what is written of an order to the end, and its state as of an instant before."""
    lines = [line("order-paid", paid())]
    whole = evidence_of_events(lines, POLICY, None, "O1")
    earlier = evidence_of_events(lines, POLICY, until, "O1")
    whole.state = earlier.state
    return whole


@pytest.mark.parametrize("forgotten", [True, False])
def test_outputs_that_are_newer_than_the_state_are_what_stands(forgotten: bool) -> None:
    """As when an order is determined and forgotten within one checkpoint: one story, right sums."""
    evidence = torn(DEADLINE - 1)
    evidence.forgotten = forgotten
    if forgotten:
        evidence.violations.clear()
    explanation = explain(evidence, POLICY)
    found = determinations(explanation)
    assert [one.standing for one in found] == [True, True, True]
    assert explanation.totals == {"tenth-point:B": 3, "CNY": 2000}
    assert explanation.stale
    statuses = [[charge.status for charge in one.charges] for one in found]
    third = ["charged", "gone" if forgotten else "capped"]
    assert statuses == [["charged", "charged"], ["charged", "charged"], third]
    told_text = text(explanation)
    assert "3 late-scan violations stand, charged 0.3 B points and 20.00 CNY." in told_text
    assert "what stands and is charged is as written" in told_text
    assert "had no account" not in told_text
    assert ("closes by itself" in told_text) is False


def test_a_revocation_that_is_newer_than_the_state_counts() -> None:
    """The facts that brought it about are not known, and it is not called wrong for that."""
    lines = [line("order-paid", paid()), line("first-scan", scan(), timestamp=DEADLINE + DAY_MS)]
    evidence = evidence_of_events(lines, POLICY, None, "O1")
    assert any(one.revoked_at is not None for one in evidence.timeouts)
    evidence.state = evidence_of_events(lines, POLICY, DEADLINE + 1, "O1").state
    first = determinations(explain(evidence, POLICY))[0]
    assert (first.standing, first.revision) == (False, 1)
    assert "stands no more, as was written" in text(explain(evidence, POLICY))
