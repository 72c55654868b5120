"""One broker per data folder: a lock file that its processes hold for as long as they live.

The lock is a `flock` on an open file that the broker's processes inherit. The kernel drops it with
the last of them, however they end, so a lock file left behind is never in anyone's way.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

LOCK_FILE = "broker.lock"


class Holder(NamedTuple):
    """Who holds the lock; the pid is 0 and the bootstrap empty while it is still starting."""

    pid: int
    bootstrap: str


def acquire(data_dir: Path, patience_seconds: float = 0.5) -> int | None:
    """Take the lock and return its file descriptor; None if another broker keeps it."""
    descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    give_up = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A glance by `holder` also holds it, for an instant.
            if time.monotonic() > give_up:
                os.close(descriptor)
                return None
            time.sleep(0.05)
        else:
            os.ftruncate(descriptor, 0)
            return descriptor


def holder(data_dir: Path) -> Holder | None:
    """Return who holds the lock of this data folder, None if nobody does."""
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        try:
            content = json.loads(file.read())
            return Holder(int(content["pid"]), str(content["bootstrap"]))
        except (ValueError, KeyError, TypeError):
            return Holder(0, "")
