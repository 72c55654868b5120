"""Conditions of `engine.bulk` and `usual` that a mutant leaves out, each with a seed that notices.

Where generator or module have changed, `python -m tests.property.bulk_mutants` looks for others.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

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


MUTANTS = {
    "a-kind-an-upload-stops": Mutant(
        "__init__", "'tracking-number-uploaded' in rules.stopped_by", "False", 22
    ),
    "a-clock-an-upload-starts": Mutant("__init__", "rule.start == 'uploaded'", "False", 125),
    "a-kind-no-scan-stops": Mutant(
        "__init__", "all(('first-scan' in rules.stopped_by for rules, _ in running))", "True", 4
    ),
    "warnings-first": Mutant("_first_due", "rule.limit - max(leads, default=0)", "rule.limit", 5),
    "closure-first": Mutant("_first_due", "[self.closure]", "[END_OF_TIME_MS]", 296),
    "other-topics-block": Mutant("_blocked", "dict.fromkeys(lane.keys)", "{}", 799),
    "paid-blocked": Mutant("pay", "key in blocked", "False", 34),
    "paid-known": Mutant("pay", "key in packed", "False", 9),
    "paid-key": Mutant("pay", "event.order_id.encode() != key", "False", 40),
    "paid-placed-range": Mutant("pay", "not earliest <= placed <= latest", "False", 0),
    "paid-paid-range": Mutant("pay", "not earliest <= paid <= latest", "False", 24),
    "paid-too-late": Mutant("pay", "paid < effective - wait", "False", 159),
    "paid-due-passed": Mutant(
        "pay", "not effective - grace <= due < NEVER_MS", "not due < NEVER_MS", 20
    ),
    "paid-due-never": Mutant(
        "pay", "not effective - grace <= due < NEVER_MS", "not effective - grace <= due", 27
    ),
    "paid-promised": Mutant("pay", "event.promised_ship_by is not None", "False", 0),
    "paid-products-twice": Mutant(
        "pay", "len(dict.fromkeys(products)) < len(products)", "False", 130
    ),
    "paid-exempt": Mutant("pay", "exemptions and (not exemptions.spare(event))", "False", 484),
    "upload-blocked": Mutant("upload", "key in blocked", "False", 8),
    "upload-key": Mutant("upload", "event.order_id.encode() != key", "False", 293),
    "upload-replaces": Mutant("upload", "event.replaces is not None", "False", 118),
    "upload-range": Mutant("upload", "not earliest <= at <= timestamp + tolerance", "False", 289),
    "upload-closure": Mutant("upload", "due == placed + closure", "False", 71),
    "scan-blocked": Mutant("scan", "key in blocked", "False", 77),
    "scan-key": Mutant("scan", "event.order_id.encode() != key", "False", 220),
    "scan-range": Mutant("scan", "not earliest <= at <= timestamp + tolerance", "False", 380),
    "scan-at-due": Mutant(
        "scan", "not at < due >= effective - grace", "not due >= effective - grace", 14
    ),
    "scan-due-passed": Mutant("scan", "not at < due >= effective - grace", "not at < due", 875),
    "another-policy": Mutant(
        "_judged_since", "state.last_change_ms <= usual.judged_after_ms", "False", 1269
    ),
    "disorder": Mutant(
        "_blocked",
        "any(map(gt, map(last_ms.get, lane.keys, repeat(0)), lane.effective))",
        "False",
        8,
    ),
    "compiled-exempt": Mutant(
        "_take", "rank == ORDER_PAID and rules.exemptions", "False", 484, compiled=True
    ),
    "compiled-left-blocks": Mutant(
        "_take",
        "dict.fromkeys((lane.keys[place] for place in left))",
        "{}",
        531,
        compiled=True,
    ),
    "unsound-identifiers": Mutant(
        "_block_unsound", "not surely_identifiers(''.join(names))", "False", 34
    ),
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
    for module in (usual, bulk):
        tree = ast.parse(Path(module.__file__).read_text())
        for node in ast.walk(tree):
            if edit and isinstance(node, ast.FunctionDef) and node.name == function:
                edit.visit(node)
        code = compile(ast.fix_missing_locations(tree), "mutant", "exec", dont_inherit=True)
        made.append(ModuleType("mutant"))
        exec(code, made[-1].__dict__)
    found = SimpleNamespace(TAKE=take)
    made[1].__dict__.update(compiled=found, usual=made[0], Usual=made[0].Usual)
    remade: type[Bulk] = made[1].Bulk
    return remade


def main(differs: Callable[[int, type[Bulk]], bool]) -> None:
    """Print, for each mutant whose seed notices nothing, one that does."""
    for name, mutant in MUTANTS.items():
        made = mutated(mutant)
        if not differs(mutant.seed, made):
            print(name, next(seed for seed in count() if differs(seed, made)), flush=True)


if __name__ == "__main__":
    from tests.property.test_bulk import differs

    sys.exit(main(differs))
