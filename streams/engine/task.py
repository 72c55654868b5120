"""What the tasks of both stages have in common: how work becomes checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from streams.engine.records import Checkpoint


class PartitionTask(ABC):
    """One partition of a stage, from offered records to checkpoints.

    Once `work` has begun the memory is ahead of the log: commit the next checkpoint, or drop the
    task.
    """

    marked_ms = -1
    """How far the last checkpoint that marked said the partition had come; -1: not known."""

    topic_ids: Mapping[str, str]
    """Id of each input topic whose records were processed, as far as it is known."""

    @abstractmethod
    def adopt(self, offsets: Mapping[str, int], topic_ids: Mapping[str, str]) -> None:
        """Take what the runtime found about the inputs; the next checkpoint commits all of it.

        Args:
            offsets: First offset not processed yet, for every input topic.
            topic_ids: Replace those of the last checkpoint.
        """

    @property
    @abstractmethod
    def states(self) -> int:
        """How many states the task keeps."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Outputs and states that wait for the next checkpoint."""

    @property
    @abstractmethod
    def waits_for_ms(self) -> int:
        """The first instant at which something is to be done that is known now.

        `work` does it once the inputs are complete beyond it; `END_OF_TIME_MS` if nothing waits.
        """

    @property
    @abstractmethod
    def mark_ms(self) -> int:
        """How far the partition has come, as a checkpoint that marks says it."""

    @abstractmethod
    def complete(self, topic: str, as_of_ms: int) -> None:
        """Note that a topic has been read to the end it had at an instant of its time."""

    @abstractmethod
    def work(self, outputs_max: int) -> bool:
        """Process some of what lies below the frontier, at most about so many outputs of it.

        Returns:
            Whether more can be done without further input.
        """

    @abstractmethod
    def checkpoint(self, mark: bool) -> Checkpoint | None:
        """Gather what was done since the last checkpoint; `None` if there is nothing to commit.

        Args:
            mark: Say how far the partition has come, even if nothing else is to be said.
        """

    def step(self, outputs_max: int, mark: bool) -> Checkpoint | None:
        """Work until about so much waits to be committed, or nothing more can be done."""
        while self.work(outputs_max) and self.pending < outputs_max:
            pass
        return self.checkpoint(mark)
