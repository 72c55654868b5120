"""Policy files of the first releases, read as the sections of today.

What lives here: the old sections and keys, and what they are called now. What must not: what they
mean (`reader`).

Old files have `[violations.KIND]`, `[points]`, `[deposit]`, `[ban]`, `[closure]` and `[input]`;
amounts in whole smallest units. One that names no platform takes every order, as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streams.rulebook.lines import Path

_OLD = ("violations", "points", "deposit", "ban", "closure", "input", "grace")
_NEW = ("violation", "account", "sanction", "exemption", "working_days", "processing")
_LINES = {
    "violations": "[violation.KIND]",
    "points": "[[account]]",
    "deposit": "[[account]]",
    "ban": "[[sanction]]",
    "closure": 'close_unshipped = "150d after placed"',
    "input": "[processing]",
    "grace": "[processing]",
}
_UNTIL = {"tracking-number-uploaded": "uploaded", "first-scan": "scanned", "order-closed": "closed"}
_KIND_KEYS = {
    "stopped_by": "until",
    "repeat_every": "every",
    "occurrences_max": "times",
    "warn_before": "warn_before",
}
_ACCOUNT_KEYS = {"unit": "unit", "per_violation": "amount"}
_CAP_KEYS = {
    "charges_per_order_max": "charges_per_order",
    "daily_max": "per_day",
    "weekly_max": "per_week",
}
_INPUT_KEYS = {"future_tolerance": "future_tolerance", "earliest": "earliest"}


def is_old(data: Mapping[str, Any]) -> bool:
    """Tell whether a file is written in the old way."""
    return any(key in data for key in _OLD) and not any(key in data for key in _NEW)


def mixed(data: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Find old sections beside new ones, each with what to write instead."""
    if is_old(data):
        return
    for key in _OLD:
        if key in data:
            yield (key,), f"is the old way to say it. Write {_LINES[key]} instead"


def modernised(data: dict[str, Any]) -> tuple[dict[str, Any], dict[Path, Path]]:
    """Turn an old file into a new one; a new one stays as it is.

    Returns:
        The file, and where each path of it stood in the old one.
    """
    if not is_old(data):
        return {key: value for key, value in data.items() if key not in _OLD}, {}
    found = {key: value for key, value in data.items() if key not in _OLD}
    paths: dict[Path, Path] = {}
    violations = data.get("violations")
    if violations is not None:
        found["violation"] = _kinds(violations, paths)
    kinds = sorted(violations) if isinstance(violations, dict) else []
    accounts: list[Any] = []
    for name in ("points", "deposit"):
        if isinstance(data.get(name), dict):
            accounts.append(_account(name, data[name], len(accounts), paths))
    if accounts:
        found["account"] = accounts
    if isinstance(data.get("ban"), dict):
        more_than = data["ban"].get("standing_more_than")
        found["sanction"] = [
            {"counts": [kind], "of": "one order", "more_than": more_than, "action": "product-ban"}
            for kind in kinds
        ]
        for place in range(len(kinds)):
            paths["sanction", place] = ("ban",)
            paths["sanction", place, "more_than"] = ("ban", "standing_more_than")
    if isinstance(data.get("closure"), dict):
        found["close_unshipped"] = f"{data['closure'].get('after_placed')} after placed"
        paths["close_unshipped",] = ("closure", "after_placed")
    found["processing"] = _processing(data, paths)
    return found, paths


def old_path(paths: Mapping[Path, Path], path: Path) -> Path:
    """Return where a path stood in the old file, or the nearest above it that is known."""
    for length in range(len(path), 0, -1):
        if path[:length] in paths:
            return (*paths[path[:length]], *path[length:])
    return path


def _kinds(violations: Any, paths: dict[Path, Path]) -> Any:
    if not isinstance(violations, dict):
        return violations
    kinds: dict[str, Any] = {}
    for kind, rules in violations.items():
        at: Path = ("violations", kind)
        paths["violation", kind] = at
        if not isinstance(rules, dict):
            kinds[kind] = rules
            continue
        found = {_KIND_KEYS.get(key, key): value for key, value in rules.items()}
        paths |= {("violation", kind, new): (*at, old) for old, new in _KIND_KEYS.items()}
        if isinstance(found.get("until"), list):
            found["until"] = [_UNTIL.get(one, one) for one in found["until"]]
        if isinstance(found.get("deadline"), dict):
            found["deadline"] = {mode: _deadline(rule) for mode, rule in found["deadline"].items()}
        kinds[kind] = found
    return kinds


def _deadline(rule: Any) -> Any:
    if not isinstance(rule, dict) or set(rule) != {"start", "limit"}:
        return rule
    start, limit = rule["start"], rule["limit"]
    if start == "promised" and limit in ("0ms", "0s", "0m", "0h", "0d"):
        return "as promised"
    return f"{limit} after {start}"


def _account(name: str, rules: dict[str, Any], place: int, paths: dict[Path, Path]) -> Any:
    at: Path = ("account", place)
    paths[at] = (name,)
    caps: dict[str, Any] = {}
    found: dict[str, Any] = {"name": name, "caps": caps}
    for old, value in rules.items():
        if old in _CAP_KEYS:
            caps[_CAP_KEYS[old]] = value
            paths[(*at, "caps", _CAP_KEYS[old])] = (name, old)
        elif old == "settle_at":
            found["settle"] = f"next day at {value}"
            paths[(*at, "settle")] = (name, old)
        else:
            new: str = _ACCOUNT_KEYS.get(old, old)
            found[new] = value
            paths[(*at, new)] = (name, old)
    return found


def _processing(data: dict[str, Any], paths: dict[Path, Path]) -> Any:
    found: dict[str, Any] = {}
    if "grace" in data:
        found["grace"] = data["grace"]
        paths["processing", "grace"] = ("grace",)
    given = data.get("input", {})
    if not isinstance(given, dict):
        return given
    for key, value in given.items():
        if key == "wait_for_order":
            # One setting was both: facts waited as long as a payment could be late.
            found["facts_wait"] = found["late_payment"] = value
            paths["processing", "facts_wait"] = ("input", key)
            paths["processing", "late_payment"] = ("input", key)
        else:
            found[str(_INPUT_KEYS.get(key, key))] = value
            paths["processing", key] = ("input", key)
    return found
