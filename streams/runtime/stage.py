"""What the runtime knows of a stage: its topics and how to make a partition's task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from streams.engine.records import Checkpoint, Columns
from streams.runtime.rules import RulesAssignor


class Task(Protocol):
    """One partition's synchronous engine. See `streams.engine` for the verbs' meaning."""

    @property
    def next_offsets(self) -> Mapping[str, int]: ...

    @property
    def topic_ids(self) -> Mapping[str, str]: ...

    def adopt(self, offsets: Mapping[str, int], topic_ids: Mapping[str, str]) -> None: ...

    @property
    def frontier_ms(self) -> int: ...

    @property
    def states(self) -> int: ...

    @property
    def policy(self) -> str: ...

    @property
    def restored_policy(self) -> str | None: ...

    @property
    def policy_changed(self) -> bool: ...

    def restore(self, entries: Iterable[tuple[bytes, bytes | None]]) -> None: ...

    def restored(self) -> None: ...

    def offer(self, topic: str, records: Columns, now_ms: int) -> None: ...

    @property
    def pending(self) -> int: ...

    @property
    def waits_for_ms(self) -> int: ...

    @property
    def mark_ms(self) -> int: ...

    @property
    def marked_ms(self) -> int: ...

    def complete(self, topic: str, as_of_ms: int) -> None: ...

    def work(self, outputs_max: int) -> bool: ...

    def checkpoint(self, mark: bool) -> Checkpoint | None: ...


@runtime_checkable
class TimedTask(Task, Protocol):
    """A task whose records carry the time it goes by.

    It says its place in time: after a restore the source cannot know it.
    """

    @property
    def last_ms(self) -> Mapping[str, int]: ...

    def again(self) -> Checkpoint: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """One consumer group with its inputs (co-partitioned, by rank), outputs and changelog."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    changelog: str
    marked_by: str | None
    """An input of the stage before, whose partitions' marks are the time of this one; `None`: it
    goes by the clock."""
    new_task: Callable[[int, Mapping[str, int]], Task]
    """Make the task of a partition, given the partition count of every topic of the stage."""
    rules: RulesAssignor | None = None
    """By which rules this process judges, so that its group judges by no others."""

    @property
    def topics(self) -> tuple[str, ...]:
        marked_by = () if self.marked_by is None else (self.marked_by,)
        return (*self.inputs, *self.outputs, self.changelog, *marked_by)
