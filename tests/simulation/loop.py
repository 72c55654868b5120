"""An event loop whose time is a number, and processes that can be frozen or killed in it."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from typing import Any


class Process:
    """All that one worker runs. Whatever it schedules carries its context, and stops with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.killed = False
        self.parked: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in order and, when there are none, jumps to the next timer.

    No callback of a frozen process is run before it is thawed, as if it had got SIGSTOP; a killed
    one is frozen for ever: no cleanup of it runs while the simulation lasts.
    """

    # Attributes of the base class that its type stubs leave out.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self.processes: list[Process] = []

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now_s

    def start(self, process: Process, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine, and whatever it starts, as a process."""
        self.processes.append(process)
        context = copy_context()
        context.run(PROCESS.set, process)
        self.create_task(coroutine, context=context)

    def freeze(self, process: Process) -> None:
        process.frozen = True

    def kill(self, process: Process) -> None:
        process.frozen = process.killed = True

    def thaw(self, process: Process) -> None:
        """Go on where the process was stopped."""
        process.frozen = False
        self._ready.extend(process.parked)
        process.parked.clear()

    def create_task(self, coroutine: Any, **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        """Make a task and keep it: a killed process's must not be collected amid the run."""
        task = super().create_task(coroutine, **options)
        context = options.get("context")
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks.append(task)
        return task

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready:
            if not scheduled:
                raise RuntimeError("nothing is left that could ever happen")
            self._now_s = max(self._now_s, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now_s:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer.cancelled():
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.cancelled():
                continue
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if process is not None and process.frozen:
                process.parked.append(handle)
                continue
            handle._run()

    def _write_to_self(self) -> None:
        """Nothing waits in a selector."""

    def _process_events(self, event_list: object) -> None:
        """No event comes from outside."""
