"""Fetched records as plain tuples, without a `ConsumerRecord` each.

aiokafka builds an object of eleven fields for every record, of which a worker needs four and a
restore two; leaving that out saves about a twelfth of a worker's time. It means overriding a
private class, so this module holds all of it, `lean_rows` says whether the installed version is the
one it was written for, and the plain path stays: `rows` and `entries` give the same either way.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import aiokafka
from aiokafka.consumer import fetcher

from streams.engine.records import InRecord
from streams.runtime.logs import warn

log = logging.getLogger(__name__)

_KNOWN_VERSION = "0.14."
_PARAMETERS = [
    "self", "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer",
    "value_deserializer", "check_crcs", "isolation_level",
]  # fmt: skip


def as_it_is(value: bytes | None) -> bytes | None:
    """Mark a consumer whose records come as rows: pass this as its value deserializer."""
    return value


def as_entry(value: bytes | None) -> bytes | None:
    """Mark a consumer whose records come as entries of a changelog, (key, value)."""
    return value


class _Rows(fetcher.PartitionRecords):  # type: ignore[misc]
    """Partition records that give tuples to marked consumers, and objects to all others."""

    def __iter__(self) -> Iterator[Any]:
        return self if self._records_iterator is None else self._records_iterator

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        mark = self._value_deserializer
        if mark is as_it_is:
            return record.offset, record.timestamp, record.key, record.value
        if mark is as_entry:
            return record.key, record.value
        return super()._consumer_record(tp, record)


def lean_rows() -> bool:
    """Switch the marks on if this is the aiokafka they were written for; say so if it is not."""
    if fetcher.PartitionRecords is _Rows:
        return True
    found = list(inspect.signature(fetcher.PartitionRecords.__init__).parameters)
    if not aiokafka.__version__.startswith(_KNOWN_VERSION) or found != _PARAMETERS:
        warn(log, "plain-fetch", aiokafka=aiokafka.__version__,
             detail="records are fetched the slower way: this version is not known")  # fmt: skip
        return False
    fetcher.PartitionRecords = _Rows
    return True


def rows(records: Sequence[Any]) -> Sequence[InRecord]:
    """Give fetched records as rows (offset, timestamp, key, value), whichever way they came."""
    if records and type(records[0]) is tuple:
        return records
    return [InRecord(r.offset, r.timestamp, r.key, r.value) for r in records]


def entries(records: Sequence[Any]) -> Sequence[tuple[bytes, bytes | None]]:
    """Give fetched records as entries (key, value), whichever way they came."""
    if records and type(records[0]) is tuple:
        return records
    return [(record.key, record.value) for record in records]
