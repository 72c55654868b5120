"""Several worker processes: start them, restart a dead one, stop them together.

It waits for as long as they work, so it imports nothing of what they need.
"""

from __future__ import annotations

import logging
import signal
import time
from types import FrameType

from streams.core.errors import UserError
from streams.runtime import logs
from streams.runtime.fresh import Child

log = logging.getLogger(__name__)

# Not 1, which is what any uncaught exception ends a process with.
REFUSED = 78
_POLL_S = 0.2
_RESTART_S_MIN, _RESTART_S_MAX = 1.0, 30.0
# A worker that lived this long had no standing problem.
_HEALTHY_S = 60.0
_STOP_SECONDS_MAX = 4.8


class _Worker:
    """One worker process and when it may start again."""

    def __init__(self, index: int, job: bytes) -> None:
        self.index = index
        self._job = job
        self._restart_s = _RESTART_S_MIN
        self.child: Child | None = None
        self.start_at_s = 0.0

    def start(self) -> None:
        self.started_s = time.monotonic()
        self.child = Child("streams.runtime.supervised", self.index, stdin=self._job)

    def ended(self) -> int | None:
        """Return the exit code if the process has ended, and plan its restart."""
        child = self.child
        if child is None or (code := child.exit_code) is None:
            return None
        child.join(0)
        self.child = None
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
    processes = [_Worker(index, job) for index in range(workers)]
    try:
        while not stopping:
            for worker in processes:
                if worker.child is None and time.monotonic() >= worker.start_at_s:
                    worker.start()
            time.sleep(_POLL_S)
            for worker in processes:
                code = worker.ended()
                if code == REFUSED:
                    raise UserError(f"worker {worker.index} cannot work", "see its log above")
                if code is not None and not stopping:
                    logs.warn(log, "worker-died", worker=worker.index, exit_code=code,
                              restart_s=max(0.0, worker.start_at_s - time.monotonic())
                              )  # fmt: skip
    finally:
        _stop([worker.child for worker in processes if worker.child])


def _stop(children: list[Child]) -> None:
    for child in children:
        child.terminate()
    give_up_s = time.monotonic() + _STOP_SECONDS_MAX
    for child in children:
        child.join(max(0.0, give_up_s - time.monotonic()))
