"""Records in another partition than the one Kafka's default partitioner leads their key to.

The facts of an order meet in one partition because all producers hash its id alike. Where one
hashes otherwise, an order is judged without facts that were sent in time, and each of these records
shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2
from msgspec import Struct

from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.core.facts.outputs import RefusedValue
from streams.engine.records import Columns
from streams.runtime.lean import NOT_COMPILED_WHY
from streams.runtime.logs import Standing, error
from streams.telemetry import metrics

if not NOT_COMPILED_WHY:
    from streams.runtime import native

log = logging.getLogger(__name__)

_EXEMPTIONS = INPUT_TOPICS[EXEMPTION_GRANTED]
# What of a key is shown.
_KEY_BYTES_MAX = 100


class _Scope(Struct):
    order_ids: list[str] | None = None


class _Exemption(Struct):
    scope: _Scope


_decode_exemption = msgspec.json.Decoder(_Exemption).decode


class Placement:
    """Compares the partition of each record of the inputs with its key's, and reports others.

    Without compiled code a hash takes longer than all else done for a record, so one record of
    each fetch is looked at, unless `refuse` asks for all.

    Args:
        refuse: Make such records dead letters, `wrong-partition`.
    """

    def __init__(self, stage: str, refuse: bool) -> None:
        self._stage = stage
        self._refuse = refuse
        self._all = refuse or not NOT_COMPILED_WHY
        self._standing = Standing()
        self._unreported: dict[str, int] = {}

    def check(self, tp: TopicPartition, records: Columns, counts: Mapping[str, int]) -> Columns:
        """Look at records of one input; return them, with those to be refused marked."""
        if tp.topic not in INPUT_TOPICS:
            return records
        partitions = counts[tp.topic]
        places = self._misplaced(tp, records, partitions)
        if not places:
            return records
        metrics.WRONG_PARTITION.labels(tp.topic).inc(len(places))
        self._report(tp, records.keys[places[0]] or b"", len(places), partitions)
        if not self._refuse:
            return records
        values = list(records.values)
        for place in places:
            value = values[place]
            if value is not None and type(value) is not RefusedValue:
                detail = _detail(tp, records.keys[place] or b"", partitions)
                values[place] = RefusedValue.of(value, "wrong-partition", detail)
        return records._replace(values=values)

    def _misplaced(self, tp: TopicPartition, records: Columns, partitions: int) -> list[int]:
        if tp.topic == _EXEMPTIONS:
            return [
                place
                for place, value in enumerate(records.values)
                if not _reaches(value, tp.partition, partitions)
            ]
        keys = records.keys if isinstance(records.keys, list) else list(records.keys)
        if not self._all:
            place = records.offsets[0] % len(keys)
            return [place] if misplaced(keys[place : place + 1], tp.partition, partitions) else []
        return misplaced(keys, tp.partition, partitions)

    def _report(self, tp: TopicPartition, key: bytes, count: int, partitions: int) -> None:
        """Log how many there were since this was last logged, at most once a minute and topic."""
        self._unreported[tp.topic] = self._unreported.get(tp.topic, 0) + count
        if not self._standing.news(tp.topic):
            return
        by_orders = tp.topic == _EXEMPTIONS
        error(log, "wrong-partition", stage=self._stage, topic=tp.topic,
              records=self._unreported.pop(tp.topic), key=_shown(key), partition=tp.partition,
              expected="its orders'" if by_orders else partition_of(key, partitions),
              detail="facts of one order do not meet: it is judged without some of them",
              hint="let the producer hash keys as Kafka does: partitioner=murmur2_random for "
              "librdkafka, or its client's name for murmur2; see What a producer must do in "
              "docs/guarantees.md")  # fmt: skip


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key by Kafka's default partitioner."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def _plain_misplaced(keys: list[bytes | None], partition: int, partitions: int) -> list[int]:
    return [
        place
        for place, key in enumerate(keys)
        if key is not None and partition_of(key, partitions) != partition
    ]


misplaced = _plain_misplaced if NOT_COMPILED_WHY else native.misplaced
"""Places of the keys that belong in another partition."""


def _reaches(value: bytes | None, partition: int, partitions: int) -> bool:
    """Tell whether an exemption may concern an order of a partition."""
    try:
        named = _decode_exemption(value or b"").scope.order_ids
    except (ValueError, RecursionError):
        # It is refused for that.
        return True
    return not named or any(
        partition_of(order_id.encode(), partitions) == partition for order_id in named
    )


def _detail(tp: TopicPartition, key: bytes, partitions: int) -> str:
    if tp.topic == _EXEMPTIONS:
        return f"none of its orders belongs in partition {tp.partition} of {partitions}"
    return (
        f"the key {_shown(key)} belongs in partition {partition_of(key, partitions)} of "
        f"{partitions}, not {tp.partition}: its producer must hash keys with murmur2"
    )


def _shown(key: bytes) -> str:
    return key[:_KEY_BYTES_MAX].decode(errors="replace")
