"""The front of the command line: help, unknown words, and what nobody foresaw."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from streams.core.errors import UserError
from tests.unit.cli.conftest import Shipclock


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"], ["policy", "--help"]])
def test_help_is_good(shipclock: Shipclock, arguments: list[str]) -> None:
    """Asking for help is exit code 0."""
    finished = shipclock(*arguments)
    assert finished.code == 0
    assert finished.out.startswith(b"Usage: ")


@pytest.mark.parametrize("arguments", [[], ["policy"]])
def test_no_command_is_answered_with_those_there_are(
    shipclock: Shipclock, arguments: list[str]
) -> None:
    """Exit code 2, and how to go on."""
    finished = shipclock(*arguments)
    assert (finished.code, finished.out) == (2, b"")
    assert finished.err.startswith("Usage: shipclock")
    assert "Commands:" in finished.err


@pytest.mark.parametrize(
    ("arguments", "error", "usage"),
    [
        (["nonsense"], "no such command 'nonsense'", "shipclock [OPTIONS] COMMAND"),
        (["dead-letters", "exprot"], "no such command 'exprot'", "shipclock dead-letters"),
        (["--nonsense"], "no such option: --nonsense", "shipclock [OPTIONS] COMMAND"),
        (["policy", "check"], "missing argument 'FILE'", "shipclock policy check"),
        (["policy", "list", "x"], "got unexpected extra argument", "shipclock policy list"),
        (["simulate", "-", "--until"], "option '--until' requires", None),
        (["appeal", "O1:late-scan:1"], "missing argument 'outcome'", "shipclock appeal"),
        (["appeal", "O1:late-scan:1", "no"], "invalid value for 'outcome'", "shipclock appeal"),
        (["worker", "--workers", "0"], "invalid value for '--workers'", "shipclock worker"),
        (["demo", "--seed", "\x1b[2Jx"], "invalid value for '--seed'", "shipclock demo"),
        (["dead-letters", "--limit", "0"], "invalid value for '--limit'", "shipclock dead-letters"),
    ],
)
def test_wrong_usage_is_told_like_every_error(
    shipclock: Shipclock, arguments: list[str], error: str, usage: str | None
) -> None:
    """One line and a hint, exit code 2: no boxes, no traceback, nothing a terminal obeys."""
    finished = shipclock(*arguments)
    assert (finished.code, finished.out) == (2, b"")
    first, second = finished.err.splitlines()
    assert first.startswith(f"error: {error}")
    # The parser does not always say which command it was reading.
    assert second.startswith("hint: " if usage is None else f"hint: usage: {usage}")
    assert second.endswith("--help tells more")
    assert "\x1b" not in finished.err


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (UserError("it failed"), 1, "error: it failed"),
        (UserError("wrong", "right", 2), 2, "error: wrong"),
        (
            UserError("evil \x1b]0;title\x07 and \x9b2J"),
            1,
            "error: evil \\u001b]0;title\\u0007 and \\u009b2J",
        ),
        (UserError("O1:x:1 [red]"), 1, "error: O1:x:1 [red]"),
        (KeyError("x"), 1, "error: internal error: KeyError: 'x'"),
    ],
)
def test_whatever_goes_wrong_is_said_without_a_traceback(
    shipclock: Shipclock,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    first: str,
) -> None:
    """Errors foreseen and not end as a line and an exit code."""

    def fail() -> None:
        raise error

    monkeypatch.setattr("streams.cli.policy.policy_names", fail)
    monkeypatch.delenv("SHIPCLOCK_TRACEBACK", raising=False)
    finished = shipclock("policy", "list")
    assert (finished.code, finished.err.splitlines()[0]) == (code, first)
    assert "Traceback" not in finished.err


def test_traceback_can_be_asked_for(shipclock: Shipclock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks for a bug sees where it is."""

    def fail() -> None:
        raise KeyError("x")

    monkeypatch.setattr("streams.cli.policy.policy_names", fail)
    monkeypatch.setenv("SHIPCLOCK_TRACEBACK", "1")
    with pytest.raises(KeyError):
        shipclock("policy", "list")


def test_interrupt_is_130(shipclock: Shipclock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C ends as shells expect it."""

    def fail() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streams.cli.policy.policy_names", fail)
    finished = shipclock("policy", "list")
    assert finished.code == 130
    assert "Traceback" not in finished.err


def test_interrupt_during_the_imports_is_130_too() -> None:
    """Ctrl-C is heard before the first command could be read."""
    command = [sys.executable, "-X", "importtime", "-m", "streams", "policy", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while b"typer" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert b"KeyboardInterrupt" not in err


@pytest.mark.parametrize("app_id", ["", "a b", "a/b"])
def test_strange_app_id_is_wrong_usage(shipclock: Shipclock, app_id: str) -> None:
    """An unset variable in a script is one, too."""
    finished = shipclock("worker", "--app-id", app_id)
    assert finished.code == 2
    assert finished.err.startswith(f"error: {app_id!r} is no app id")
