"""Which failures pass, which want a person, and how often they are said."""

import pytest
from aiokafka import errors as kafka

from streams.engine.records import CorruptChangelog
from streams.kafka.acls import HINT, Acl
from streams.runtime import logs
from streams.runtime.errors import PartitionRefused, refusal
from streams.runtime.logs import Standing


@pytest.mark.parametrize(
    "exc",
    [
        kafka.MessageSizeTooLargeError(),
        kafka.RecordListTooLargeError(),
        kafka.InvalidTopicError(),
        kafka.InvalidTransactionTimeout(),
        kafka.UnsupportedVersionError(),
        CorruptChangelog("counts differ"),
    ],
)
def test_what_no_retry_mends_has_a_hint(exc: Exception) -> None:
    """Somebody must act, so they are told what to do."""
    refused = refusal(exc)
    assert refused is not None
    assert refused.hint
    assert type(exc).__name__ in refused.detail


@pytest.mark.parametrize(
    ("exc", "detail"),
    [
        (kafka.TopicAuthorizationFailedError("p.timeout"), "the right Write on topic p.timeout"),
        (kafka.TopicAuthorizationFailedError({"p.x"}), "the rights Read and Write on topic p.x"),
        (kafka.GroupAuthorizationFailedError("a-orders"), "the right Read on group a-orders"),
        (kafka.GroupAuthorizationFailedError("Unable to get coordinator id for a-orders"),
         "the right Read on group a-orders"),
        (kafka.TransactionalIdAuthorizationFailed("a-orders-0"),
         "the right Write on transactional id a-orders-0"),
        (kafka.ClusterAuthorizationFailedError(), "the right on cluster"),
    ],
)  # fmt: skip
def test_a_missing_right_is_named_with_what_the_work_needs(exc: Exception, detail: str) -> None:
    """Kafka names the resource alone; which operations, the work knows."""
    needs = [
        Acl("topic", "p.timeout", "Write"), Acl("topic", "p.x", "Write"),
        Acl("topic", "p.x", "Read"), Acl("group", "a-orders", "Read"),
        Acl("transactional-id", "a-orders-", "Write", prefixed=True),
    ]  # fmt: skip
    assert refusal(exc, needs) == (f"this user lacks {detail}", HINT, "")


def test_a_refused_partition_says_its_own_hint() -> None:
    """Its message needs no class name in front."""
    refused = PartitionRefused("they disagree", "reset one", "here")
    assert refusal(refused) == ("they disagree", "reset one", "here")


def test_the_cause_is_found_behind_what_the_client_wraps_it_in() -> None:
    """The client's sender tells anything it did not expect as a general failure."""
    wrapped = kafka.KafkaError("Unexpected error during batch delivery")
    wrapped.__cause__ = kafka.TopicAuthorizationFailedError("timeout")
    refused = refusal(wrapped)
    assert refused is not None
    assert refused.detail == "this user lacks the right on topic timeout"


@pytest.mark.parametrize(
    "exc",
    [
        kafka.KafkaConnectionError(),
        kafka.KafkaTimeoutError(),
        kafka.NotEnoughReplicasError(),
        kafka.RequestTimedOutError(),
        OSError("reset by peer"),
    ],
)
def test_what_passes_is_tried_again(exc: Exception) -> None:
    """A broker that is away comes back."""
    assert refusal(exc) is None


def test_a_standing_failure_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither once only nor with every try; and anew after it was over."""
    now_s = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now_s[0])
    failures = Standing()
    assert failures.news("KafkaError")
    assert not failures.news("KafkaError")
    assert failures.news("OSError")
    now_s[0] += 59
    assert not failures.news("KafkaError")
    now_s[0] += 1
    assert failures.news("KafkaError")
    assert not failures.news("KafkaError")
    failures.over()
    assert failures.news("KafkaError")
