"""What a start reports while a person waits."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """One step of a start; `total` is 0 while the amount of work is unknown."""

    step: str
    done: int
    total: int


ProgressListener = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Drop the report."""
