"""What stands in orders-changelog besides the orders' states, and how a restore reads it.

What lives here: the checkpoint's own record, exemptions, and which states have timers. What must
not: what the task does with them (`orders_task`) and the states' form (`codec.state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import msgspec

from streams.codec.state import (
    PARTS_AT,
    REST,
    RETIRING,
    STATE_VERSION,
    StateVersionError,
    due_of,
    pack_order,
    unpack_order,
)
from streams.codec.states.checkpoint import OrdersMeta, decode_meta
from streams.core.facts.events import ExemptionGranted
from streams.core.facts.inputs import INPUT_OF_TOPIC
from streams.engine.records import (
    META_KEY,
    ORDERS_CHANGELOG,
    CorruptChangelog,
    check_app,
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


_decode_exemption = msgspec.json.Decoder(ExemptionGranted).decode


def peek_meta(partition: int, value: bytes) -> OrdersMeta:
    """Read the checkpoint's own record of whatever app it is, and however many partitions.

    Raises:
        CorruptChangelog: It is not one.
        StateVersionError: A newer program wrote it.
    """
    return read_stored(decode_meta, ORDERS_CHANGELOG, partition, META_KEY, value)


def read_meta(partition: int, value: bytes, app_id: str, partitions: int) -> OrdersMeta:
    """Read the checkpoint's own record.

    Raises:
        CorruptChangelog: It is of another app or another number of partitions, or unreadable.
        StateVersionError: A newer program wrote it, or one with more inputs.
    """
    meta = peek_meta(partition, value)
    check_app(ORDERS_CHANGELOG, partition, meta.app_id, app_id)
    check_partitions(ORDERS_CHANGELOG, partition, meta.partitions, partitions)
    unknown = [topic for topic in meta.topics if topic not in INPUT_OF_TOPIC]
    if unknown:
        raise StateVersionError(
            f"orders-changelog[{partition}] has read inputs that this program does not know: "
            f"{', '.join(unknown)}"
        )
    return meta


def read_exemption(partition: int, key: bytes, value: bytes) -> ExemptionGranted:
    """Read an exemption granted before."""
    return read_stored(_decode_exemption, ORDERS_CHANGELOG, partition, key, value)


def check_counts(partition: int, meta: OrdersMeta | None, orders: int, exemptions: int) -> None:
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
    for key, packed in orders:
        value = packed
        if value[:1] != _VERSION or len(value) < PARTS_AT:
            state = read_stored(unpack_order, ORDERS_CHANGELOG, partition, key, value)
            value = pack_order(state)
            renew(key, value)
        due = due_of(value)
        if value[-1] & REST == RETIRING:
            rest(due, key)
        else:
            yield due, key


def in_parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Split what a restore goes through into parts that take some milliseconds each."""
    rest = iter(items)
    while part := list(islice(rest, _PART)):
        yield part
