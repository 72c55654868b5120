"""Without a home directory: a user that is in no password file, as containers have them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from streams.broker.errors import BrokerError
from streams.broker.jars import kafka_jars
from streams.broker.progress import ignore_progress
from tests.unit.cli.conftest import Shipclock


@pytest.fixture(autouse=True)
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variables that name folders away, and the password file."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["broker", "--help"], 0),
        (["broker", "start", "--help"], 0),
        (["demo", "--help"], 0),
        (["policy", "list"], 0),
        (["nonsense"], 2),
        (["broker", "nonsense"], 2),
    ],
)
def test_what_needs_no_folder_works(shipclock: Shipclock, arguments: list[str], code: int) -> None:
    """As for every user."""
    finished = shipclock(*arguments)
    assert finished.code == code
    assert "home" not in finished.err


@pytest.mark.parametrize("command", ["start", "status", "stop"])
def test_the_broker_says_what_it_needs_a_folder_for(shipclock: Shipclock, command: str) -> None:
    """One line and a hint."""
    finished = shipclock("broker", command)
    assert (finished.code, finished.out) == (1, b"")
    error, hint = finished.err.splitlines()
    assert error == "error: there is no home directory, and XDG_DATA_HOME is not set"
    assert hint.endswith("or give --data-dir DIR")


def test_a_folder_that_is_named_needs_no_home(
    shipclock: Shipclock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the option, or by the variable of the XDG specification."""
    told = f"not running\ndata dir:  {tmp_path}/shipclock/broker\n".encode()
    folder = str(tmp_path / "shipclock" / "broker")
    assert shipclock("broker", "status", "--data-dir", folder).out == told
    monkeypatch.setenv("XDG_DATA_HOME", os.fspath(tmp_path))
    assert shipclock("broker", "status").out == told


def test_the_cache_says_so_too() -> None:
    """The demo and `broker start --data-dir` fetch Kafka into it."""
    with pytest.raises(BrokerError) as refused:
        kafka_jars(ignore_progress)
    assert refused.value.message == "there is no home directory, and XDG_CACHE_HOME is not set"
