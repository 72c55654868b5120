"""Ctrl-C and SIGTERM end the process at once, except within work that tidies up after itself.

As an exception, a signal would end in a traceback of an import or of the interpreter's end, or be
lost: what some of their callbacks raise is printed and forgotten. Without a handler it would be
lost too where the process is the first of a container, for which the kernel ignores SIGTERM.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once() -> None:
    """Let the signals end the process, also where a shell without job control ignores Ctrl-C."""
    for number in SIGNALS:
        signal.signal(number, _exit)
    # What started us may have blocked them until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def tidied_up() -> Iterator[None]:
    """Let the signals raise KeyboardInterrupt within the block; `asyncio.run` cancels its task."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # By way of SIGINT, which `asyncio.run` turns into a cancellation.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _: FrameType | None) -> None:
    """End as the signal's default would, which a service manager takes for a good end."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    # The first process of a container cannot be ended by a default; Ctrl-C is 130 everywhere.
    os._exit(128 + number)
