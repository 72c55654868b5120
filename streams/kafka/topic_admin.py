"""The topics on a broker: create the missing ones, compare the others with their files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidReplicationFactorError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from streams.core.words import counted
from streams.kafka.acls import Acl, Operation, hidden_topics
from streams.kafka.connection import Connection
from streams.kafka.errors import clear_errors
from streams.kafka.waiting import close_quietly
from streams.topics.catalog import TopicFile, TopicsError, load_topics

# Long enough for a slow broker, short enough for a person who mistyped an address.
CONNECT_TIMEOUT_S = 8.0
_TIMEOUT_S = 60.0
# What was created has leaders within a second; a broker that restarts, within some more.
_READY_TIMEOUT_S = 30.0
_POLL_S = 0.05

CHECK_RIGHTS: tuple[Operation, ...] = ("Describe", "DescribeConfigs")
CREATE_RIGHTS: tuple[Operation, ...] = ("Create", *CHECK_RIGHTS)

_CREATE_HINTS = {
    InvalidReplicationFactorError: "give --replication-factor a number the cluster can hold",
    InvalidConfigurationError: "Apache Kafka 3.6 or newer is needed",
}


@dataclass(frozen=True, slots=True)
class BrokerTopic:
    """A topic as a broker has it: its partition count, and its settings by Kafka's names."""

    partitions: int
    config: Mapping[str, str]
    leaderless: tuple[int, ...] = ()
    """Partitions that nobody can write or read now."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic beside its file; `differences` are phrases for people, empty if there are none."""

    file: TopicFile
    status: Literal["created", "present", "missing"]
    differences: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the topic exists and is as its file says."""
        return self.status != "missing" and not self.differences


async def ensure_topics(
    connection: Connection,
    partitions: int | None = None,
    *,
    shop_partitions: int | None = None,
    replication_factor: int = -1,
) -> list[TopicState]:
    """Create the topics that are missing; existing ones are compared, never changed.

    On return every partition has a leader: all topics can be written and read.

    Args:
        connection: The cluster.
        partitions: The count of every topic that has several, instead of the files'.
        shop_partitions: The count of the shops stage's own two topics, instead of the above.
        replication_factor: -1 takes the broker's default.

    Raises:
        ClientError: The broker cannot be reached or refuses.
        TopicsError: A partition stays without a leader, or an existing topic has another partition
            count; in the last case nothing was created.
    """
    files = planned_topics(partitions, shop_partitions)
    async with _admin(connection, files, *CREATE_RIGHTS) as admin:
        present = await _describe(admin, files, connection.topic_prefix)
        refuse_uneven_groups(files, present)
        refuse_other_counts(files, present)
        missing = [file for file in files if file.topic not in present]
        created = set[str]()
        if missing:
            created = await _create(admin, missing, replication_factor, connection.topic_prefix)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while unready := _unready(files, present):
            if time.monotonic() > deadline:
                raise TopicsError(
                    f"no leader for {', '.join(unready)} after {_READY_TIMEOUT_S:.0f} s",
                    "see whether all brokers of the cluster are up",
                )
            await asyncio.sleep(_POLL_S)
            present = await _describe(admin, files, connection.topic_prefix)
        refuse_other_counts(files, present)
    return compare(files, present, created)


async def check_topics(
    connection: Connection, partitions: int | None = None, *, shop_partitions: int | None = None
) -> list[TopicState]:
    """Compare the topics on a broker with their files; arguments as for `ensure_topics`.

    Raises:
        ClientError: The broker cannot be reached or refuses.
        TopicsError: Co-partitioned topics have different
            partition counts.
    """
    files = planned_topics(partitions, shop_partitions)
    async with _admin(connection, files, *CHECK_RIGHTS) as admin:
        present = await _describe(admin, files, connection.topic_prefix)
    refuse_uneven_groups(files, present)
    return compare(files, present)


def planned_topics(
    partitions: int | None = None, shop_partitions: int | None = None
) -> list[TopicFile]:
    """Read the topic files and set the partition counts asked for.

    A topic of one partition keeps it: it has one because all its readers read all of it.
    """

    def count(file: TopicFile) -> int:
        if file.partitions == 1:
            return 1
        if file.co_partitioned == "shops" and shop_partitions is not None:
            return shop_partitions
        return partitions if partitions is not None else file.partitions

    return [msgspec.structs.replace(f, partitions=count(f)) for f in load_topics().values()]


def refuse_uneven_groups(files: Sequence[TopicFile], present: Mapping[str, BrokerTopic]) -> None:
    """Raise TopicsError if co-partitioned topics have different partition counts."""
    groups: dict[str, dict[str, int]] = {}
    for file in files:
        if file.co_partitioned is not None and file.topic in present:
            counts = groups.setdefault(file.co_partitioned, {})
            counts[file.topic] = present[file.topic].partitions
    for counts in groups.values():
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{topic} {count}" for topic, count in counts.items())
            raise TopicsError(
                f"co-partitioned topics have different partition counts: {listed}",
                "records with equal keys would not meet, so no worker starts; what the topics hold "
                'is whole, and judged on topics with equal counts: see "Other partition counts" in '
                "docs/operations.md",
            )


def refuse_other_counts(files: Sequence[TopicFile], present: Mapping[str, BrokerTopic]) -> None:
    """Raise TopicsError if an existing topic has another partition count than planned."""
    for file in files:
        topic = present.get(file.topic)
        if topic is not None and topic.partitions != file.partitions:
            raise TopicsError(
                f"topic {file.topic} exists with {counted(topic.partitions, 'partition')}, not "
                f"{file.partitions}",
                "give --partitions (and --shop-partitions) as they are: workers run with them; for "
                'other counts see "Other partition counts" in docs/operations.md',
            )


def compare(
    files: Sequence[TopicFile],
    present: Mapping[str, BrokerTopic],
    created: Collection[str] = (),
) -> list[TopicState]:
    """Put each topic beside its file."""
    return [_compare_one(file, present.get(file.topic), file.topic in created) for file in files]


def _compare_one(file: TopicFile, topic: BrokerTopic | None, created: bool) -> TopicState:
    if topic is None:
        return TopicState(file, "missing")
    differences = []
    if topic.partitions != file.partitions:
        differences.append(f"partitions is {topic.partitions}, not {file.partitions}")
    if topic.leaderless:
        count, numbers = len(topic.leaderless), ", ".join(map(str, topic.leaderless))
        differences.append(f"no leader for {counted(count, 'partition')}: {numbers}")
    for name, value in file.config.items():
        found = topic.config.get(name)
        if found != value:
            differences.append(f"{name} is {found}, not {value}")
    return TopicState(file, "created" if created else "present", tuple(differences))


async def _describe(
    admin: AIOKafkaAdminClient, files: Sequence[TopicFile], prefix: str
) -> dict[str, BrokerTopic]:
    """Describe those of the topics that exist."""
    wanted = {file.topic for file in files}
    # All topics are listed: asking for one by name may create it.
    partitions = {
        topic["topic"]: topic["partitions"]
        for topic in await admin.describe_topics()
        if topic["topic"] in wanted and topic["partitions"]
    }
    if hidden := await hidden_topics(admin, {prefix + name for name in wanted - partitions.keys()}):
        raise TopicAuthorizationFailedError(hidden)
    if not partitions:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in partitions]
    found: dict[str, BrokerTopic] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            error = for_code(code)
            # The broker that answers this may not know yet what another one has listed.
            if error is UnknownTopicOrPartitionError:
                continue
            if error is TopicAuthorizationFailedError:
                raise TopicAuthorizationFailedError(prefix + name)
            if code:
                raise TopicsError(f"topic {name} cannot be described: {message or error.__name__}")
            listed = partitions[name]
            leaderless = sorted(p["partition"] for p in listed if p["leader"] < 0)
            config = {entry[0]: entry[1] for entry in entries}
            found[name] = BrokerTopic(len(listed), config, tuple(leaderless))
    return found


def _unready(files: Sequence[TopicFile], present: Mapping[str, BrokerTopic]) -> list[str]:
    """Names of the topics that cannot be used yet; a broker tells of new ones a moment later."""
    return [f.topic for f in files if f.topic not in present or present[f.topic].leaderless]


async def _create(
    admin: AIOKafkaAdminClient, files: Sequence[TopicFile], replication_factor: int, prefix: str
) -> set[str]:
    """Create topics; return the names of those that nobody else had created meanwhile."""
    # aiokafka takes -1 copies only beside an assignment of replicas, if an empty one.
    assignment: dict[int, list[int]] | None = {} if replication_factor == -1 else None
    new = [NewTopic(f.topic, f.partitions, replication_factor, assignment, f.config) for f in files]
    created: set[str] = set()
    response = await admin.create_topics(new)
    for name, code, message in response.topic_errors:
        error = for_code(code)
        if not code:
            created.add(name)
        elif error is TopicAuthorizationFailedError:
            raise TopicAuthorizationFailedError(prefix + name)
        # Another process may have been quicker; what it made is compared like any other.
        elif error is not TopicAlreadyExistsError:
            raise TopicsError(
                f"topic {name} was not created: {message or error.__name__}",
                _CREATE_HINTS.get(error),
            )
    return created


@asynccontextmanager
async def _admin(
    connection: Connection, files: Sequence[TopicFile], *operations: Operation
) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect, and turn everything a person can cause into one clear line."""
    prefix = connection.topic_prefix
    needs = [Acl("topic", prefix + file.topic, each) for file in files for each in operations]
    async with clear_errors(connection, needs):
        admin = connection.admin()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await admin.start()
            async with asyncio.timeout(_TIMEOUT_S):
                yield admin
        finally:
            await close_quietly(admin.close, admin)
