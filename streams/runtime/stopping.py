"""Ending a worker process in time, also when its event loop is busy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterator

from streams.runtime.logs import event

log = logging.getLogger(__name__)

_STOP_SECONDS_MAX = 4.5
_NEVER_MIND = b"\0"


@contextlib.contextmanager
def stopped_by_signals(stop: asyncio.Event, parent: int | None) -> Iterator[None]:
    """Set `stop` on SIGTERM, SIGINT or the parent's end; end the process if that is not enough.

    A thread of its own waits, since a loop within a long step notices nothing. A signal's
    handler only writes to a pipe: it may interrupt anything.

    Args:
        parent: Descriptor that becomes readable when the supervising process has ended.
    """
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def told(number: int, _: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, bytes((number,)))

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    watching = threading.Thread(
        target=_watch, args=(loop, stop, reading, parent), name="stop", daemon=True
    )
    watching.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, _NEVER_MIND)


def _watch(
    loop: asyncio.AbstractEventLoop, stop: asyncio.Event, reading: int, parent: int | None
) -> None:
    why = "the supervisor is gone"
    with selectors.DefaultSelector() as selector:
        for descriptor in (reading,) if parent is None else (reading, parent):
            selector.register(descriptor, selectors.EVENT_READ)
        ready = {key.fd for key, _ in selector.select()}
    if reading in ready:
        number = os.read(reading, 1)
        if number == _NEVER_MIND:
            return
        why = signal.Signals(number[0]).name
    event(log, "stopping", pid=os.getpid(), why=why)
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)
    time.sleep(_STOP_SECONDS_MAX)
    # Nothing is lost by a hard end: an open transaction is aborted by the next owner.
    os._exit(0)
