"""A stage's input topics: one consumer group, and what must be asked besides reading."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from streams.engine.records import Columns
from streams.kafka.acls import hidden_topics
from streams.kafka.topic_ids import topic_ids
from streams.kafka.waiting import close_quietly, within
from streams.runtime.errors import WorkerError
from streams.runtime.lean import AsColumns, Unread, columns, lean, readable
from streams.runtime.logs import reason, warn
from streams.runtime.rules import Claim, Described, described
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage
from streams.runtime.unreadable import skips_group

log = logging.getLogger(__name__)

Records = dict[TopicPartition, Columns]

_LOADING_S = 0.2


class Fetched(NamedTuple):
    """What has arrived, and behind it the batches that cannot be read, at most one a partition."""

    records: Records
    unread: dict[TopicPartition, Unread]


class Inputs:
    """Three connections: the group's consumer, a second one that only asks for ends, and an admin.

    The second one reads uncommitted, so its ends include open transactions: a topic is read to its
    end only when nothing of it is still undecided.
    """

    def __init__(self, settings: Settings, stage: Stage) -> None:
        self._stage = stage
        self._connection = connection = settings.connection
        self.group_id = f"{settings.app_id}-{stage.name}"
        self._skips_group = skips_group(settings.app_id)
        self._fetch_wait_ms = settings.fetch_wait_ms
        self._mark = (
            AsColumns(connection.inflated_bytes_max, settings.idle_fetch_wait_ms)
            if lean()
            else None
        )
        self._answer_ms = settings.answer_limit_ms
        self._join_ms = settings.join_limit_ms
        self._fetch_ms = settings.fetch_limit_ms
        self._postponed: KafkaError | None = None
        """What the next fetch raises."""
        self._fetched_at: dict[TopicPartition, tuple[int | None, float]] = {}
        """When each topic partition was last fetched: the client's stamp, and since when it stands,
        in seconds."""
        common = {
            "client_id": self.group_id,
            "enable_auto_commit": False,
            "request_timeout_ms": settings.request_timeout_ms,
        }
        self._consumer = connection.consumer(
            group_id=self.group_id,
            group_instance_id=_instance_id(settings.group_instance_id, stage),
            value_deserializer=self._mark,
            # Where to read is ours to say: the client must not skip what was deleted.
            auto_offset_reset="none",
            isolation_level="read_committed",
            # Partition p of all inputs lands on one member, as all have the same count.
            partition_assignment_strategy=(stage.rules or RangePartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            metadata_max_age_ms=settings.metadata_max_age_ms,
            fetch_max_wait_ms=settings.fetch_wait_ms,
            fetch_max_bytes=settings.fetch_bytes_max,
            max_partition_fetch_bytes=settings.fetch_partition_bytes,
            **common,
        )
        self._ends = connection.consumer(
            group_id=None, isolation_level="read_uncommitted", **common
        )
        self._admin = connection.admin(
            client_id=self.group_id, request_timeout_ms=settings.request_timeout_ms
        )

    async def open(self) -> dict[str, int]:
        """Connect; return the partition count of each topic of the stage.

        Raises WorkerError if topics are missing or not co-partitioned, KafkaError without a broker.
        """
        async with within(self._answer_ms, "connecting and listing the topics"):
            await self._admin.start()
            counts = await self._partition_counts()
            await self._ends.start()
        return counts

    async def join(self, listener: ConsumerRebalanceListener) -> None:
        """Join the group; the listener is called before this returns.

        Raises WorkerError if live members judge by other rules, and this one is to change none.
        """
        if self._stage.rules is not None:
            self._compare_rules(self._stage.rules.claim, described(await self._members()))
        self._consumer.subscribe(list(self._stage.inputs), listener=listener)
        async with within(self._join_ms, f"joining the group {self.group_id}"):
            await self._consumer.start()

    async def _members(self) -> list[bytes]:
        """Ask for the subscriptions of the group's members."""
        try:
            async with within(self._answer_ms, f"the members of the group {self.group_id}"):
                answers = await self._admin.describe_consumer_groups([self.group_id])
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
            # As on a new cluster. Should there be members: the group's leader compares, too.
            return []
        return [member[3] for answer in answers for group in answer.groups for member in group[5]]

    def _compare_rules(self, ours: Claim, group: Described) -> None:
        if group.silent:
            warn(log, "older-workers", stage=self._stage.name, members=group.silent,
                 detail="they do not say by which rules they judge; see that they are the same"
                 )  # fmt: skip
        others = [claim for claim in group.claims if claim.digest != ours.digest]
        if others and not ours.changes:
            raise other_rules(ours, others[0], self.group_id)
        if others:
            warn(log, "policy-change", stage=self._stage.name, before=others[0], now=ours,
                 detail="the workers with the other rules end; each order known is judged by "
                 "the new rules at its next event or timer, and what they do not uphold is "
                 "revoked; orders that nothing touches keep what they have")  # fmt: skip

    @property
    def overruled(self) -> WorkerError | None:
        """Why the group gives this worker no partitions, if other rules prevail in it."""
        rules = self._stage.rules
        if rules is None or rules.overruled is None:
            return None
        return other_rules(rules.claim, rules.overruled, self.group_id)

    async def close(self) -> None:
        """Leave the group and disconnect, without waiting long for a broker that is away."""
        await asyncio.gather(
            close_quietly(self._consumer.stop, self._consumer),
            close_quietly(self._ends.stop, self._ends),
            close_quietly(self._admin.close, self._admin),
        )

    async def fetch(self) -> Fetched:
        """Return what has arrived; wait a little if nothing has.

        Raises OffsetOutOfRangeError, with the positions concerned as its argument, if the broker
        has not (any more) what comes next.
        """
        if self._mark is None:
            fetched = await self._fetch_each()
            if not fetched:
                await asyncio.sleep(self._fetch_wait_ms / 1000)
        else:
            self._mark.begin()
            try:
                async with within(self._join_ms, f"an assignment by the group {self.group_id}"):
                    fetched = await self._consumer.getmany(timeout_ms=self._fetch_wait_ms)
            except NoOffsetForPartitionError:
                # It looked for a committed offset before its owner had said from where to read.
                return Fetched({}, {})
        read, unread = readable(fetched)
        arrived = ((tp, columns(records)) for tp, records in read.items())
        return Fetched({tp: records for tp, records in arrived if records.offsets}, unread)

    async def _fetch_each(self) -> dict[TopicPartition, list[object]]:
        """Return what has arrived, asking for each partition by itself.

        For one batch that it cannot read the plain client raises, without what it has taken out
        of others by then, and does not say which batch it was.
        """
        fetched: dict[TopicPartition, list[object]] = {}
        if (error := self._postponed) is not None:
            self._postponed = None
            raise error
        for tp in sorted(self._consumer.assignment()):
            try:
                async with within(self._join_ms, f"an assignment by the group {self.group_id}"):
                    fetched |= await self._consumer.getmany(tp, timeout_ms=0)
            except NoOffsetForPartitionError:
                continue
            except (OffsetOutOfRangeError, KafkaTimeoutError) as exc:
                # First what was taken out already.
                self._postponed = exc
                return fetched
            except Exception as exc:  # noqa: BLE001 - whatever it is, it concerns this partition alone
                at = await self.position(tp)
                fetched[tp] = [Unread(at, at, 0, b"", reason(exc))]
        return fetched

    async def skips(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return, where a person has given one, the first offset of the batch to be skipped."""
        return await self._group_offsets(self._skips_group, tps)

    def pass_over(self, tp: TopicPartition, batch: Unread) -> None:
        """Read on behind a batch."""
        self._consumer.seek(tp, batch.last + 1)

    async def position(self, tp: TopicPartition) -> int:
        """Return the offset after the last one read, past transaction markers too."""
        async with within(self._answer_ms, f"the position in {tp.topic}[{tp.partition}]"):
            return int(await self._consumer.position(tp))

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask for the ends, open transactions included."""
        async with within(self._answer_ms, "the ends of the topics"):
            ends: dict[TopicPartition, int] = await self._ends.end_offsets(list(tps))
        return ends

    async def beginning_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask for the first offsets that retention has left."""
        async with within(self._answer_ms, "the beginnings of the topics"):
            begins: dict[TopicPartition, int] = await self._ends.beginning_offsets(list(tps))
        return begins

    async def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the group's committed offsets, without those it has not."""
        return await self._group_offsets(self.group_id, tps)

    async def _group_offsets(
        self, group_id: str, tps: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        asked = list(tps)
        async with within(self._answer_ms, f"the offsets of the group {group_id}"):
            while True:
                answer = await self._admin.list_consumer_group_offsets(group_id, partitions=asked)
                if answer.keys() >= set(asked):
                    return {tp: found.offset for tp, found in answer.items() if found.offset >= 0}
                # The client drops what a coordinator says that is still loading the group: its
                # answer is empty, and means nothing.
                await asyncio.sleep(_LOADING_S)

    async def topic_ids(self) -> dict[str, str]:
        """Ask for the id of each input topic that exists; nothing if the broker has no ids."""
        async with within(self._answer_ms, "the ids of the topics"):
            return await topic_ids(self._admin, self._stage.inputs, self._connection.topic_prefix)

    def seek(self, partition: int, offsets: Mapping[str, int]) -> None:
        """Read a partition of all topics on from these offsets."""
        for tp in self.owned(partition):
            self._consumer.seek(tp, offsets[tp.topic])

    def rest(self, partition: int, resting: Iterable[str]) -> None:
        """Read a partition of all topics but the resting ones."""
        for tp in self.owned(partition):
            if tp.topic in resting:
                self._consumer.pause(tp)
            else:
                self._consumer.resume(tp)

    def owned(self, partition: int) -> list[TopicPartition]:
        """Return the topic partitions of this number that are ours now."""
        assigned = self._consumer.assignment()
        tps = (TopicPartition(topic, partition) for topic in self._stage.inputs)
        return [tp for tp in tps if tp in assigned]

    def missing(self, partition: int) -> list[str]:
        """Return the input topics that have not, or no more, a partition of this number."""
        owned = {tp.topic for tp in self.owned(partition)}
        return [topic for topic in self._stage.inputs if topic not in owned]

    def check_fetching(self, now_s: float, answered: bool) -> None:
        """Raise KafkaError if the client has ceased to fetch.

        Its fetching ends without a word when something in it fails that it does not expect.

        Args:
            now_s: The time of a monotonic clock.
            answered: Whether the broker answers others; without that nobody fetches.
        """
        assigned, paused = self._consumer.assignment(), self._consumer.paused()
        before = self._fetched_at
        self._fetched_at = now = {}
        for tp in sorted(assigned - paused):
            stamp = self._consumer.last_poll_timestamp(tp)
            known, since_s = before.get(tp, (stamp, now_s))
            now[tp] = (stamp, now_s if stamp != known or not answered else since_s)
            if now_s - now[tp][1] > self._fetch_ms / 1000:
                raise KafkaError(
                    f"{tp.topic}[{tp.partition}] was not fetched for {self._fetch_ms / 1000:g} s "
                    "although the broker answers"
                )

    async def check_counts(self, before: Mapping[str, int]) -> None:
        """Compare the partition counts that decide where a key belongs with those at the start.

        Raises WorkerError if one has changed: facts of an order known here go elsewhere now.
        """
        async with within(self._answer_ms, "listing the topics"):
            counts = await self._listed()
        changed = [
            f"{topic} had {before[topic]} and has {counts[topic]}"
            for topic in (*self._stage.inputs, self._stage.changelog)
            if counts.get(topic, before[topic]) != before[topic]
        ]
        if changed:
            raise keys_moved(", ".join(changed))

    async def _listed(self) -> dict[str, int]:
        # All are listed: asking for one by name may create it.
        described = await self._admin.describe_topics()
        counts = {found["topic"]: len(found["partitions"]) for found in described}
        # One that is being deleted has none.
        return {topic: count for topic, count in counts.items() if count}

    async def _partition_counts(self) -> dict[str, int]:
        counts = await self._listed()
        missing = [topic for topic in self._stage.topics if topic not in counts]
        prefix = self._connection.topic_prefix
        if hidden := await hidden_topics(self._admin, [prefix + topic for topic in missing]):
            raise TopicAuthorizationFailedError(hidden)
        if missing:
            raise WorkerError(
                f"topics do not exist: {', '.join(missing)}"
                if len(missing) < len(self._stage.topics)
                else f"the cluster at {self._connection.bootstrap} has none of the worker's topics",
                hint="create them with: shipclock topics create",
            )
        together = (*self._stage.inputs, self._stage.changelog)
        if len({counts[topic] for topic in together}) > 1:
            listed = ", ".join(f"{topic} {counts[topic]}" for topic in together)
            raise WorkerError(
                f"the {self._stage.name} topics must have equal partition counts; "
                f"they have: {listed}",
                hint="compare with: shipclock topics check",
            )
        return {topic: counts[topic] for topic in self._stage.topics}


def _instance_id(given: str | None, stage: Stage) -> str | None:
    """Return a static member's name: by other rules it is another member.

    A member that comes back under its name gets its partitions without a rebalance, in which the
    rules would be compared.
    """
    if given is None or stage.rules is None:
        return given
    return f"{given}-{stage.rules.claim.digest[:8]}"


def other_rules(ours: Claim, theirs: Claim, group_id: str) -> WorkerError:
    """Say that two sets of rules must not judge side by side."""
    return WorkerError(
        f"live workers of the group {group_id} judge by {theirs}, this one by {ours}",
        hint="start all with the same policy; to change it, stop the others first, or start this "
        'one with --policy-change; see "Changing the rules" in docs/operations.md',
    )


def keys_moved(detail: str) -> WorkerError:
    """Say that a partition count has changed under a running worker."""
    return WorkerError(
        f"the inputs have other partitions than when this worker started: {detail}; keys go to "
        "other partitions than their state, so nothing more is judged",
        hint="see Partition counts in docs/operations.md",
    )
