"""A real worker process under the demo's clock."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.core.policy import Policy
from streams.demo.errors import DemoError
from streams.runtime import logs
from streams.runtime.app import run_worker
from streams.runtime.errors import WorkerError
from streams.runtime.settings import Settings

# A worker ends itself within 4.5 s.
_STOP_SECONDS_MAX = 5.5


class Worker:
    """Runs what `shipclock worker` runs, in a process that ends with this one."""

    def __init__(self, settings: Settings, policy: Policy, log_path: Path) -> None:
        self._arguments = (settings, policy, log_path)
        self._log_path = log_path
        self._process: BaseProcess | None = None

    def __enter__(self) -> Self:
        # A fresh interpreter: a forked child would share sockets. It inherits that Ctrl-C is
        # ignored: ending it is our part.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = multiprocessing.get_context("spawn").Process(
                target=_work, args=self._arguments, name="demo-worker", daemon=True
            )
            process.start()
            self._process = process
        finally:
            signal.signal(signal.SIGINT, before)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join(_STOP_SECONDS_MAX)
            self._process.kill()
            self._process.join()

    def require_alive(self) -> None:
        """Raise DemoError if the worker has ended."""
        if self._process is not None and not self._process.is_alive():
            raise DemoError(f"the worker has ended: {self.last_words()}")

    def last_words(self) -> str:
        """Return the last warning or error of its log, or the last line."""
        try:
            lines = self._log_path.read_text(errors="replace").split("\n")
        except FileNotFoundError:
            return "it has written no log"
        lines = [line for line in lines if line.strip()]
        grave = [line for line in lines if " WARN " in line or " ERROR " in line]
        return (grave or lines or ["its log is empty"])[-1]


def _work(settings: Settings, policy: Policy, log_path: Path) -> None:
    # Signals for the terminal's group are not for this process.
    os.setsid()
    with log_path.open("w") as log:
        sys.stdout = sys.stderr = log
        logs.setup()
        try:
            run_worker(settings, policy)
        except WorkerError as error:
            log.write(f" ERROR {error.message}\n")
            sys.exit(1)
