"""Several worker processes: start them, restart a dead one, stop them together.

It waits for as long as they work, so it imports nothing of what they need.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from types import FrameType

from streams.core.errors import UserError
from streams.runtime import fresh, logs

log = logging.getLogger(__name__)

# Not 1, which is what any uncaught exception ends a process with.
REFUSED = 78
_POLL_S = 0.2
_RESTART_S_MIN, _RESTART_S_MAX = 1.0, 30.0
# A worker that lived this long had no standing problem.
_HEALTHY_S = 60.0
_STOP_SECONDS_MAX = 4.8


class _Child:
    """One worker process and when it may start again."""

    def __init__(self, index: int, job: bytes) -> None:
        self.index = index
        self._job = job
        self._restart_s = _RESTART_S_MIN
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at_s = 0.0

    def start(self) -> None:
        self.started_s = time.monotonic()
        # Its end stays open, and so tells the worker when we are gone.
        reading, self._alive = os.pipe()
        self.process = subprocess.Popen(
            fresh.command("streams.runtime.supervised", self.index),
            stdin=reading,
            env=fresh.environment(),
        )
        os.close(reading)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._alive, self._job)

    def ended(self) -> int | None:
        """Return the exit code if the process has ended, and plan its restart."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return None
        self.process = None
        os.close(self._alive)
        now_s = time.monotonic()
        if now_s - self.started_s > _HEALTHY_S:
            self._restart_s = _RESTART_S_MIN
        self.start_at_s = now_s + self._restart_s
        self._restart_s = min(2 * self._restart_s, _RESTART_S_MAX)
        return code


def supervise(job: bytes, workers: int) -> None:
    """Keep this many worker processes running until SIGTERM or SIGINT.

    The group shares the partitions among them; one that crashes is started again.

    Args:
        job: Settings and policy, pickled: only the workers can read what they mean.

    Raises:
        UserError: A worker cannot work at all.
    """
    stopping: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stopping.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    children = [_Child(index, job) for index in range(workers)]
    try:
        while not stopping:
            for child in children:
                if child.process is None and time.monotonic() >= child.start_at_s:
                    child.start()
            time.sleep(_POLL_S)
            for child in children:
                code = child.ended()
                if code == REFUSED:
                    raise UserError(f"worker {child.index} cannot work", "see its log above")
                if code is not None and not stopping:
                    logs.warn(log, "worker-died", worker=child.index, exit_code=code,
                              restart_s=max(0.0, child.start_at_s - time.monotonic()))  # fmt: skip
    finally:
        _stop([child.process for child in children if child.process])


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    give_up_s = time.monotonic() + _STOP_SECONDS_MAX
    for process in processes:
        try:
            process.wait(max(0.0, give_up_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
