"""A service whose one task must last as long as the worker does."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from streams.runtime.errors import WorkerError
from streams.runtime.frame import Service
from streams.runtime.logs import reason


class Lasting(Service):
    """Runs `_run` until the worker stops; should it end by itself, the worker ends with it.

    Args:
        what: What it is, for the line that tells of its end.
    """

    logger = logging.getLogger("mode")

    def __init__(self, what: str, on_fatal: Callable[[WorkerError], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._what = what
        self._on_fatal = on_fatal
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @abstractmethod
    async def _run(self) -> None:
        """Work until cancelled."""

    async def on_started(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name=self._what)
        self._task.add_done_callback(self._on_end)

    async def on_stop(self) -> None:
        """Stop working, and wait until that is done."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """End the worker: what this does would stand still for good, and nobody would know."""
        if self._stopping:
            return
        why = "cancelled by the client"
        if not task.cancelled():
            why = reason(task.exception() or RuntimeError("it returned"))
        self._on_fatal(
            WorkerError(
                f"{self._what} has ended: {why}",
                "start the worker again, and report it: this is a bug",
            )
        )
