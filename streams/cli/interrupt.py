"""Ctrl-C ends the process on the spot, except amid work that tidies up after itself.

As an exception it would be told at length by an import and by the interpreter's end, or be lost:
what some of their callbacks raise is printed and forgotten.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


def end_at_once() -> None:
    """Let Ctrl-C end the process, also where a shell without job control has it ignored (`&`)."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    # What started us may have blocked it until now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def tidied_up() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt within the block; `asyncio.run` then cancels its task."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
