"""Several worker processes: start them, restart a dead one, stop them together."""

from __future__ import annotations

import logging
import signal
import sys
import time
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from streams.core.policy import Policy
from streams.runtime import logs
from streams.runtime.app import run_worker
from streams.runtime.child import start_child
from streams.runtime.errors import WorkerError
from streams.runtime.settings import Settings

log = logging.getLogger(__name__)

# Not 1, which is what any uncaught exception ends a process with.
_REFUSED = 78
_POLL_S = 0.2
_RESTART_S_MIN, _RESTART_S_MAX = 1.0, 30.0
# A worker that lived this long had no standing problem.
_HEALTHY_S = 60.0
_STOP_SECONDS_MAX = 4.8


class _Child:
    """One worker process and when it may start again."""

    def __init__(self, index: int, settings: Settings, policy: Policy) -> None:
        self.index = index
        if settings.metrics_port is not None:
            settings = replace(settings, metrics_port=settings.metrics_port + index)
        self._arguments = (index, settings, policy)
        self._restart_s = _RESTART_S_MIN
        self.process: SpawnProcess | None = None
        self.start_at_s = 0.0

    def start(self) -> None:
        self.started_s = time.monotonic()
        self.process = start_child(_child_main, self._arguments)

    def ended(self) -> int | None:
        """Return the exit code if the process has ended, and plan its restart."""
        process = self.process
        if process is None or process.exitcode is None:
            return None
        self.process = None
        now_s = time.monotonic()
        if now_s - self.started_s > _HEALTHY_S:
            self._restart_s = _RESTART_S_MIN
        self.start_at_s = now_s + self._restart_s
        self._restart_s = min(2 * self._restart_s, _RESTART_S_MAX)
        return process.exitcode


def supervise(settings: Settings, policy: Policy, workers: int) -> None:
    """Keep this many worker processes running until SIGTERM or SIGINT.

    The group shares the partitions among them. Raises WorkerError if a worker cannot work at all;
    one that crashes is started again.
    """
    stopping: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stopping.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    children = [_Child(index, settings, policy) for index in range(workers)]
    try:
        while not stopping:
            for child in children:
                if child.process is None and time.monotonic() >= child.start_at_s:
                    child.start()
            wait([child.process.sentinel for child in children if child.process], _POLL_S)
            for child in children:
                code = child.ended()
                if code == _REFUSED:
                    raise WorkerError(f"worker {child.index} cannot work", hint="see its log above")
                if code is not None and not stopping:
                    logs.warn(log, "worker-died", worker=child.index, exit_code=code,
                              restart_s=max(0.0, child.start_at_s - time.monotonic()))  # fmt: skip
    finally:
        _stop([child.process for child in children if child.process])


def _stop(processes: list[SpawnProcess]) -> None:
    for process in processes:
        process.terminate()
    give_up_s = time.monotonic() + _STOP_SECONDS_MAX
    for process in processes:
        process.join(max(0.0, give_up_s - time.monotonic()))
        if process.exitcode is None:
            process.kill()


def _child_main(index: int, settings: Settings, policy: Policy) -> None:
    logs.setup(worker=index)
    try:
        run_worker(settings, policy)
    except WorkerError as exc:
        logs.error(log, "cannot-work", detail=exc.message, hint=exc.hint or "")
        sys.exit(_REFUSED)
