"""`shipclock topics` on a real broker: created once, compared ever after, never changed."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from typer.testing import CliRunner

from streams.cli.topics import app
from streams.core.errors import UserError
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import (
    BrokerTopic,
    check_topics,
    compare,
    ensure_topics,
    planned_topics,
)
from streams.topics import TopicsError
from tests.integration.topics import TOPICS, create_topics, delete_topics

pytestmark = pytest.mark.kafka


@pytest.fixture
async def admin(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give a client of a broker that has none of our topics, and leave none behind."""
    client = AIOKafkaAdminClient(bootstrap_servers=broker)
    await client.start()
    await delete_topics(client)
    yield client
    await delete_topics(client)
    await client.close()


async def test_creating_twice_creates_once(broker: str, admin: AIOKafkaAdminClient) -> None:
    """The first run creates every topic as described, the second finds them so."""
    missing = await check_topics(Connection(broker), 3, shop_partitions=2)
    assert {state.status for state in missing} == {"missing"}
    created = await ensure_topics(Connection(broker), 3, shop_partitions=2)
    assert {state.status for state in created} == {"created"}
    again = await ensure_topics(Connection(broker), 3, shop_partitions=2)
    assert {state.status for state in again} == {"present"}
    assert all(state.agrees for state in [*created, *again])
    counts = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics()}
    others = {"shop-violations": 2, "shops-changelog": 2, "frontier-marks": 1, "resent-letters": 1}
    assert {topic: counts[topic] for topic in TOPICS} == dict.fromkeys(TOPICS, 3) | others


async def test_several_may_create_at_once(broker: str, admin: AIOKafkaAdminClient) -> None:
    """Workers that start together do not trip over each other; each topic is made by one."""
    results = await asyncio.gather(*(ensure_topics(Connection(broker), 1) for _ in range(3)))
    states = [state for states in results for state in states]
    assert all(state.agrees for state in states)
    created = [state.file.topic for state in states if state.status == "created"]
    assert sorted(created) == sorted(TOPICS)


async def test_uneven_topics_are_refused_and_nothing_is_created(
    broker: str, admin: AIOKafkaAdminClient
) -> None:
    """Co-partitioned topics with different counts stop both commands, before anything is made."""
    await create_topics(admin, NewTopic("order-paid", 4, 1), NewTopic("first-scan", 2, 1))
    expected = r"different partition counts: first-scan 2, order-paid 4$"
    with pytest.raises(TopicsError, match=expected):
        await ensure_topics(Connection(broker))
    with pytest.raises(TopicsError, match=expected):
        await check_topics(Connection(broker))
    assert sorted(set(TOPICS) & set(await admin.list_topics())) == ["first-scan", "order-paid"]


async def test_another_count_than_asked_for_is_refused(
    broker: str, admin: AIOKafkaAdminClient
) -> None:
    """Existing topics keep their count; asking for another is an error, not a silent no."""
    await ensure_topics(Connection(broker), 2)
    with pytest.raises(TopicsError, match="exists with 2 partitions, not 3"):
        await ensure_topics(Connection(broker), 3)
    states = await check_topics(Connection(broker), 3)
    agreeing = [s.file.topic for s in states if not s.differences]
    assert agreeing == ["frontier-marks", "resent-letters"]


async def test_drifted_settings_are_told_and_left(broker: str, admin: AIOKafkaAdminClient) -> None:
    """A topic somebody made by hand is compared setting by setting; the others are created."""
    by_hand = NewTopic("timeout", 1, 1, topic_configs={"retention.ms": "604800000"})
    await create_topics(admin, by_hand)
    for states in (
        await ensure_topics(Connection(broker), 1),
        await check_topics(Connection(broker), 1),
    ):
        (different,) = [state for state in states if not state.agrees]
        assert different.file.topic == "timeout"
        assert different.status == "present"
        assert "retention.ms is 604800000, not -1" in different.differences


def test_a_partition_without_a_leader_is_a_difference() -> None:
    """A topic whose broker is away is there, but not as it should be; it is not missing."""
    files = planned_topics(3)
    broker = {file.topic: BrokerTopic(file.partitions, file.config) for file in files}
    broker["timeout"] = BrokerTopic(3, broker["timeout"].config, leaderless=(0, 2))
    (different,) = [state for state in compare(files, broker) if not state.agrees]
    assert (different.file.topic, different.status) == ("timeout", "present")
    assert different.differences == ("no leader for 2 partitions: 0, 2",)


async def test_more_copies_than_brokers_is_one_clear_line(
    broker: str, admin: AIOKafkaAdminClient
) -> None:
    """The broker's own reason is passed on, with what to do."""
    with pytest.raises(TopicsError, match=r"was not created: .*replication factor") as refused:
        await ensure_topics(Connection(broker), 1, replication_factor=3)
    assert refused.value.hint == "give --replication-factor a number the cluster can hold"


async def test_record_times_are_kept_or_stamped(broker: str, admin: AIOKafkaAdminClient) -> None:
    """Inputs keep any producer's time, decades old or far ahead; outputs carry that of writing."""
    await ensure_topics(Connection(broker), 1)
    before_ms = time.time_ns() // 1_000_000
    old_ms, ahead_ms = 946_656_000_000, before_ms + 400 * 86_400_000
    inputs, outputs = TopicPartition("first-scan", 0), TopicPartition("timeout", 0)
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        for topic in (inputs.topic, outputs.topic):
            for timestamp_ms in (old_ms, ahead_ms):
                await producer.send_and_wait(topic, b"{}", partition=0, timestamp_ms=timestamp_ms)
    found: dict[TopicPartition, list[int]] = {inputs: [], outputs: []}
    async with AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest") as consumer:
        consumer.assign([inputs, outputs])
        while sum(map(len, found.values())) < 4:
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                found[partition] += [record.timestamp for record in records]
    after_ms = time.time_ns() // 1_000_000
    assert found[inputs] == [old_ms, ahead_ms]
    assert all(before_ms <= timestamp <= after_ms for timestamp in found[outputs])


def test_the_command_shows_a_table_and_the_right_exit_code(
    broker: str, admin: AIOKafkaAdminClient
) -> None:
    """`check` fails before `create`, and succeeds after it, with every topic in the table."""

    def run(command: str) -> tuple[str, str | None]:
        result = CliRunner().invoke(app, [command, "--bootstrap", broker, "--partitions", "1"])
        if result.exit_code == 0:
            return result.output, None
        assert isinstance(result.exception, UserError)
        return result.output, result.exception.message

    assert run("check")[1] == f"{len(TOPICS)} of {len(TOPICS)} topics are missing"
    for command in ("create", "create", "check"):
        output, error = run(command)
        assert error is None
        assert all(topic in output for topic in TOPICS)
