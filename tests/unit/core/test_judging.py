"""One order's verdict: what is due, what is revoked, and the next timer."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.order import Occurrence, Order, OrderState, know
from streams.core.rules.book import Rulebook
from streams.core.rules.exemptions import Ruling
from streams.core.rules.judging import Due, judge
from tests.unit.samples import DAY_MS, DEADLINE, HOUR_MS, PLACED_AT, POLICY, TWO_KINDS, policy_with

CLOSURE_AT = PLACED_AT + 150 * DAY_MS
WARNINGS = (DEADLINE - DAY_MS, DEADLINE - 4 * HOUR_MS)


class Verdict(NamedTuple):
    """What judging an order calls for."""

    revoked: list[Occurrence]
    due_now: list[Due]
    next_due: int


def verdict(
    limit: int, policy: Rulebook = POLICY, *, on_timer: bool = False, **facts: Any
) -> Verdict:
    """Judge a normal order at an instant."""
    deadline: int | None = facts.pop("deadline", DEADLINE)
    state = OrderState(**facts)
    order = Order("S1", ["P1"], "normal", PLACED_AT, PLACED_AT, 1, "CNY", None, None, None)
    know(state, order)
    terms = policy.terms_of(order)
    assert terms is not None
    running = None if deadline is None else (PLACED_AT, deadline)
    ruling = Ruling(running, False, running, ())
    rulings = {kind: ruling for kind, _, _ in terms.kinds}
    return Verdict(*judge(terms, order, state, "O1", limit, on_timer, rulings))


def stands(number: int, kind: str = "late-scan", due: int | None = None) -> Occurrence:
    """Return a standing determination, by default as the facts give it."""
    due = DEADLINE + (number - 1) * DAY_MS if due is None else due
    return Occurrence(kind, number, 1, True, DEADLINE, due)


def numbers(found: Verdict) -> list[int]:
    """Return the occurrences due now."""
    return [due.number for due in found.due_now]


@pytest.mark.parametrize(
    ("limit", "due", "next_due"),
    [
        (PLACED_AT, [], WARNINGS[0]),
        (WARNINGS[0], [], WARNINGS[1]),
        (DEADLINE - 1, [], DEADLINE),
        (DEADLINE, [1], DEADLINE + DAY_MS),
        (DEADLINE + 2 * DAY_MS, [1, 2, 3], CLOSURE_AT),
        (CLOSURE_AT, [1, 2, 3, 0], END_OF_TIME_MS),
    ],
)
def test_what_is_due_grows_with_time(limit: int, due: list[int], next_due: int) -> None:
    """Occurrences a day apart, the closure last, and always one next instant."""
    found = verdict(limit)
    assert (numbers(found), found.next_due) == (due, next_due)


@pytest.mark.parametrize("fact", ["scanned_at", "closed_at"])
@pytest.mark.parametrize(("after_due", "due"), [(-1, []), (0, [1]), (1, [1])])
def test_a_fact_at_the_due_time_is_late(fact: str, after_due: int, due: list[int]) -> None:
    """Only a scan or close before the due time stops a determination and all that follow."""
    found = verdict(CLOSURE_AT, **{fact: DEADLINE + after_due})
    assert numbers(found) == due
    assert found.next_due == END_OF_TIME_MS


def test_an_upload_stops_the_closure_alone() -> None:
    """A tracking number is no proof of shipping, but the order is not unshipped."""
    assert numbers(verdict(CLOSURE_AT, uploaded_at=CLOSURE_AT - 1)) == [1, 2, 3]
    assert numbers(verdict(CLOSURE_AT, uploaded_at=CLOSURE_AT)) == [1, 2, 3, 0]


def test_closure_happens_once() -> None:
    """A closed order is not closed again."""
    assert numbers(verdict(CLOSURE_AT, closed_original=True)) == [1, 2, 3]


def test_waiver_leaves_nothing_due() -> None:
    """A waived kind neither warns nor determines; the closure is not touched."""
    found = verdict(DEADLINE, deadline=None)
    assert (found.due_now, found.next_due) == ([], CLOSURE_AT)


@pytest.mark.parametrize("warned_at", WARNINGS)
def test_warning_is_given_when_its_timer_fires(warned_at: int) -> None:
    """At its very instant, and never overdue."""
    (due,) = verdict(warned_at, on_timer=True).due_now
    assert due == Due(warned_at, "deadline-warning", 0, "late-scan", DEADLINE)
    assert verdict(warned_at).due_now == []
    assert verdict(warned_at + 1, on_timer=True + 1).due_now == []


def test_no_warning_before_the_clock_starts() -> None:
    """A lead as long as the limit would warn the moment the order is placed."""
    long = policy_with(('["24h", "4h"]', '["72h", "71h"]'))
    assert verdict(PLACED_AT - 1, long).next_due == DEADLINE - 71 * HOUR_MS
    assert verdict(PLACED_AT, long, on_timer=True).due_now == []


@pytest.mark.parametrize(("after", "warned"), [(-1, 0), (0, 1)])
def test_no_warning_once_scanned(after: int, warned: int) -> None:
    """A scan before the warning's instant makes it pointless."""
    found = verdict(WARNINGS[0], on_timer=True, scanned_at=WARNINGS[0] + after)
    assert len(found.due_now) == warned


def test_appealed_occurrence_alone_does_not_hold() -> None:
    """The others keep their numbers and due times."""
    facts: dict[str, Any] = {"appealed": ["O1:late-scan:2"], "occurrences": [stands(2)]}
    found = verdict(DEADLINE + 2 * DAY_MS, **facts)
    assert numbers(found) == [1, 3]
    assert [each.number for each in found.revoked] == [2]


def test_next_timer_skips_an_appealed_occurrence() -> None:
    """No timer is set for what can never be determined."""
    found = verdict(DEADLINE, appealed=["O1:late-scan:2"])
    assert found.next_due == DEADLINE + 2 * DAY_MS


def test_standing_determination_that_holds_is_left_alone() -> None:
    """Nothing is determined twice."""
    found = verdict(DEADLINE + DAY_MS, occurrences=[stands(1), stands(2)])
    assert (found.revoked, found.due_now) == ([], [])


@pytest.mark.parametrize(
    "facts",
    [
        {"scanned_at": DEADLINE - 1},
        {"closed_at": DEADLINE - 1},
        {"deadline": None},
        {"deadline": DEADLINE + 1},
    ],
)
def test_standing_determinations_fall_in_the_order_of_their_numbers(facts: Any) -> None:
    """Evidence, a waiver or a moved deadline revoke all that followed from the old one."""
    occurrences = [stands(3), stands(1), stands(2)]
    found = verdict(DEADLINE + 3 * DAY_MS, occurrences=occurrences, **facts)
    assert [each.number for each in found.revoked] == [1, 2, 3]


def test_revoked_determination_is_not_revoked_again() -> None:
    """What does not stand cannot fall."""
    fallen = stands(1)
    fallen.standing = False
    assert verdict(DEADLINE, occurrences=[fallen], scanned_at=PLACED_AT).revoked == []


def test_kinds_due_at_one_instant_go_by_name() -> None:
    """Of two kinds with one deadline the first by name is determined first."""
    found = verdict(DEADLINE, TWO_KINDS)
    assert [due.kind for due in found.due_now] == ["late-scan", "no-scan"]


def test_kinds_are_judged_apart() -> None:
    """A scan stops only the kind that names it, and each kind has its own occurrences."""
    occurrences = [stands(1, "no-scan"), stands(1)]
    found = verdict(CLOSURE_AT, TWO_KINDS, scanned_at=PLACED_AT, occurrences=occurrences)
    assert [(each.kind, each.number) for each in found.revoked] == [("late-scan", 1)]
    assert found.due_now == []
