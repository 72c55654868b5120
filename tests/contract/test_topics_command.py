"""`shipclock topics` without a broker: comparisons, refusals, and addresses nobody answers."""

import logging
import socket
import time

import pytest
from typer.testing import CliRunner

from streams.cli.topics import app
from streams.core.errors import UserError
from streams.kafka import diagnosis
from streams.kafka import topic_admin as admin
from streams.kafka.connection import Connection
from streams.kafka.errors import ClientError
from streams.kafka.topic_admin import (
    BrokerTopic,
    check_topics,
    compare,
    planned_topics,
    refuse_other_counts,
    refuse_uneven_groups,
)
from streams.topics import TopicsError

FILES = planned_topics()
AS_DESCRIBED = {file.topic: BrokerTopic(file.partitions, file.config) for file in FILES}


def with_partitions(topic: str, count: int) -> dict[str, BrokerTopic]:
    """Describe a broker that is as it should be but for one partition count."""
    return AS_DESCRIBED | {topic: BrokerTopic(count, AS_DESCRIBED[topic].config)}


def test_topics_as_described_agree() -> None:
    """A broker that has what the files say is refused nothing."""
    refuse_uneven_groups(FILES, AS_DESCRIBED)
    refuse_other_counts(FILES, AS_DESCRIBED)
    assert all(state.agrees for state in compare(FILES, AS_DESCRIBED))


def test_settings_the_files_do_not_name_are_free() -> None:
    """An operator may set what the files leave open."""
    topic = AS_DESCRIBED["timeout"]
    config = {**topic.config, "compression.type": "zstd"}
    states = compare(FILES, AS_DESCRIBED | {"timeout": BrokerTopic(topic.partitions, config)})
    assert all(state.agrees for state in states)


@pytest.mark.parametrize("topic", ["first-scan", "orders-changelog", "shops-changelog", "penalty"])
def test_uneven_groups_are_refused(topic: str) -> None:
    """A co-partitioned topic with another count is refused by name, in one line with a hint."""
    with pytest.raises(TopicsError, match=f"{topic} 6") as refused:
        refuse_uneven_groups(FILES, with_partitions(topic, 6))
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_a_topic_on_its_own_may_differ_in_count() -> None:
    """The dead-letter topic is in no group: another count is a difference, no refusal."""
    broker = with_partitions("dead-letter", 6)
    refuse_uneven_groups(FILES, broker)
    (state,) = [state for state in compare(FILES, broker) if not state.agrees]
    assert state.differences == ("partitions is 6, not 12",)
    with pytest.raises(TopicsError, match="dead-letter exists with 6 partitions, not 12"):
        refuse_other_counts(FILES, broker)


def test_missing_topics_and_drifted_settings_are_told() -> None:
    """Each difference is a phrase with what is, and what should be."""
    drifted = BrokerTopic(12, {**AS_DESCRIBED["order-paid"].config, "retention.ms": "604800000"})
    broker = AS_DESCRIBED | {"order-paid": drifted}
    del broker["timeout"]
    found = {
        s.file.topic: (s.status, s.differences) for s in compare(FILES, broker) if not s.agrees
    }
    assert found == {
        "order-paid": ("present", ("retention.ms is 604800000, not -1",)),
        "timeout": ("missing", ()),
    }


def test_counts_can_be_chosen_for_each_stage() -> None:
    """One number for all topics, another for the shops stage's own two; marks are not split."""
    counts = {file.topic: file.partitions for file in planned_topics(8, 2)}
    assert counts.pop("frontier-marks") == counts.pop("resent-letters") == 1
    assert counts.pop("shop-violations") == counts.pop("shops-changelog") == 2
    assert set(counts.values()) == {8}


async def test_a_closed_port_is_one_quiet_error(
    caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    """No broker: one line with the address, a hint, and nothing in the log."""
    with caplog.at_level(logging.DEBUG), pytest.raises(ClientError) as refused:
        await check_topics(Connection(f"127.0.0.1:{unused_tcp_port}"))
    assert refused.value.message == f"no Kafka broker answers at 127.0.0.1:{unused_tcp_port}"
    assert refused.value.hint
    assert [record for record in caplog.records if record.name.startswith("aiokafka")] == []


async def test_a_silent_port_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that takes the connection and never answers is given up, within ten seconds."""
    assert admin.CONNECT_TIMEOUT_S < 10
    monkeypatch.setattr(admin, "CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(diagnosis, "_STEP_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        with pytest.raises(ClientError, match="no Kafka broker answers"):
            await check_topics(Connection(f"127.0.0.1:{server.getsockname()[1]}"))
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("command", ["create", "check"])
def test_the_command_fails_without_a_traceback(command: str, unused_tcp_port: int) -> None:
    """An unreachable broker is an error for people, exit code 1; the environment names it too."""
    environment = {"SHIPCLOCK_BOOTSTRAP": f"127.0.0.1:{unused_tcp_port}"}
    result = CliRunner().invoke(app, [command], env=environment)
    assert isinstance(result.exception, UserError)
    assert str(unused_tcp_port) in result.exception.message
    assert result.exception.exit_code == 1
    assert result.output == ""


def test_a_wrong_address_is_wrong_usage() -> None:
    """An address without a number for a port is exit code 2."""
    result = CliRunner().invoke(app, ["check", "--bootstrap", "broker:kafka"])
    assert isinstance(result.exception, UserError)
    assert result.exception.exit_code == 2
