"""Times on a command line: every form, in the policy's zone where none is given."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from streams.cli import times
from streams.cli.times import instant
from streams.core.errors import UserError
from tests.unit.cli.conftest import Shipclock
from tests.unit.samples import HOUR_MS, POLICY_TEXT, line, paid

NOW_MS = 1_796_086_800_123
MIDNIGHT_MS = 1_795_968_000_000
"""The beginning of 2026-11-30 in China."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-30", MIDNIGHT_MS),
        ("2026-11-30 14:00", MIDNIGHT_MS + 14 * HOUR_MS),
        ("2026-11-30T14:00:00.5", MIDNIGHT_MS + 14 * HOUR_MS + 500),
        ("2026-11-30T00:00:00Z", MIDNIGHT_MS + 8 * HOUR_MS),
        ("2026-11-30T00:00:00-05:00", MIDNIGHT_MS + 13 * HOUR_MS),
        ("now", NOW_MS),
        ("-3h", NOW_MS - 3 * HOUR_MS),
        ("-2d", NOW_MS - 48 * HOUR_MS),
        ("-90m", NOW_MS - 90 * 60_000),
        ("1670315340000", 1_670_315_340_000),
        ("0", 0),
    ],
)
def test_each_form_is_read(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In China, whose clocks are eight hours ahead."""
    monkeypatch.setattr(times, "now_ms", lambda: NOW_MS)
    assert instant(text, "--since", "Asia/Shanghai") == expected


def test_the_zone_is_the_policys() -> None:
    """A day begins elsewhere at another instant, in summer by its summer time."""
    assert instant("2026-11-30", "--since", "America/New_York") == MIDNIGHT_MS + 13 * HOUR_MS
    summer = instant("2026-07-01", "--since", "America/New_York")
    assert summer == instant("2026-07-01T04:00Z", "--since", "Asia/Shanghai")


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "-", "-3", "-3w", "3h", "-99999d", "1969-12-31", "2026-13-01", "0001-01-01"],
)
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    """One line, and a hint that lists what is read."""
    with pytest.raises(UserError, match=r"^--since: .* is not a time$") as caught:
        instant(text, "--since", "Asia/Shanghai")
    assert caught.value.exit_code == 2
    assert "now, -3h" in str(caught.value.hint)


def test_a_time_in_seconds_is_refused() -> None:
    """Read as milliseconds it would be an instant of 1970."""
    with pytest.raises(UserError) as caught:
        instant("1670315340", "--until", "Asia/Shanghai")
    assert caught.value.message == (
        "--until: 1670315340 (these look like seconds; times are epoch milliseconds)"
    )
    assert (caught.value.exit_code, caught.value.hint) == (2, "give 1670315340000")
    with pytest.raises(UserError, match="these look like microseconds"):
        instant("1670315340000000", "--until", "Asia/Shanghai")


def event_of(shipclock: Shipclock, *options: str) -> dict[str, Any]:
    """Return the exemption that options make."""
    finished = shipclock("exempt", "--id", "X1", "--order", "O1", "--dry-run", *options)
    assert (finished.code, finished.err) == (0, "")
    event: dict[str, Any] = json.loads(finished.out)
    return event


def test_commands_read_times_in_the_zone_of_their_policy(
    shipclock: Shipclock, tmp_path: Path
) -> None:
    """A value that begins with a minus is a time, not an option."""
    before_ms = time.time_ns() // 1_000_000
    event = event_of(shipclock, "--extend-to", "2026-11-30", "--granted-at", "-3h")
    assert event["effect"] == {"extend_to": MIDNIGHT_MS}
    assert 0 <= event["granted_at"] + 3 * HOUR_MS - before_ms < 60_000
    policy = tmp_path / "elsewhere.toml"
    policy.write_text(POLICY_TEXT.replace("Asia/Shanghai", "America/New_York"))
    event = event_of(shipclock, "--extend-to", "2026-11-30", "--policy", str(policy))
    assert event["effect"] == {"extend_to": MIDNIGHT_MS + 13 * HOUR_MS}
    log = line("order-paid", paid())
    # The deadline is at 16:29 in China.
    for until, determined in (("2022-12-09 16:29", False), ("2022-12-09 16:30", True)):
        finished = shipclock("simulate", "-", "--until", until, stdin=log)
        assert (finished.code, b"timeout.determined" in finished.out) == (0, determined)


@pytest.mark.parametrize(
    "command",
    ["simulate", "explain", "exempt", "appeal", "send", "dead-letters list", "dead-letters export"],
)
def test_every_help_says_how_a_time_is_written(shipclock: Shipclock, command: str) -> None:
    """One list of forms for all."""
    finished = shipclock(*command.split(), "--help")
    text = " ".join(finished.out.decode().split())
    assert "2026-11-30" in text
    assert "-3h, -2d" in text
