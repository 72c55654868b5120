"""Ids of topics: a broker that does not answer is not one that has none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
)

from streams.kafka.acls import Acl, lacking_rights
from streams.kafka.topic_ids import topic_ids


def admin(error: KafkaError) -> Any:
    """Give an admin client whose requests fail."""

    async def fail(_: object) -> None:
        raise error

    return SimpleNamespace(_send_request=fail)


@pytest.mark.parametrize(
    "error",
    [
        KafkaConnectionError("away"),
        RequestTimedOutError(),
        NodeNotReadyError("1"),
        TopicAuthorizationFailedError("order-paid"),
    ],
)
async def test_a_request_that_fails_says_nothing_of_ids_or_rights(error: KafkaError) -> None:
    """Taken for an answer it would let a recreated topic pass for the old one."""
    with pytest.raises(type(error)):
        await topic_ids(admin(error), ["order-paid"])
    with pytest.raises(type(error)):
        await lacking_rights(admin(error), [Acl("topic", "order-paid", "Read")])


async def test_an_old_broker_has_no_ids() -> None:
    """Nor does it tell rights."""
    old = admin(IncompatibleBrokerVersion("3.0"))
    assert await topic_ids(old, ["order-paid"]) == {}
    assert await lacking_rights(old, [Acl("topic", "order-paid", "Read")]) == ([], ["order-paid"])
