"""The front of the command line: help, unknown words, and what nobody foresaw."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from streams.core.errors import UserError
from tests.unit.cli.conftest import Shipclock


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"], ["policy", "--help"]])
def test_help_is_good(shipclock: Shipclock, arguments: list[str]) -> None:
    """Asking for help is exit code 0."""
    finished = shipclock(*arguments)
    assert finished.code == 0
    assert finished.out.startswith(b"Usage: ")


@pytest.mark.parametrize("command", ["send", "exempt", "appeal"])
def test_help_tells_that_sent_is_not_taken(shipclock: Shipclock, command: str) -> None:
    """And where to see what a worker refused."""
    told = b"".join(shipclock(command, "--help").out.split())  # it is broken at hyphens
    assert b"`shipclockdead-letters`" in told


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
        (["policy", "check"], "missing argument 'NAME|FILE|FOLDER...'", "shipclock policy check"),
        (["policy", "list", "x"], "got unexpected extra argument", "shipclock policy list"),
        (["simulate", "-", "--until"], "option '--until' requires", None),
        (["appeal", "O1:late-scan:1"], "missing argument 'outcome'", "shipclock appeal"),
        (["appeal", "O1:late-scan:1", "no"], "invalid value for 'outcome'", "shipclock appeal"),
        (["worker", "--workers", "0"], "invalid value for '--workers'", "shipclock worker"),
        (["worker", "--workers", "10000"], "invalid value for '--workers'", "shipclock worker"),
        (["demo", "--seed", "\x1b[2Jx"], "invalid value for '--seed'", "shipclock demo"),
        (["dead-letters", "--limit", "0"], "invalid value for '--limit'", "shipclock dead-letters"),
        (["dead-letters", "--limit", "9" * 20], "invalid value for '--limit'", None),
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
    "arguments",
    [
        ["exempt", "--id", "X1", "--waive", "--dry-run", "--order"],
        ["appeal", "O1:late-scan:1", "granted", "--id"],
        ["explain", "--events", "-"],
    ],
)
def test_argument_that_is_no_text_is_wrong_usage(
    shipclock: Shipclock, arguments: list[str]
) -> None:
    """Bytes that are not UTF-8 name no order."""
    finished = shipclock(*arguments, os.fsdecode(b"O\xff"))
    assert (finished.code, finished.out) == (2, b"")
    error, hint = finished.err.splitlines()
    assert error == "error: an argument is no text in UTF-8"
    assert hint.startswith("hint: ")


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

    monkeypatch.setattr("streams.cli.policy.pack_names", fail)
    monkeypatch.delenv("SHIPCLOCK_TRACEBACK", raising=False)
    finished = shipclock("policy", "list")
    assert (finished.code, finished.err.splitlines()[0]) == (code, first)
    assert "Traceback" not in finished.err


def test_traceback_can_be_asked_for(shipclock: Shipclock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks for a bug sees where it is."""

    def fail() -> None:
        raise KeyError("x")

    monkeypatch.setattr("streams.cli.policy.pack_names", fail)
    monkeypatch.setenv("SHIPCLOCK_TRACEBACK", "1")
    with pytest.raises(KeyError):
        shipclock("policy", "list")


def test_interrupt_is_130(shipclock: Shipclock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C ends as shells expect it."""

    def fail() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streams.cli.policy.pack_names", fail)
    finished = shipclock("policy", "list")
    assert finished.code == 130
    assert "Traceback" not in finished.err


def imports_told(*arguments: str) -> subprocess.Popen[str]:
    """Start a command that tells of each import, and whose children do, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "streams", *arguments],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_on(process: subprocess.Popen[str], word: str) -> None:
    """Read standard error on, up to a line that ends with a word."""
    assert process.stderr is not None
    assert any(line.rstrip().endswith(word) for line in process.stderr)


@pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN])
def test_interrupt_during_the_imports_is_130_too(inherited: signal.Handlers) -> None:
    """Ctrl-C is heard before the first command could be read, also where a script ran it by `&`."""
    before = signal.signal(signal.SIGINT, inherited)
    try:
        process = imports_told("policy", "list")
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        read_on(process, "typer")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err


SCRIPT = str(Path(sys.executable).with_name("shipclock"))
MODULE = [sys.executable, "-m", "streams"]


@pytest.mark.parametrize(
    ("program", "module"), [([SCRIPT], "re"), ([SCRIPT], "signal"), (MODULE, "signal")]
)
def test_interrupt_before_there_is_a_handler_is_130_too(
    tmp_path: Path, program: list[str], module: str
) -> None:
    """What is imported first is a module of ours, under whose name Ctrl-C comes."""
    (tmp_path / f"{module}.py").write_text(
        "import os, sys\n"
        "os.kill(os.getpid(), 2)\n"
        f"sys.path.remove({str(tmp_path)!r}); del sys.modules[{module!r}]; import {module}\n"
    )
    finished = subprocess.run(
        [*program, "policy", "list"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, b"", b"")


def test_interrupt_that_an_import_would_swallow_is_130_too(tmp_path: Path) -> None:
    """An exception in a callback is printed and forgotten, so Ctrl-C must not be one there."""
    (tmp_path / "faust.py").write_text(
        "import os, signal, weakref\n"
        "class Lock: pass\n"
        "lock = Lock()\n"
        "reference = weakref.ref(lock, lambda _: os.kill(os.getpid(), signal.SIGINT))\n"
        "del lock\n"
    )
    finished = subprocess.run(
        [sys.executable, "-m", "streams", "worker"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (130, b"", b"")


def test_interrupt_while_workers_import_is_theirs_to_overhear() -> None:
    """A terminal sends Ctrl-C to all processes; the first ends the others, none says a word."""
    with imports_told("worker", "--workers", "2", "--bootstrap", "127.0.0.1:1") as process:
        read_on(process, "streams.runtime.supervise")
        read_on(process, "msgspec")  # once more: by a worker
        workers = psutil.Process(process.pid).children()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err
    assert psutil.wait_procs(workers, timeout=5)[1] == []


@pytest.mark.parametrize("app_id", ["", "a b", "a/b"])
def test_strange_app_id_is_wrong_usage(shipclock: Shipclock, app_id: str) -> None:
    """An unset variable in a script is one, too."""
    finished = shipclock("worker", "--app-id", app_id)
    assert finished.code == 2
    assert finished.err.startswith(f"error: --app-id: {app_id!r} is not a valid app id")


def test_an_accepted_topic_is_given_with_its_id(shipclock: Shipclock) -> None:
    """Any topic of that name would be too many."""
    finished = shipclock("worker", "--accept-topic", "first-scan")
    assert finished.code == 2
    assert finished.err.startswith("error: --accept-topic: 'first-scan' is not TOPIC=ID\n")
