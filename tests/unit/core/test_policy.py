"""Policy files: what is read, and where and why a wrong one is refused."""

from __future__ import annotations

import re

import pytest

from streams.core.rules.policy import PolicyError, parse_policy
from tests.unit.samples import DAY_MS, HOUR_MS, POLICY, POLICY_TEXT, policy_with

NORMAL = 'normal = { start = "placed", limit = "72h" }'


def refusal(text: str) -> PolicyError:
    """Return the error of a text that is no policy."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "rules.toml")
    return caught.value


def without_section(name: str) -> str:
    """Return the default policy's text without one section."""
    return re.sub(rf"(?ms)^\[{name}\].*?(?=^\[|\Z)", "", POLICY_TEXT)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("version = 1", "version = 0", "version"),
        ("version = 1", "version = true", "version"),
        ('"douyin-first-scan"', '"Douyin"', "name"),
        ('"Asia/Shanghai"', '"Asia/Peking"', "time_zone"),
        ('"Asia/Shanghai"', '"Asia"', "time_zone"),
        ('"Asia/Shanghai"', '"../Shanghai"', "time_zone"),
        ('"Asia/Shanghai"', "8", "time_zone"),
        ('"0s"', '"-1s"', "grace"),
        ('"0s"', "0", "grace"),
        ('"0s"', '"1.5h"', "grace"),
        ("00Z", "00", "input.earliest"),
        ('"first-scan", "order-closed"', '"first-scan", "closed"', "stopped_by.1"),
        ('repeat_every = "24h"', 'repeat_every = "0h"', "late-scan.repeat_every"),
        ("occurrences_max = 3", "occurrences_max = 0", "late-scan.occurrences_max"),
        ("occurrences_max = 3", "occurrences_max = 100", "late-scan.occurrences_max"),
        ('["24h", "4h"]', '["24h", "1d"]', "late-scan.warn_before"),
        ('["24h", "4h"]', '["0h"]', "late-scan.warn_before"),
        ('["24h", "4h"]', '["24h", "4"]', "late-scan.warn_before.1"),
        ('"placed"', '"paid"', "late-scan.deadline.normal.start"),
        ('"72h"', '"72"', "late-scan.deadline.normal.limit"),
        ("per_violation = 1\n", "per_violation = 0\n", "points.per_violation"),
        ("per_violation = 1000", "per_violation = -1", "deposit.per_violation"),
        ("weekly_max = 20", "weekly_max = -1", "points.weekly_max"),
        ("daily_max = 50000", "daily_max = 1.5", "deposit.daily_max"),
        ('settle_at = "00:00"', 'settle_at = "24:00"', "deposit.settle_at"),
        ('settle_at = "00:00"', "settle_at = 00:00:00", "deposit.settle_at"),
        ("standing_more_than = 2", "standing_more_than = -1", "ban.standing_more_than"),
        ('clean = "7d"', 'clean = "7 days"', "retention.clean"),
    ],
)
def test_wrong_value_is_told_with_its_line_and_key(old: str, new: str, path: str) -> None:
    """The message names file, line and key path of the mistake."""
    assert POLICY_TEXT.count(old) == 1
    text = POLICY_TEXT.replace(old, new)
    line = POLICY_TEXT[: POLICY_TEXT.index(old)].count("\n") + 1
    message = refusal(text).message
    assert message.startswith(f"rules.toml:{line}: ")
    assert path in message


@pytest.mark.parametrize("kind", ["deadline-warning", "order-closure", "Late", "late_scan"])
def test_kind_must_not_take_the_name_of_a_timer(kind: str) -> None:
    """A kind is in lower-case words and none of the names timers have."""
    text = POLICY_TEXT.replace("violations.late-scan", f"violations.{kind}")
    assert f"violations.{kind}: Expected lower-case words" in refusal(text).message


@pytest.mark.parametrize(
    ("old", "new", "meant"),
    [
        ("time_zone", "timezone", "time_zone"),
        ("[retention]", "[retentoin]", "retention"),
        ('violated = "90d"', 'violatd = "90d"', "violated"),
        (NORMAL, NORMAL.replace("limit", "limt"), "limit"),
    ],
)
def test_misspelt_key_is_refused_with_a_guess(old: str, new: str, meant: str) -> None:
    """An unknown key is never ignored, and the nearest known one is named."""
    assert refusal(POLICY_TEXT.replace(old, new, 1)).hint == f"did you mean `{meant}`?"


def test_key_like_none_known_lists_the_known_ones() -> None:
    """Where there is no near key the hint tells them all."""
    error = refusal(f"xyzzy = 3\n{POLICY_TEXT}")
    assert error.message.startswith("rules.toml:1: xyzzy: ")
    assert "known keys: " in error.hint
    assert "repeat_every" in error.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing required field `name`"),
        ("name = [", "not TOML"),
        ("violations = 3", "rules.toml:1: violations: Expected `object`"),
    ],
)
def test_text_that_is_no_policy_is_refused(text: str, message: str) -> None:
    """Whatever the text is, one message says what is missing or wrong."""
    assert message in refusal(text).message


def test_policy_must_judge_something() -> None:
    """Without a kind of violation there is no policy."""
    text = re.sub(r"(?ms)^\[violations.*?(?=^\[closure)", "", POLICY_TEXT)
    assert "violations: Expected at least one kind" in refusal(f"violations = {{}}\n{text}").message


@pytest.mark.parametrize("name", ["input", "retention"])
def test_needed_section_must_be_there(name: str) -> None:
    """Sections without which no order can be judged are asked for by name."""
    assert f"missing required field `{name}`" in refusal(without_section(name)).message


@pytest.mark.parametrize("name", ["points", "deposit", "ban", "closure"])
def test_section_left_out_switches_its_duty_off(name: str) -> None:
    """A policy need not book, ban or close."""
    assert getattr(POLICY, name) is not None
    assert getattr(parse_policy(without_section(name), "rules.toml"), name) is None


def test_units_become_integers_of_milliseconds() -> None:
    """Durations, times of day and instants are plain ints, fast to calculate with."""
    policy = policy_with(('"0s"', '"90m"'), ('settle_at = "00:00"', 'settle_at = "23:30"'))
    assert policy.grace == 90 * 60_000
    assert POLICY.retention.clean == 7 * DAY_MS
    assert POLICY.violations["late-scan"].warn_before == [DAY_MS, 4 * HOUR_MS]
    assert POLICY.input.earliest == 1_262_304_000_000
    assert policy.deposit is not None
    assert policy.deposit.settle_at == 23 * HOUR_MS + 30 * 60_000
    assert type(policy.grace) is type(policy.deposit.settle_at) is int


def test_instants_below_a_second_are_exact() -> None:
    """An instant with milliseconds and an offset is not rounded."""
    policy = policy_with(("2010-01-01T00:00:00Z", "2010-01-01T08:00:00.999+08:00"))
    assert policy.input.earliest == 1_262_304_000_999


def test_label_is_name_and_version() -> None:
    """Outputs say by which rules they were made."""
    assert policy_with(("version = 1", "version = 12")).label == "douyin-first-scan@12"
