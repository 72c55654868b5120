"""The front of the command line: help, unknown words, and what nobody foresaw."""

from __future__ import annotations

import pytest

from streams.cli.errors import UserError
from tests.unit.cli.conftest import Shipclock


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"], ["policy", "--help"]])
def test_help_is_good(shipclock: Shipclock, arguments: list[str]) -> None:
    """Asking for help is exit code 0."""
    finished = shipclock(*arguments)
    assert finished.code == 0
    assert finished.out.startswith(b"Usage: ")


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["--nonsense"], ["policy"]])
def test_word_that_is_no_command_is_wrong_usage(shipclock: Shipclock, arguments: list[str]) -> None:
    """Exit code 2, and how to go on."""
    finished = shipclock(*arguments)
    assert finished.code == 2
    assert "Usage: " in finished.err + finished.out.decode()


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (UserError("it failed"), 1, "error: it failed"),
        (UserError("wrong", "right", 2), 2, "error: wrong"),
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
