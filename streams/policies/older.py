"""The rules as data: a policy file's typed form and its checks.

What lives here: the shape of a policy and what makes one wrong. What must not: a rule's number
(those stand in `streams/policies/*.toml`) and the arithmetic (`clock`, `orders`, `allocation`).
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from datetime import datetime, timedelta
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from streams.core.complaints import addition
from streams.core.errors import UserError
from streams.core.facts.events import ShippingMode

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
# What one violation may cost: a year of charges still fits the integers of every consumer.
_AMOUNT_MAX = 10**12
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# These name timers of their own, so no violation kind may take them.
_RESERVED_KINDS = ("deadline-warning", "order-closure")


class PolicyError(UserError):
    """Rules that are wrong: to name them for some other work is wrong usage of it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint, exit_code=2)


class Millis(int):
    """A duration in milliseconds, written "72h"."""


class TimeOfDay(int):
    """Milliseconds since local midnight, written "00:00"."""


class InstantMs(int):
    """Epoch milliseconds, written as a TOML date-time with an offset."""


class Zone(str):
    """An IANA time zone name."""

    __slots__ = ()


class _Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: a misspelt key is an error, never ignored."""


class InputRules(_Strict, frozen=True, kw_only=True):
    """Which events are refused."""

    future_tolerance: Millis
    earliest: InstantMs
    wait_for_order: Millis


class DeadlineRule(_Strict, frozen=True, kw_only=True):
    """Deadline = start + limit."""

    start: Literal["placed", "uploaded", "promised"]
    limit: Millis


class KindRules(_Strict, frozen=True, kw_only=True):
    """One kind of violation: when it is due, how often, and what stops it."""

    deadline: dict[ShippingMode, DeadlineRule]
    stopped_by: list[Literal["tracking-number-uploaded", "first-scan", "order-closed"]]
    repeat_every: Millis
    occurrences_max: int
    warn_before: list[Millis] = []


class ClosureRules(_Strict, frozen=True, kw_only=True):
    """When an order that was never shipped closes by itself."""

    after_placed: Millis


class PointsRules(_Strict, frozen=True, kw_only=True):
    """Penalty points a standing violation costs, in tenths of a point."""

    unit: str
    per_violation: int
    daily_max: int | None = None
    weekly_max: int | None = None


class DepositRules(_Strict, frozen=True, kw_only=True):
    """Money a standing violation costs, settled once a local day."""

    unit: str
    per_violation: int
    charges_per_order_max: int | None = None
    daily_max: int | None = None
    settle_at: TimeOfDay


class BanRules(_Strict, frozen=True, kw_only=True):
    """When an order's products are banned."""

    standing_more_than: int


class RetentionRules(_Strict, frozen=True, kw_only=True):
    """How long an order's state outlives its last change, in log time."""

    clean: Millis
    violated: Millis


class Policy(_Strict, frozen=True, kw_only=True):
    """A versioned set of rules; sections left out switch that duty off."""

    name: str
    version: int
    time_zone: Zone
    grace: Millis
    input: InputRules
    violations: dict[str, KindRules]
    closure: ClosureRules | None = None
    points: PointsRules | None = None
    deposit: DepositRules | None = None
    ban: BanRules | None = None
    retention: RetentionRules

    @property
    def digest(self) -> str:
        """Identify what the policy says, whatever its name and version."""
        return hashlib.sha256(msgspec.json.encode(self, enc_hook=str)).hexdigest()[:16]

    @property
    def has_account(self) -> bool:
        """Whether a violation costs its shop anything, so that the shops stage has work to do."""
        return any((self.points, self.deposit, self.ban))

    @property
    def label(self) -> str:
        """`name@version`, as outputs carry it."""
        return f"{self.name}@{self.version}"


def parse_policy(text: str, origin: str) -> Policy:
    """Read a policy from TOML text; `origin` names it in messages.

    Raises:
        PolicyError: The text is no TOML, or a key is unknown, missing or out of range.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # More than its own error: of numbers with thousands of digits, of depth.
        raise PolicyError(
            f"{origin}: not TOML: {error}", "see streams/policies for an example"
        ) from None
    try:
        policy: Policy = _plain(msgspec.convert(data, Policy, dec_hook=_convert))
        _check(policy)
    except msgspec.ValidationError as error:
        raise _located(text, origin, _spelled_out(data, str(error))) from None
    return policy


def _plain(value: Any) -> Any:
    """Turn number types into ints: arithmetic on a subclass costs twice as much."""
    if isinstance(value, Struct):
        fields = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        return type(value)(**fields)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return int(value) if isinstance(value, int) else value


def _spelled_out(data: dict[str, Any], error: str) -> str:
    """Name the keys that msgspec's message leaves as `[...]`: the first entry that fails."""
    violations = data.get("violations")
    if "[...]" not in error or not isinstance(violations, dict):
        return error
    for kind, rules in violations.items():
        deadlines = rules.get("deadline") if isinstance(rules, dict) else None
        modes = get_args(ShippingMode)
        for mode in deadlines if isinstance(deadlines, dict) else ():
            if mode not in modes:
                # A key, of which msgspec says less than of a value.
                valid = ", ".join(modes)
                where = f"$.violations.{kind}.deadline.{mode}"
                return f"Invalid enum value {mode!r}, valid: {valid} - at `{where}`"
        entries = [
            (f"violations.{kind}.deadline.{mode}", rule, DeadlineRule)
            for mode, rule in (deadlines if isinstance(deadlines, dict) else {}).items()
        ]
        for path, entry, wanted in [*entries, (f"violations.{kind}", rules, KindRules)]:
            try:
                msgspec.convert(entry, wanted, dec_hook=_convert)
            except msgspec.ValidationError as inner:
                message, _, rest = str(inner).partition(" - at `$")
                return f"{message} - at `$.{path}{rest or '`'}"
    return error


def duration_ms(value: Any) -> int:
    """Read a duration such as `72h`; return milliseconds.

    Raises:
        ValueError: It is not a number with one of the units ms, s, m, h and d.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'Expected a duration such as "72h", got {value!r}')
    return int(match[1]) * _UNITS_MS[match[2]]


def _convert(wanted: type, value: Any) -> Any:
    """Turn a TOML value into one of the types above (msgspec's `dec_hook`)."""
    if wanted is Millis:
        return Millis(duration_ms(value))
    if wanted is TimeOfDay:
        match = _TIME_OF_DAY.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f'Expected a time of day such as "00:00", got {value!r}')
        return TimeOfDay(int(match[1]) * _UNITS_MS["h"] + int(match[2]) * _UNITS_MS["m"])
    if wanted is InstantMs:
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise ValueError("Expected a date-time with an offset such as 2010-01-01T00:00:00Z")
        epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
        return InstantMs((value - epoch) // timedelta(milliseconds=1))
    try:
        ZoneInfo(value)
    except (ValueError, OSError, TypeError, KeyError):
        raise ValueError(
            f'Expected an IANA time zone such as "Asia/Shanghai", got {value!r}'
        ) from None
    return Zone(value)


def _check(policy: Policy) -> None:
    """Refuse what types cannot; messages carry the path as msgspec's own do."""

    def require(condition: bool, path: str, message: str) -> None:
        if not condition:
            raise msgspec.ValidationError(f"{message} - at `$.{path}`")

    require(
        _NAME.fullmatch(policy.name) is not None, "name", "Expected lower-case words joined by -"
    )
    require(policy.version >= 1, "version", "Expected a number from 1")
    require(len(policy.violations) > 0, "violations", "Expected at least one kind")
    for kind, rules in policy.violations.items():
        path = f"violations.{kind}"
        require(
            _NAME.fullmatch(kind) is not None and kind not in _RESERVED_KINDS,
            path,
            f"Expected lower-case words joined by -, none of {', '.join(_RESERVED_KINDS)}",
        )
        require(rules.repeat_every > 0, f"{path}.repeat_every", "Expected more than 0")
        require(1 <= rules.occurrences_max <= 99, f"{path}.occurrences_max", "Expected 1 to 99")
        require(
            len(set(rules.warn_before)) == len(rules.warn_before) and 0 not in rules.warn_before,
            f"{path}.warn_before",
            "Expected distinct leads above 0",
        )
    require(
        policy.input.wait_for_order <= policy.retention.clean,
        "input.wait_for_order",
        "Expected at most retention.clean, or a stale copy could revive a forgotten order",
    )
    for section, amount in (
        ("points", None if policy.points is None else policy.points.per_violation),
        ("deposit", None if policy.deposit is None else policy.deposit.per_violation),
    ):
        require(
            amount is None or 0 < amount <= _AMOUNT_MAX,
            f"{section}.per_violation",
            f"Expected 1 to {_AMOUNT_MAX}",
        )
    for section, key in (
        ("points", "daily_max"),
        ("points", "weekly_max"),
        ("deposit", "daily_max"),
        ("deposit", "charges_per_order_max"),
        ("ban", "standing_more_than"),
    ):
        limit = getattr(getattr(policy, section), key, None)
        require(limit is None or limit >= 0, f"{section}.{key}", "Expected 0 or more")


def _located(text: str, origin: str, error: str) -> PolicyError:
    """Turn msgspec's message into one with file, line, key path and a hint."""
    message, _, where = error.partition(" - at `$")
    path = [part.strip('.[]"`') for part in re.findall(r"\.[^.\[`]+|\[[^\]]*\]", where)]
    steps = [int(part) if part.isdecimal() else part for part in path]
    if "valid: " not in message:
        message += addition(message, Policy, steps, None)
    hint = "see streams/policies/douyin-first-scan.toml for an example"
    unknown = re.search(r"unknown field `(.+?)`", message)
    if unknown is not None:
        path.append(unknown[1])
        known = sorted({name for section in _sections() for name in section.__struct_fields__})
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
    line = _line_of(text, path)
    place = f"{origin}:{line}" if line else origin
    return PolicyError(f"{place}: {'.'.join(path) or 'policy'}: {message}", hint)


def _sections() -> tuple[type[Struct], ...]:
    return (
        Policy, InputRules, DeadlineRule, KindRules, ClosureRules, PointsRules, DepositRules,
        BanRules, RetentionRules,
    )  # fmt: skip


def _line_of(text: str, path: list[str]) -> int | None:
    """Find the line of the longest prefix of a key path that the text spells out."""
    table: list[str] = []
    found: tuple[int, int] = (0, 0)
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        key = re.match(r"\s*([\w-]+)\s*=", line)
        if header is not None:
            table = [part.strip(' "') for part in header[1].split(".")]
            here = table
        elif key is not None:
            here = [*table, key[1]]
        else:
            continue
        if here == path[: len(here)] and len(here) > found[0]:
            found = (len(here), number)
    return found[1] or None
