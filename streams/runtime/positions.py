"""Where the owner of a partition begins to read: changelog, group and topics must agree."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiokafka import TopicPartition

from streams.runtime.errors import PartitionRefused, TopicCreatedAnew
from streams.runtime.inputs import Inputs
from streams.runtime.logs import error
from streams.runtime.stage import Stage, Task

log = logging.getLogger(__name__)


class Positions:
    """A partition's offsets in the inputs, known from one life to the next."""

    def __init__(self, stage: Stage, inputs: Inputs, number: int) -> None:
        self._stage = stage
        self._inputs = inputs
        self._number = number
        self._begun: dict[str, int] = {}
        """Where this owner began to read last."""
        self._read_to: dict[str, int] = {}
        """Up to where it had read when it last gave up."""

    def gave_up(self, read_to: Mapping[str, int]) -> None:
        """Note up to where a life had read when it ended."""
        self._read_to = dict(read_to)

    async def committed(self) -> dict[TopicPartition, int]:
        """Ask for the group's committed offsets of the partition."""
        return await self._inputs.committed(self.places())

    def places(self) -> list[TopicPartition]:
        """Return the partition of each input."""
        return [TopicPartition(topic, self._number) for topic in self._stage.inputs]

    async def check(self, task: Task, decided_to: int) -> dict[str, int]:
        """Compare what the restored task says with the group and the topics.

        Args:
            decided_to: Up to which offset the changelog could be read.

        Returns:
            For each input the offset to read from.

        Raises:
            PartitionRefused: They do not fit together.
        """
        tps, own = self.places(), TopicPartition(self._stage.changelog, self._number)
        mine = {tp: task.next_offsets.get(tp.topic, 0) for tp in tps}
        committed, begins, ends = await asyncio.gather(
            self._inputs.committed(tps),
            self._inputs.beginning_offsets(tps),
            self._inputs.end_offsets([*tps, own]),
        )
        if committed and ends[own] != decided_to:
            raise PartitionRefused(
                f"{own.topic}[{own.partition}] is undecided from offset {decided_to} on: somebody "
                "else's transaction hides what was committed there since",
                "end it, or wait until the broker does",
            )
        for tp, offset in mine.items():
            name = f"{tp.topic}[{tp.partition}]"
            if committed.get(tp, offset) != offset:
                raise PartitionRefused(
                    f"the changelog {self._stage.changelog} says {name} was processed up to "
                    f"offset {offset}, the group {self._inputs.group_id} says {committed[tp]}; "
                    "one of the two was reset or is incomplete"
                )
            read_to = max(offset, self._read_to.get(tp.topic, 0))
            if read_to > ends[tp]:
                raise TopicCreatedAnew(
                    f"{name} was read up to offset {read_to} but ends at {ends[tp]}: "
                    "the topic was created anew, or its broker lost data"
                )
            if offset and committed and tp not in committed:
                raise TopicCreatedAnew(
                    f"the changelog says {name} was processed up to offset {offset}, but the group "
                    f"{self._inputs.group_id} has forgotten it: the topic was created anew"
                )
            first = max(offset, self._begun.get(tp.topic, 0))
            if first < begins[tp] and (offset or tp.topic in self._begun):
                error(log, "records-lost", topic=tp.topic, partition=tp.partition,
                      first=first, last=begins[tp] - 1,
                      detail="retention deleted them before they were processed")  # fmt: skip
        self._begun = {tp.topic: max(offset, begins[tp]) for tp, offset in mine.items()}
        return self._begun
