"""A worker process that another one of ours watches.

Run: python -m streams.runtime.supervised INDEX, with settings and policy, pickled, on standard
input, which whoever started it keeps open for as long as it lives.
"""

from __future__ import annotations

import logging
import pickle
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from streams.runtime import logs
from streams.runtime.supervise import REFUSED

if TYPE_CHECKING:
    from streams.core.rules.book import Rulebook
    from streams.runtime.settings import Settings

# By its name, though it runs as the main module.
log = logging.getLogger("streams.runtime.supervised")


def main() -> None:
    """Work until told to stop, or until whoever started us is gone."""
    index = int(sys.argv[1])
    logs.setup(worker=index)
    settings: Settings
    rulebook: Rulebook
    settings, rulebook = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own supervisor wrote it
    if settings.metrics_port is not None:
        settings = replace(settings, metrics_port=settings.metrics_port + index)
    if settings.group_instance_id is not None:
        # Two members of one name would push each other out of the group for ever.
        settings = replace(settings, group_instance_id=f"{settings.group_instance_id}-{index}")
    from streams.runtime.app import run_worker
    from streams.runtime.errors import WorkerError

    try:
        run_worker(settings, rulebook, parent=sys.stdin.fileno())
    except WorkerError as exc:
        logs.error(log, "cannot-work", detail=exc.message, hint=exc.hint or "")
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
