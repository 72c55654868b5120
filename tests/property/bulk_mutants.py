"""Conditions of the plan and of what takes usual events, left out once, each with a seed.

Where generator or module have changed, `python -m tests.property.bulk_mutants` looks for others.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from streams.core.rules import plan
from streams.engine import bulk, compiled, usual
from streams.engine.bulk import Bulk


class Mutant(NamedTuple):
    """An expression of a function, what stands in its place, and a seed at which it matters."""

    function: str
    found: str
    instead: str
    seed: int
    compiled: bool = False
    """It matters where usual events are taken by compiled code."""


_UNSOUND = (
    "not surely_identifiers(''.join((identifiers(event) for event in events if event is not None)))"
)
_JUDGED = "judged_after >= 0 and _changed(state) <= judged_after"
_IN_TIME = "self._usual.earliest <= at <= timestamp + self._usual.future_tolerance"

MUTANTS = {
    "other-topics-block": Mutant("_blocked", "dict.fromkeys(lane.keys)", "{}", 17),
    "disorder": Mutant(
        "_blocked",
        "any(map(gt, map(last_ms.get, lane.keys, repeat(0)), lane.effective))",
        "False",
        4,
    ),
    "compiled-left-blocks": Mutant(
        "_take",
        "dict.fromkeys((lane.keys[place] for place in left))",
        "{}",
        142,
        compiled=True,
    ),
    "unsound-identifiers": Mutant("_block_unsound", _UNSOUND, "False", 27),
    # Payments.
    "paid-blocked": Mutant("pay", "key in blocked", "False", 27),
    "paid-known": Mutant("pay", "key in packed", "False", 9),
    "paid-key": Mutant("pay", "event.order_id.encode() != key", "False", 12),
    "paid-placed-range": Mutant("pay", "earliest <= placed <= latest", "True", 16),
    "paid-paid-range": Mutant("pay", "earliest <= paid <= latest", "True", 9),
    "paid-too-late": Mutant("pay", "paid >= effective - late_payment", "True", 103),
    "paid-due-never": Mutant("pay", "not 0 <= due < NEVER_MS", "not 0 <= due", 44),
    "paid-products-twice": Mutant(
        "pay", "len(dict.fromkeys(products)) == len(products)", "True", 76
    ),
    "paid-promised": Mutant("plan_for", "event.promised_ship_by is None", "True", 4656),
    "paid-agreed": Mutant("plan_for", "event.agreed_ship_by is None", "True", 1033),
    "paid-exempt": Mutant("plan_for", "not self.exemptions.none_concern(subject)", "False", 39),
    "paid-own-exemption": Mutant(
        "plan_for", "any((reaches(each.scope, subject) for each in own))", "False", 3
    ),
    # Uploads and scans.
    "parcel-blocked": Mutant("records", "key in blocked", "False", 71),
    "parcel-key": Mutant("records", "event.order_id.encode() != key", "False", 227),
    "parcel-due-passed": Mutant("records", "due_of(state) < effective - grace", "False", 54),
    "another-policy": Mutant("records", _JUDGED, "False", 3),
    "parcel-range": Mutant("in_time", _IN_TIME, "True", 97),
    "something-is-due": Mutant("put", "due == NOW", "False", 3),
    "timer-moved": Mutant("put", "due != due_of(state)", "False", 10),
    "upload-state": Mutant("upload", "flags & _NOT_USUAL", "False", 4),
    "upload-replaces": Mutant("upload", "event.replaces", "False", 320),
    "upload-closure": Mutant("upload", "new_due == placed + plan.closure", "False", 155),
    "upload-exempt": Mutant("upload", "not flags & EXEMPT", "True", 234),
    "upload-asks": Mutant("upload", "ASK if plan.asks else LONG", "ASK", 1099),
    "scan-state": Mutant("scan", "flags & (_NOT_USUAL & ~UPLOADED)", "False", 9),
    "scan-at-due": Mutant("scan", "at < due_of(state)", "True", 30),
    "scan-exempt": Mutant("scan", "not flags & EXEMPT", "True", 1264),
    "scan-uploaded": Mutant("scan", "flags & UPLOADED", "False", 19),
    "uploaded-at": Mutant("_uploaded_at", "at.startswith(_PACKED_INSTANT_HEAD)", "True", 807),
    # The plan.
    "plan-given": Mutant("__init__", "any((row.start < 0 for row in rows))", "False", 313),
    "plan-clock-an-upload-starts": Mutant("__init__", "row.start == UPLOADED", "False", 160),
    "plan-kind-an-upload-stops": Mutant("__init__", "row.stops & STOPPED_BY_UPLOAD", "False", 166),
    "plan-kind-no-scan-stops": Mutant(
        "__init__", "all((row.stops & STOPPED_BY_SCAN for row in rows))", "True", 3
    ),
    "plan-parcels": Mutant("__init__", "any((row.each_parcel for row in rows))", "False", 890),
    "closure-uploaded": Mutant("next_due", "due <= uploaded", "True", 13),
    "closure-scanned": Mutant("next_due", "due <= scanned", "True", 520),
    "stopped-by-upload": Mutant("next_due", "row.stops & STOPPED_BY_UPLOAD", "False", 13),
    "stopped-by-scan": Mutant("next_due", "row.stops & STOPPED_BY_SCAN", "False", 657),
    "late-and-stopped": Mutant("next_due", "late <= stop", "True", 13),
    "warning-started": Mutant("next_due", "start < at <= stop", "at <= stop", 386),
    "warning-stopped": Mutant("next_due", "start < at <= stop", "start < at", 13),
    "due-passed": Mutant("next_due", "best > limit", "True", 9),
    "boundary": Mutant("late_at", "self.on_time_at_limit", "False", 256),
    "piece": Mutant("deadline_at", "begin <= start < end", "begin <= start", 822),
}


class _Edit(ast.NodeTransformer):
    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.edits = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr) and ast.unparse(node) == self.mutant.found:
            self.edits += 1
            return ast.parse(self.mutant.instead, mode="eval").body
        return self.generic_visit(node)


def mutated(mutant: Mutant) -> type[Bulk]:
    """Return `Bulk` as it would be with this mistake, on the way where it matters."""
    edit = _Edit(mutant)
    found = _remade(edit, mutant.function, compiled.TAKE if mutant.compiled else {})
    if edit.edits != 1:
        raise ValueError(f"{mutant.found!r} is {edit.edits} times in {mutant.function}")
    return found


def plain() -> type[Bulk]:
    """Return `Bulk` as it is where nothing is compiled."""
    return _remade(None, "", {})


def _remade(edit: _Edit | None, function: str, take: dict[int, Any]) -> type[Bulk]:
    made = []
    for module in (plan, usual, bulk):
        tree = ast.parse(Path(module.__file__).read_text())
        for node in ast.walk(tree):
            if edit and isinstance(node, ast.FunctionDef) and node.name == function:
                edit.visit(node)
        code = compile(ast.fix_missing_locations(tree), "mutant", "exec", dont_inherit=True)
        made.append(ModuleType("mutant"))
        exec(code, made[-1].__dict__)
    plans, usuals, bulks = (each.__dict__ for each in made)
    usuals["Plan"] = plans["Plan"]
    bulks.update(compiled=SimpleNamespace(TAKE=take), usual=made[1], Usual=usuals["Usual"])
    remade: type[Bulk] = bulks["Bulk"]
    return remade


def main(differs: Callable[[int, type[Bulk]], bool]) -> None:
    """Print, for each mutant whose seed notices nothing, one that does."""
    for name, mutant in MUTANTS.items():
        made = mutated(mutant)
        if not differs(mutant.seed, made):
            print(
                name,
                next((seed for seed in range(20_000) if differs(seed, made)), "NONE"),
                flush=True,
            )


if __name__ == "__main__":
    from tests.property.test_bulk import differs

    sys.exit(main(differs))
