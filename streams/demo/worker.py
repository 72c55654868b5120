"""A real worker process under the demo's clock."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.core.rules.book import Rulebook
from streams.runtime.fresh import Child
from streams.runtime.settings import Settings

# A worker ends itself within 4.5 s.
_STOP_SECONDS_MAX = 5.5
_ENTRY = re.compile(r"^\d{4}-\d\d-\d\dT\S+ ", re.MULTILINE)


class Worker:
    """Runs what `shipclock worker` runs, in a process that ends with this one."""

    def __init__(self, settings: Settings, rulebook: Rulebook, log_path: Path) -> None:
        self._job = pickle.dumps((settings, rulebook))
        self._log_path = log_path
        self._child: Child | None = None

    def __enter__(self) -> Self:
        with self._log_path.open("w") as log:
            self._child = Child("streams.runtime.supervised", 0, stdin=self._job, output=log)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._child is not None:
            self._child.terminate()
            self._child.join(_STOP_SECONDS_MAX)

    @property
    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._child is not None and self._child.exit_code is None

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
