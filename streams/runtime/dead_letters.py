"""Read the dead letters of a cluster in the order they were written, however many there are."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from streams.core.facts.outputs import DeadLetter
from streams.engine.evidence import DEAD_LETTERS
from streams.engine.records import InRecord
from streams.engine.resent import RESENT_LETTERS, Resent
from streams.kafka.connection import Connection
from streams.runtime.client import connected, count_of
from streams.runtime.merged import merged
from streams.runtime.rights import reading_rights

_decode = msgspec.json.Decoder(DeadLetter).decode


class Letter(NamedTuple):
    """A record of the topic `dead-letter`, written at `at_ms` by the broker's clock."""

    at_ms: int
    key: bytes | None
    letter: DeadLetter
    raw: bytes
    """The refused record's value; empty where it had none."""
    resent_at_ms: int | None = None
    """When a repair of it was last sent."""


async def dead_letters(
    connection: Connection, since_ms: int = 0
) -> AsyncGenerator[Letter | None, None]:
    """Read all dead letters written from an instant on, up to the topic's end as it is now.

    Only what was committed is read, and no more of it is held than what a fetch brings. To be
    closed by the reader (`contextlib.aclosing`) if it does not read to the end.

    Yields:
        The letters, oldest first; `None` for a record that this program cannot read.

    Raises:
        ClientError: The broker cannot be reached or refuses, or there is no such topic.
    """
    needs = reading_rights(connection, [DEAD_LETTERS, RESENT_LETTERS])
    async with connected(connection, needs) as counts:
        partitions = count_of(DEAD_LETTERS, counts)
        # A cluster of an older version does not have the topic.
        resent = await _read_resent(connection) if RESENT_LETTERS in counts else Resent()
        async with aclosing(merged(connection, DEAD_LETTERS, partitions, since_ms)) as records:
            async for record in records:
                yield _letter(record, resent)


async def resent_letters(connection: Connection) -> Resent:
    """Read which letters were sent again.

    Raises:
        ClientError: The broker cannot be reached or refuses, or there is no such topic.
    """
    async with connected(connection, reading_rights(connection, [RESENT_LETTERS])) as counts:
        count_of(RESENT_LETTERS, counts)
        return await _read_resent(connection)


async def _read_resent(connection: Connection) -> Resent:
    resent = Resent()
    async with aclosing(merged(connection, RESENT_LETTERS, 1)) as records:
        async for record in records:
            resent.take(record.key, record.value)
    return resent


def _letter(record: InRecord, resent: Resent) -> Letter | None:
    try:
        letter = _decode(record.value or b"")
        raw = base64.b64decode(letter.raw, validate=True)
    except (ValueError, TypeError):
        return None
    return Letter(record.timestamp, record.key, letter, raw, resent.at_ms(letter.source))
