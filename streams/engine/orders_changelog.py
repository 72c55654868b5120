"""What stands in orders-changelog besides the orders' states, and how a restore reads it.

What lives here: the checkpoint's own record, exemptions, and which states have timers. What must
not: what the task does with them (`orders_task`) and the states' form (`codec.state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import msgspec
from msgspec import Struct

from streams.codec.state import (
    HEAD,
    REST,
    RETIRING,
    STATE_VERSION,
    pack_order,
    unpack_order,
)
from streams.core.facts.events import INPUT_TOPICS, ExemptionGranted
from streams.engine.records import (
    META_KEY,
    ORDERS_CHANGELOG,
    CorruptChangelog,
    check_meta,
    check_partitions,
    read_stored,
)

T = TypeVar("T")

EXEMPTION_KEY = b"\x00exemption:"
# Below it lie the keys of both changelogs that do not start with an identifier.
FIRST_ORDER_KEY = b"\x01"
# States a restore goes through between two pauses.
_PART = 5_000
_VERSION = bytes([STATE_VERSION])


class Meta(Struct, array_like=True):
    """The checkpoint's own record in the changelog."""

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
    """By rank, as `offsets`; a topic without a known id has an empty one."""


_decode_meta = msgspec.msgpack.Decoder(Meta).decode
_decode_exemption = msgspec.json.Decoder(ExemptionGranted).decode


def read_meta(partition: int, value: bytes, app_id: str, partitions: int) -> Meta:
    """Read the checkpoint's own record.

    Raises:
        CorruptChangelog: It is of another app or another number of partitions, or unreadable.
        StateVersionError: A newer program wrote it.
    """
    meta = read_stored(_decode_meta, ORDERS_CHANGELOG, partition, META_KEY, value)
    check_meta(ORDERS_CHANGELOG, partition, meta.version, meta.app_id, app_id)
    check_partitions(ORDERS_CHANGELOG, partition, meta.partitions, partitions)
    if not len(meta.last_ms) == len(meta.offsets) == len(INPUT_TOPICS):
        raise CorruptChangelog(
            f"orders-changelog[{partition}] counts {len(meta.offsets)} input topics, "
            f"there are {len(INPUT_TOPICS)}"
        )
    return meta


def known_ids(meta: Meta) -> dict[str, str]:
    """Return the topic ids that a checkpoint holds; an older one holds none."""
    return {
        topic: found for topic, found in zip(INPUT_TOPICS, meta.topic_ids, strict=False) if found
    }


def peek_meta(partition: int, value: bytes) -> Meta:
    """Read the checkpoint's own record of whatever app it is, and however many partitions."""
    meta = read_stored(_decode_meta, ORDERS_CHANGELOG, partition, META_KEY, value)
    return read_meta(partition, value, meta.app_id, meta.partitions)


def read_exemption(partition: int, key: bytes, value: bytes) -> ExemptionGranted:
    """Read an exemption granted before."""
    return read_stored(_decode_exemption, ORDERS_CHANGELOG, partition, key, value)


def check_counts(partition: int, meta: Meta | None, orders: int, exemptions: int) -> None:
    """Compare what was read with what the last checkpoint counted.

    Raises:
        CorruptChangelog: There is more, or less.
    """
    counted = (0, 0) if meta is None else (meta.orders, meta.exemptions)
    if (orders, exemptions) != counted:
        raise CorruptChangelog(
            f"orders-changelog[{partition}] does not hold what its last checkpoint counted",
            f"{orders} orders and {exemptions} exemptions in partition {partition}, "
            f"{counted[0]} and {counted[1]} counted",
        )


def timers_of(
    partition: int,
    orders: Iterable[tuple[bytes, bytes]],
    rest: Callable[[int, bytes], None],
    renew: Callable[[bytes, bytes], None],
) -> Iterator[tuple[int, bytes]]:
    """Yield due times and keys of restored orders.

    Args:
        rest: Called instead with those that rest.
        renew: Called with those that an older program wrote, in today's form.

    Raises:
        CorruptChangelog: One is no state.
        StateVersionError: A newer program wrote it.
    """
    unpack = HEAD.unpack_from
    for key, packed in orders:
        value = packed
        if value[:1] != _VERSION or len(value) < HEAD.size:
            state = read_stored(unpack_order, ORDERS_CHANGELOG, partition, key, value)
            value = pack_order(state)
            renew(key, value)
        due = unpack(value)[1]
        if value[-1] & REST == RETIRING:
            rest(due, key)
        else:
            yield due, key


def in_parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Split what a restore goes through into parts that take some milliseconds each."""
    rest = iter(items)
    while part := list(islice(rest, _PART)):
        yield part
