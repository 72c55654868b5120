"""What the integration tests share: whether processes that should have ended have done so."""

import time
from collections.abc import Iterable

import psutil


def still_running(processes: Iterable[psutil.Process], patience_s: float) -> list[psutil.Process]:
    """Wait until all have ended, but not for longer than that; return those that have not.

    A zombie has ended: an orphan stays one until the machine's first process gets round to it. But
    one of which only the first thread has ended still holds its files and locks.
    """
    give_up_s = time.monotonic() + patience_s
    while (alive := [each for each in processes if _runs(each)]) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return process.is_running() and not ended
    except psutil.NoSuchProcess:
        return False
