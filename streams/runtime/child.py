"""Processes of ours beside the one that a person started."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context, resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any


def start_child(target: Callable[..., object], arguments: tuple[Any, ...]) -> SpawnProcess:
    """Start a process that its parent ends, with SIGTERM, and that Ctrl-C does not reach.

    A terminal sends Ctrl-C to all of a command's processes. The parent has to end this one anyway,
    and while it still imports it would tell of an interrupt at length.
    """
    # A fresh interpreter: a forked one would share sockets and the parent's threads.
    process = get_context("spawn").Process(target=target, args=arguments, daemon=True)
    # Python starts this helper of spawned processes with the first one, and unblocks SIGINT then.
    resource_tracker.ensure_running()
    # The child inherits it blocked; the parent still hears, afterwards, what comes meanwhile.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process
