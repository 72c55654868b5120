"""The topic `resent-letters`: which dead letters were repaired and sent again."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streams.codec.encode import encode_value
from streams.core.facts.outputs import Source

RESENT_LETTERS = "resent-letters"
RESENT_PARTITION = 0
"""It has one: a reader of it reads all of it."""


class Origin(msgspec.Struct, frozen=True):
    """The place of a refused record, and the timestamp it had there, `None` if that is not known.

    A topic that is deleted and created again has the same places for other records; the
    timestamp tells them apart.
    """

    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=249)]
    partition: Annotated[int, msgspec.Meta(ge=0)]
    offset: Annotated[int, msgspec.Meta(ge=0)]
    timestamp: int | None = None

    @property
    def place(self) -> str:
        """The place as one word."""
        return f"{self.topic}:{self.partition}:{self.offset}"


class _Mark(msgspec.Struct, frozen=True):
    resent_at: int
    timestamp: int | None = None


def mark(origin: Origin, resent_at_ms: int) -> tuple[bytes, bytes]:
    """Return key and value of the record that says when a letter was sent again."""
    value = encode_value(_Mark(resent_at_ms, origin.timestamp))
    return origin.place.encode(), value


class Resent:
    """When letters were last sent again. Feed it the topic's records in their order."""

    def __init__(self) -> None:
        self._marks: dict[str, _Mark] = {}

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take the next record; what this program cannot read marks nothing."""
        try:
            self._marks[(key or b"").decode()] = msgspec.json.decode(value or b"", type=_Mark)
        except ValueError:
            return

    def at_ms(self, origin: Origin | Source) -> int | None:
        """Return when the letter of a record was sent again, `None` if it was not."""
        place = f"{origin.topic}:{origin.partition}:{origin.offset}"
        found = self._marks.get(place)
        if found is None or not _same(found.timestamp, origin.timestamp):
            return None
        return found.resent_at


def _same(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one == other
