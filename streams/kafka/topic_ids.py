"""What tells a topic from another one of the same name: its id.

aiokafka asks for metadata up to version 5; ids come with version 10 (Kafka 2.8).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from io import BytesIO

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_UUID_BYTES = 16
_NO_ID = bytes(_UUID_BYTES)


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


class _Response(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[_Request]):  # type: ignore[misc]
    """Metadata of some topics with their ids and what this user may do; asking creates none."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = list(topics)

    def build(self, request_struct_class: type[_Request]) -> _Request:
        """Fill in the one version there is."""
        named: list[tuple[object, ...]] = [(_NO_ID, topic, {}) for topic in self.topics]
        return request_struct_class(named, False, False, True, {})


async def topic_ids(
    admin: AIOKafkaAdminClient, topics: Iterable[str], prefix: str = ""
) -> dict[str, str]:
    """Ask for the id of each topic, in the form Kafka's tools print.

    Args:
        prefix: What the names of the topics begin with in Kafka.

    Returns:
        Ids by topic, without topics that do not exist. Empty if the broker has no ids.

    Raises:
        KafkaError: It did not answer, which says nothing of the topics.
    """
    try:
        answer = await admin._send_request(TopicIdsRequest(prefix + each for each in topics))
    except IncompatibleBrokerVersion:
        return {}
    return {
        name.removeprefix(prefix): urlsafe_b64encode(found).rstrip(b"=").decode()
        for code, name, found, *_ in answer.topics
        if not code and found != _NO_ID
    }
