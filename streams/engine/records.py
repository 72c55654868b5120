"""What goes into a partition task and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from streams.codec.encode import Headers, encode_headers, encode_value
from streams.codec.state import StateVersionError
from streams.core.facts.outputs import Output, ShopItem

T = TypeVar("T")


class InRecord(NamedTuple):
    """A record of an input topic partition."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Columns(NamedTuple):
    """Records of one topic partition, in offset order and by column: millions need no object each.

    A record is a place in all four.
    """

    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]


def columns(records: Sequence[InRecord]) -> Columns:
    """Turn records into columns."""
    return Columns(*map(list, zip(*records, strict=True))) if records else Columns([], [], [], [])


class OutRecord(NamedTuple):
    """A record to be written; `partition` None means by key.

    `log_time_ms` is L; it orders the outputs of a simulation and is not written.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    partition: int | None = None
    log_time_ms: int = 0


def out_record(output: Output) -> OutRecord:
    """Encode what the core put out."""
    return OutRecord(
        output.topic, output.key, encode_value(output.value), encode_headers(output),
        None, output.log_time_ms,
    )  # fmt: skip


def item_record(item: ShopItem) -> OutRecord:
    """Encode what the orders stage sends a shop."""
    return OutRecord(SHOP_VIOLATIONS, item.shop_id.encode(), encode_value(item), ())


class Checkpoint(NamedTuple):
    """All that one Kafka transaction of one partition holds."""

    outputs: list[OutRecord]
    changelog: dict[bytes, bytes | None]
    """Last state per key, `None` for a tombstone; for the stage's own changelog partition."""
    offsets: list[tuple[str, int]]
    """Per input topic the first offset not processed yet: held records are read again."""
    more: bool
    """Work remains that needs no further input."""


class CorruptChangelog(Exception):
    """A changelog that does not hold what its last checkpoint says, or nothing readable.

    Args:
        message: In words that other partitions may share, but for the partition's name.
        at: What only this partition has to say.
    """

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


def unreadable(topic: str, partition: int, key: bytes, why: Exception) -> Exception:
    """Say where in a changelog something stands that this program cannot read."""
    place = f"{topic}[{partition}], key {key.decode(errors='replace')!r}"
    if isinstance(why, StateVersionError):
        return StateVersionError(f"{place}: {why}")
    return CorruptChangelog(f"{place}: what is kept there cannot be read: {why}")


def read_stored(
    decode: Callable[[bytes], T], topic: str, partition: int, key: bytes, value: bytes
) -> T:
    """Decode a changelog record.

    Raises:
        CorruptChangelog, StateVersionError: It cannot be read; the message says where it stands.
    """
    try:
        return decode(value)
    except UNREADABLE as exc:
        raise unreadable(topic, partition, key, exc) from exc


def check_app(topic: str, partition: int, found: str, wanted: str) -> None:
    """Refuse a changelog of another application.

    Raises:
        CorruptChangelog: It is: two app ids would overwrite each other's state.
    """
    if found != wanted:
        raise CorruptChangelog(
            f"{topic}[{partition}] belongs to app id {found!r}, this is {wanted!r}; "
            "run one app id over a set of topics"
        )


def check_partitions(topic: str, partition: int, found: int, wanted: int) -> None:
    """Refuse a changelog of a time with another number of partitions; 0 means not known.

    Raises:
        CorruptChangelog: Keys belong to other partitions now than the states here.
    """
    if found and wanted and found != wanted:
        raise CorruptChangelog(
            f"{topic}[{partition}] was written when there were {found} partitions, now there are "
            f"{wanted}: keys belong to other partitions than their state"
        )


SHOP_VIOLATIONS = "shop-violations"
FRONTIER_MARKS = "frontier-marks"
BETWEEN_STAGES = (SHOP_VIOLATIONS, FRONTIER_MARKS)
"""What the stages say to each other, and nobody else reads."""
ORDERS_CHANGELOG = "orders-changelog"
SHOPS_CHANGELOG = "shops-changelog"

# Keys of the changelogs that are no identifiers start with a control character, which none has.
META_KEY = b"\x00meta"
# What decoding a stored record raises if the record is damaged.
UNREADABLE = (ValueError, RecursionError)
