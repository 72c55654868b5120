"""Where the owner of a partition begins to read: changelog, group and topics must agree."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from streams.runtime.errors import PartitionRefused, PositionLost, TopicRecreated
from streams.runtime.inputs import Inputs
from streams.runtime.reports import Reports
from streams.runtime.stage import Stage, Task


class _Gone(NamedTuple):
    """Why records that were read are not there any more: in words for all partitions, and here."""

    what: str
    at: str


class Positions:
    """A partition's offsets in the inputs, known from one life to the next.

    The changelog is the truth; the group's offsets repeat it for whoever looks at Kafka's tools.

    Args:
        accepted: Topics to be read on though they are not what they were, as `TOPIC=ID`.
    """

    def __init__(
        self, stage: Stage, inputs: Inputs, number: int, reports: Reports,
        accepted: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._stage = stage
        self._reports = reports
        self._inputs = inputs
        self._number = number
        self._accepted = accepted
        self._begun: dict[str, int] = {}
        """Where this owner began to read last."""
        self._read_to: dict[str, int] = {}
        """Up to where it had read when it last gave up."""
        self._ended: dict[str, int] = {}
        """Where a topic was seen to end before what had been read of it."""

    def gave_up(self, read_to: Mapping[str, int]) -> None:
        """Note up to where a life had read when it ended."""
        self._read_to = dict(read_to)

    def shrunk(self, topic: str, end: int) -> None:
        """Note that a topic was seen to end before what had been read of it."""
        self._ended[topic] = end

    async def committed(self) -> dict[TopicPartition, int]:
        """Ask for the group's offsets of the partition; from 0 on if it has none."""
        places = self._places()
        return await self._inputs.committed(places) or dict.fromkeys(places, 0)

    def _places(self) -> list[TopicPartition]:
        return [TopicPartition(topic, self._number) for topic in self._stage.inputs]

    async def check(self, task: Task, decided_to: int) -> dict[str, int]:
        """Compare what the restored task says with the group and the topics.

        Where the group has other offsets, or none, the task's next checkpoint gives it these.

        Args:
            decided_to: Up to which offset the changelog could be read.

        Returns:
            For each input the offset to read from.

        Raises:
            PartitionRefused: They do not fit together.
            PositionLost: A topic is not there at the moment.
        """
        tps, own = self._places(), TopicPartition(self._stage.changelog, self._number)
        ids, committed, begins, ends = await asyncio.gather(
            self._inputs.topic_ids(),
            self._inputs.committed(tps),
            self._inputs.beginning_offsets(tps),
            self._inputs.end_offsets([*tps, own]),
        )
        if ends[own] != decided_to:
            raise PartitionRefused(
                f"the end of {own.topic} is undecided: somebody else's transaction hides what was "
                "committed there since",
                "end it, or wait until the broker does",
                f"{_name(own)} from offset {decided_to} on",
            )
        offsets = {}
        for tp in tps:
            offset = task.next_offsets.get(tp.topic, 0)
            known, found = task.topic_ids.get(tp.topic), ids.get(tp.topic)
            if known and not found:
                raise PositionLost(f"the broker does not list {tp.topic}")
            if gone := self._gone(tp, offset, known, found, ends[tp]):
                accept = f"{tp.topic}={found or 'none'}"
                if accept not in self._accepted:
                    raise TopicRecreated(gone.what, accept, gone.at)
                self._read_to.pop(tp.topic, None)
                self._ended.pop(tp.topic, None)
                offset = begins[tp]
                self._once("topic-accepted", at=f"{gone.at}, read from offset {offset}",
                           topic=tp.topic, detail=f"{gone.what}; it is read from its first record"
                           )  # fmt: skip
            else:
                self._check_group(tp, offset, committed.get(tp))
                self._report_lost(tp, offset, begins[tp])
            offsets[tp] = offset
        if forgotten := [tp.topic for tp in tps if offsets[tp] and tp not in committed]:
            self._once("group-offsets-lost", group=self._inputs.group_id,
                       topics="+".join(forgotten), detail="the group has no offsets here; they are "
                       "committed again from the changelog", hint="Kafka drops the offsets of a "
                       "group that was idle for offsets.retention.minutes")  # fmt: skip
        if committed != offsets or task.topic_ids != ids:
            task.adopt({tp.topic: offset for tp, offset in offsets.items()}, ids)
        self._begun = {tp.topic: max(offset, begins[tp]) for tp, offset in offsets.items()}
        return self._begun

    def _gone(
        self, tp: TopicPartition, offset: int, known: str | None, found: str | None, end: int
    ) -> _Gone | None:
        """Say why the records that were read are not those of the topic now; None if they are."""
        if known and known != found:
            if not offset and not self._read_to.get(tp.topic):
                # Another topic, of which nothing was processed: this one's records all come.
                return None
            return _Gone(
                f"{tp.topic} was deleted and created again: what was processed are records of "
                "another topic of this name",
                f"{_name(tp)} was processed up to offset {offset}",
            )
        read_to, cause = offset, "its broker lost data"
        if not known:
            # Without its id a topic is known by what a former life has seen of it.
            read_to = max(offset, self._read_to.get(tp.topic, 0))
            end = min(end, self._ended.get(tp.topic, end))
            cause = f"the topic was deleted and created again, or {cause}"
        if read_to > end:
            return _Gone(
                f"{tp.topic} ends before what was read of it: {cause}",
                f"{_name(tp)} was read up to offset {read_to} but ends at {end}",
            )
        return None

    def _check_group(self, tp: TopicPartition, offset: int, committed: int | None) -> None:
        """Compare an offset of the changelog with the group's.

        Raises:
            PartitionRefused: The group has come further: the changelog does not hold all.
        """
        if committed is None or committed == offset:
            return
        group, changelog = self._inputs.group_id, self._stage.changelog
        at = f"{_name(tp)} up to offset {offset} by the changelog, {committed} by the group"
        if committed < offset:
            self._once("group-offsets-behind", at=at, group=group, detail=f"the changelog "
                       f"{changelog} says more was processed than the group; it counts, and the "
                       "group is given its offsets")  # fmt: skip
            return
        raise PartitionRefused(
            f"the changelog {changelog} says less was processed than the group {group}: the "
            "changelog is incomplete, or the group's offsets were reset",
            "if they were reset, stop the workers and set each back to what its changelog says: "
            f"kafka-consumer-groups.sh --bootstrap-server BROKER --group {group} --topic "
            "TOPIC:PARTITION --reset-offsets --to-offset OFFSET --execute; if not, see "
            '"A changelog is incomplete" in docs/operations.md',
            at,
        )

    def _once(self, name: str, *, at: str = "", **fields: Any) -> None:
        self._reports.add_once(logging.WARNING, name, self._number, at=at, **fields)

    def _report_lost(self, tp: TopicPartition, offset: int, begin: int) -> None:
        """Log records that retention deleted before they were processed."""
        first = max(offset, self._begun.get(tp.topic, 0))
        if first < begin and (offset or tp.topic in self._begun):
            self._reports.add_once(
                logging.ERROR, "records-lost", self._number,
                at=f"{_name(tp)} offsets {first}-{begin - 1}", sums={"offsets": begin - first},
                topic=tp.topic, detail="retention deleted them before they were processed",
            )  # fmt: skip


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}[{tp.partition}]"
