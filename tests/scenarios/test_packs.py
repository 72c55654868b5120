"""A file of cases worked out by hand for every pack, by the engine and by the auditor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.engine.simulate import simulate
from streams.rulebook import load_rulebook, pack_names, policy_files
from tests.auditor.fold import parse, refusals_of
from tests.auditor.rules import judge_by
from tests.property.test_rules import stands

CASES = sorted((Path(__file__).parent / "packs").glob("*.json"))


@pytest.fixture(params=CASES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return one file's content."""
    path: Path = request.param
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def expected(case: dict[str, Any]) -> dict[str, Any]:
    """Return what must stand, lists sorted as the tests have them."""
    parts = case["expect"]
    return {
        "standing": parts["standing"],
        "journal": sorted(parts["journal"], key=lambda entry: sorted(entry.items())),
        "bans": sorted(parts["bans"], key=lambda ban: (ban["shop_id"], ban["product_id"])),
    }


def test_every_pack_has_its_cases() -> None:
    """No pack is shipped that nobody has worked through."""
    assert [path.stem for path in CASES] == pack_names()


def test_engine_leaves_standing_what_was_worked_out(case: dict[str, Any]) -> None:
    """Nothing is refused."""
    lines = [json.dumps(event).encode() for event in case["events"]]
    outputs = parse(simulate(lines, load_rulebook([case["policy"]])))
    assert refusals_of(outputs) == []
    assert stands(outputs) == expected(case)


def test_auditor_agrees_with_what_was_worked_out(case: dict[str, Any]) -> None:
    """Straight from the text of the pack's files."""
    files = [file.text for file in policy_files(case["policy"])]
    facts = [(event["topic"], event["value"]) for event in case["events"]]
    assert judge_by(files, facts) == expected(case)
