"""A real worker process under the demo's clock."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.core.policy import Policy
from streams.runtime import logs
from streams.runtime.app import run_worker
from streams.runtime.errors import WorkerError
from streams.runtime.settings import Settings

_log = logging.getLogger(__name__)

# A worker ends itself within 4.5 s.
_STOP_SECONDS_MAX = 5.5
_ENTRY = re.compile(r"^\d{4}-\d\d-\d\dT\S+ ", re.MULTILINE)


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

    @property
    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.is_alive()

    def last_words(self) -> str:
        """Return the last trouble that its log tells of, or else its last entry."""
        try:
            text = self._log_path.read_text(errors="replace")
        except FileNotFoundError:
            return "it has written no log"
        entries = [entry.strip() for entry in _ENTRY.split(text) if entry.strip()]
        troubles = [entry for entry in entries if not entry.startswith("INFO")]
        if not entries:
            return "its log is empty"
        first, *more = (troubles or entries)[-1].splitlines()
        # Of a traceback, the last line says what happened.
        return f"{first}: {more[-1]}" if more else first


def _work(settings: Settings, policy: Policy, log_path: Path) -> None:
    # Signals for the terminal's group are not for this process.
    os.setsid()
    with log_path.open("w") as log:
        sys.stdout = sys.stderr = log
        logs.setup()
        parent = multiprocessing.parent_process()
        try:
            run_worker(settings, policy, None if parent is None else parent.sentinel)
        except WorkerError as error:
            logs.error(_log, "cannot-work", detail=error.message)
            sys.exit(1)
