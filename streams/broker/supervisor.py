"""Run the broker's Java process for exactly as long as somebody wants it.

This file is a script of its own, on the standard library alone, so that it starts at once and stays
small. Java must not outlive the program that started it, whatever becomes of that program:

- The supervisor reads a pipe from its parent. `T` asks for a graceful end, `K` for a kill; the end
  of the pipe means that the parent is gone. A fork of the parent may keep the pipe open, so the
  parent's pid is compared once a second too.
- Were the supervisor itself killed, Linux kills Java with it (PR_SET_PDEATHSIG, armed from the
  supervisor's only thread, since that signal follows the thread, not the process). Elsewhere
  Java stays behind in this one case.

A detached broker has no pipe; it ends by SIGTERM to the supervisor.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 20.0
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


def supervise(lock: int, bootstrap: str, watched: bool, command: list[str]) -> int:
    """Run the command until it ends or is asked to; return 0 if asked, else its exit code."""
    parent = os.getppid()
    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_out, False)
    signal.set_wakeup_fd(wake_out)
    for number in (signal.SIGCHLD, *ENDING_SIGNALS):
        signal.signal(number, lambda *_: None)

    supervisor = os.getpid()
    die_with_parent = None
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)

        def die_with_parent() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(1)

    java = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=(lock,),
        preexec_fn=die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
    )
    os.pwrite(lock, json.dumps({"pid": supervisor, "bootstrap": bootstrap}).encode(), 0)

    kill_at: float | None = None
    inputs = [wake_in, sys.stdin.fileno()] if watched else [wake_in]
    while java.poll() is None:
        readable, _, _ = select.select(inputs, [], [], 1.0)
        end = watched and os.getppid() != parent
        if wake_in in readable:
            end |= any(number in ENDING_SIGNALS for number in os.read(wake_in, 64))
        if sys.stdin.fileno() in readable:
            order = os.read(sys.stdin.fileno(), 1)
            if order == b"K":
                java.kill()
            elif not order:
                inputs = [wake_in]
            end = True
        if end and kill_at is None:
            java.terminate()
            kill_at = time.monotonic() + GRACE_SECONDS
        if kill_at is not None and time.monotonic() > kill_at:
            java.kill()
    return 0 if kill_at is not None else java.returncode % 256


if __name__ == "__main__":
    sys.exit(supervise(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "watched", sys.argv[4:]))
