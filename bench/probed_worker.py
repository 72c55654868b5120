"""A worker that notes how long its garbage collections took.

Run: python bench/probed_worker.py FILE [OPTIONS]      those of tuned_worker.py
On SIGUSR1 it collects all generations at once and writes both to FILE: the longest collection it
made by itself (`longest_ms`), and this one (`full_ms`).
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from pathlib import Path


class Pauses:
    """The garbage collector's pauses in this process, in milliseconds."""

    def __init__(self) -> None:
        self.longest_ms = 0.0
        self.full_ms = 0.0
        """Of the last one over all generations."""
        self._began_ns = 0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = time.perf_counter_ns()
            return
        took_ms = round((time.perf_counter_ns() - self._began_ns) / 1e6, 1)
        self.longest_ms = max(self.longest_ms, took_ms)
        if info["generation"] == 2:
            self.full_ms = took_ms

    def collected(self) -> dict[str, float]:
        """Collect everything; return the longest pause up to now, and this one."""
        longest_ms = self.longest_ms
        gc.collect()
        return {"longest_ms": longest_ms, "full_ms": self.full_ms}


def main() -> None:
    """Run the command line after the file's name."""
    path = Path(sys.argv.pop(1))
    # Imports make garbage before there is anybody to wait for its collection.
    from tuned_worker import main as run

    pauses = Pauses()
    signal.signal(signal.SIGUSR1, lambda *_: path.write_text(json.dumps(pauses.collected())))
    run()


if __name__ == "__main__":
    main()
