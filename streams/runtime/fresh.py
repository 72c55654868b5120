"""Fresh interpreters for workers, which then hold nothing of the program that asked for them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import IO, NoReturn


def become(module: str, *arguments: object, stdin: bytes) -> NoReturn:
    """Run a module in place of this program, with the same process id.

    Ctrl-C and SIGTERM wait until the module unblocks them: an interpreter that starts would print
    a traceback at the one, and as the first process of a container lose the other.

    Raises:
        OSError: It cannot be run, or `stdin` does not fit into a pipe.
    """
    reading, writing = os.pipe()
    # Nobody reads yet: what does not fit must not be waited for.
    os.set_blocking(writing, False)
    if os.write(writing, stdin) < len(stdin):
        raise OSError("the policy is too large")
    os.dup2(reading, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    os.execve(sys.executable, _command(module, *arguments), _environment())


class Child:
    """A module of ours in an interpreter of its own.

    It hears of our end as the end of its standard input. Ctrl-C, which a terminal sends to all
    processes of a command, does not reach it: we have to end it anyway.

    Args:
        stdin: What it reads first.
        output: Where it writes, instead of where we do.
    """

    def __init__(
        self, module: str, *arguments: object, stdin: bytes, output: IO[str] | None = None
    ) -> None:
        reading, self._alive = os.pipe()
        # It inherits the signal blocked; we still hear, afterwards, what comes meanwhile.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                _command(module, *arguments), stdin=reading, stdout=output, stderr=output,
                env=_environment(),
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reading)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._alive, stdin)

    @property
    def exit_code(self) -> int | None:
        """How it ended; `None` while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, and end it if that takes too long."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._alive)


def _command(module: str, *arguments: object) -> list[str]:
    # -P: what lies in the current folder is no module of ours.
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def _environment() -> dict[str, str]:
    """Return our environment, in which a fresh interpreter finds modules where this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
