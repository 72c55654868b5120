"""SIGTERM and Ctrl-C from the first moment on, also for the first process of a container."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Where only root may make a PID namespace, the same is tried outside of one.
_NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child"]
_ALLOWED = subprocess.run([*_NAMESPACE, "true"], capture_output=True).returncode == 0
_FIRST = _NAMESPACE if _ALLOWED else []
_PATIENCE_S = 10.0
COMMANDS = {
    "worker": ["worker", "--bootstrap"],
    "workers": ["worker", "--workers", "2", "--bootstrap"],
    "send": ["send", "order-paid", "-", "--bootstrap"],
    "simulate": ["simulate", "-", "--policy", "douyin-first-scan"],
    "demo": ["demo", "--yes", "--bootstrap"],
}


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a broker that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def first_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a command as the first process of a PID namespace; give it and its process id."""
    with subprocess.Popen(
        [*_FIRST, sys.executable, "-m", "streams", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        pid = process.pid
        if _FIRST:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not (found := children.read_text().split()):
                time.sleep(0.001)
            pid = int(found[0])
        try:
            yield process, pid
        finally:
            process.kill()


def has_handler(pid: int, number: signal.Signals) -> bool:
    """Look whether a process catches a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
def test_sigterm_ends_a_first_process_at_any_time(silent: str, name: str, after_s: float) -> None:
    """From the moment it has a handler on: there is no later gap in which the signal is lost."""
    address = [silent] if COMMANDS[name][-1] == "--bootstrap" else []
    with first_process(*COMMANDS[name], *address) as (process, pid):
        while not has_handler(pid, signal.SIGTERM):
            time.sleep(0.001)
        time.sleep(after_s)
        os.kill(pid, signal.SIGTERM)
        # An end of its input would end some of them too.
        process.wait(_PATIENCE_S)
        assert process.returncode in (0, 130, 143, -signal.SIGTERM)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_stand_before_anything_heavy_is_imported(number: signal.Signals) -> None:
    """The command line's own modules are not loaded when both signals are caught already."""
    code = (
        "import sys, streams.cli, streams.cli.interrupt as it; it.end_at_once();"
        "sys.stdout.write(' '.join(sys.modules))"
    )
    names = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in names if name.startswith("streams")} == {
        "streams", "streams.cli", "streams.cli.interrupt",
    }  # fmt: skip
    assert not {"typer", "msgspec", "rich", "asyncio", "logging"} & set(names)
    with first_process("worker", "--bootstrap", "127.0.0.1:1") as (process, pid):
        while not has_handler(pid, signal.SIGTERM):
            time.sleep(0.001)
        os.kill(pid, number)
        process.wait(_PATIENCE_S)
        assert process.stderr is not None
        assert process.stderr.read() == ""
