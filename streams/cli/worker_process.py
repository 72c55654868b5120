"""What `shipclock worker` becomes: the parser of its command line is not kept while it works.

Run: python -m streams.cli.worker_process WORKERS, with settings and policy, pickled, on standard
input.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from streams.cli import main
from streams.cli.ends import told
from streams.runtime import logs


def load() -> Callable[[], int]:
    """Bring what one worker needs, or what the supervisor of several needs, which is little."""
    workers, job = int(sys.argv[1]), sys.stdin.buffer.read()
    logs.setup()
    if workers > 1:
        from streams.runtime.supervise import supervise

        return partial(told, partial(supervise, job, workers))
    import pickle

    from streams.runtime.app import run_worker

    return partial(told, partial(run_worker, *pickle.loads(job)))  # noqa: S301 - we wrote it


if __name__ == "__main__":
    main(load)
