"""The orders stage's own record in its changelog: how far a partition has been processed.

Inputs stand by name, so that an input can be added, or change its rank, without a new version.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from streams.codec.state import StateVersionError

VERSION = 2
# Version 1 kept a list for these topics, in this order.
_TOPICS_V1 = (
    "order-paid",
    "tracking-number-uploaded",
    "first-scan",
    "order-closed",
    "exemption-granted",
    "appeal-decided",
    "refund-failed",
)


class Progress(Struct, frozen=True, array_like=True):
    """How far an input topic has been processed."""

    offset: int = 0
    """The first offset not processed yet."""
    last_ms: int = 0
    """The largest effective timestamp processed."""
    topic_id: str = ""
    """Empty if it is not known."""


class OrdersMeta(Struct, array_like=True):
    """All that a checkpoint of the orders stage says of its partition but the states."""

    version: int
    policy: str
    """As `name@version`."""
    reached_ms: int
    topics: dict[str, Progress]
    orders: int
    exemptions: int
    app_id: str = ""
    policy_digest: str = ""
    policy_since_ms: int = -1
    """States last changed at or before it may have been judged by other rules."""
    sweep: tuple[str, int, bytes] | None = None
    """The exemption being applied: its id, log time and the last key done."""
    partitions: int = 0

    def progress(self, topic: str) -> Progress:
        """Return how far an input has been processed; one that is not named has not been read."""
        return self.topics.get(topic, Progress())


class _MetaV1(Struct, array_like=True):
    version: int
    policy: str
    reached_ms: int
    last_ms: list[int]
    offsets: list[int]
    orders: int
    exemptions: int
    app_id: str = ""
    policy_digest: str = ""
    policy_since_ms: int = -1
    sweep: tuple[str, int, bytes] | None = None
    partitions: int = 0
    topic_ids: list[str] = []


class MetaHead(Struct, array_like=True):
    """What the checkpoint records of both stages begin with, in every version."""

    version: int
    policy: str
    reached_ms: int


decode_head = msgspec.msgpack.Decoder(MetaHead).decode
encode_meta = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(OrdersMeta).decode
_decode_v1 = msgspec.msgpack.Decoder(_MetaV1).decode


def decode_meta(value: bytes) -> OrdersMeta:
    """Read a checkpoint's record of this version or an earlier one.

    Raises:
        StateVersionError: A newer program wrote it.
        ValueError: It is not a checkpoint's record.
    """
    version = decode_head(value).version
    if version > VERSION:
        raise StateVersionError(f"checkpoint of version {version}, known is {VERSION}")
    return _decode(value) if version == VERSION else _from_v1(_decode_v1(value))


def _from_v1(meta: _MetaV1) -> OrdersMeta:
    topics = len(_TOPICS_V1)
    if not len(meta.last_ms) == len(meta.offsets) == topics:
        raise ValueError(f"it counts {len(meta.offsets)} input topics, there were {topics}")
    ids = meta.topic_ids or [""] * topics
    rows = zip(_TOPICS_V1, meta.offsets, meta.last_ms, ids, strict=True)
    return OrdersMeta(
        VERSION, meta.policy, meta.reached_ms,
        {topic: Progress(offset, last_ms, topic_id) for topic, offset, last_ms, topic_id in rows},
        meta.orders, meta.exemptions, meta.app_id, meta.policy_digest, meta.policy_since_ms,
        meta.sweep, meta.partitions,
    )  # fmt: skip
