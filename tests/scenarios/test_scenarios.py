"""Every case file, by the engine and by the auditor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.engine.simulate import simulate
from streams.rulebook import load_rulebook
from tests.auditor.fold import parse, refusals_of, standing_of, warnings_of
from tests.auditor.naive import audit

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
Case = dict[str, Any]


def expected(case: Case) -> tuple[dict[str, Any], list[tuple[str, str, int, int]]]:
    """Return what must stand, lists sorted, and the dead letters."""
    parts = dict(case["expect"])
    letters = parts.pop("dead_letters", [])
    for name, part in parts.items():
        if isinstance(part, list):
            parts[name] = sorted(part, key=lambda entry: sorted(entry.items()))
    refused = [
        (letter["reason"], letter["topic"], letter["partition"], letter["offset"])
        for letter in letters
    ]
    return parts, sorted(refused)


@pytest.fixture(params=CASES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    """Return one case file's content."""
    path: Path = request.param
    content: Case = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_auditor_agrees_with_the_hand_worked_expectation(case: Case) -> None:
    """What the naive program finds is what was worked out by hand."""
    standing, refused = expected(case)
    judged = audit(case["events"])
    assert judged.what_stands() == standing
    assert [tuple(refusal) for refusal in judged.refusals] == refused


def test_engine_leaves_standing_what_the_case_expects(case: Case) -> None:
    """The engine's output folds to the expectation, with the auditor's warnings."""
    standing, refused = expected(case)
    lines = [json.dumps(event).encode() for event in case["events"]]
    outputs = parse(simulate(lines, load_rulebook([case["policy"]])))
    assert standing_of(outputs) == standing
    assert refusals_of(outputs) == refused
    assert warnings_of(outputs) == audit(case["events"]).warnings


def test_case_files_are_named_by_their_content() -> None:
    """File name and `name` agree, and the numbers run without a gap."""
    names = [json.loads(path.read_text(encoding="utf-8"))["name"] for path in CASES]
    assert names == [path.stem for path in CASES]
    assert [name[:2] for name in names] == [f"{n:02}" for n in range(1, len(names) + 1)]
