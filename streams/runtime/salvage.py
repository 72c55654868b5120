"""Read a record batch that its own client refuses, record by record.

What a record holds stands between two known places, so one that makes no sense can be set aside
alone, and the others be taken. Where the places themselves make no sense, nothing can be told.
"""

from __future__ import annotations

import struct

from streams.core.facts.outputs import RefusedValue

Parts = tuple[list[int], list[int], list[bytes | None], list[bytes | None]]
"""Offsets, timestamps, keys and values."""

_HEAD = struct.Struct(">qiibIhiqqqhii")
_APPEND_TIME = 0x08
_VARINT_BITS = 64


class NotTold(Exception):
    """A batch of which no record can be told from the next."""


class _Parser:
    """Reads the parts of a record, each of which must end where the record does or before."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data = data
        self.at = at
        self._end = end

    def byte(self) -> int:
        if self.at >= self._end:
            raise ValueError("it ends too early")
        self.at += 1
        return self._data[self.at - 1]

    def number(self) -> int:
        """Read a zigzag number of variable length."""
        read = 0
        for shift in range(0, _VARINT_BITS, 7):
            byte = self.byte()
            read |= (byte & 0x7F) << shift
            if byte < 0x80:
                return read >> 1 ^ -(read & 1)
        raise ValueError("a number does not end")

    def bytes(self) -> bytes | None:
        """Read a length and as many bytes; a length of -1 stands for none at all."""
        size = self.number()
        if not -1 <= size <= self._end - self.at:
            raise ValueError(f"a length of {size} with {self._end - self.at} bytes left")
        if size < 0:
            return None
        self.at += size
        return self._data[self.at - size : self.at]

    def done(self) -> bool:
        return self.at == self._end


def salvage(batch: bytes, first: int) -> Parts:
    """Read a batch of version 2 that is not compressed.

    Args:
        first: Records before this offset are left out.

    Returns:
        Its records by column; one that makes no sense has no key, the batch's own time and, as
        `RefusedValue`, its raw bytes.

    Raises:
        NotTold: The records cannot be told from each other.
    """
    head = _HEAD.unpack_from(batch)
    base, attributes, began, latest, count = head[0], head[5], head[7], head[8], head[12]
    appended = bool(attributes & _APPEND_TIME)
    parts: Parts = ([], [], [], [])
    offsets, timestamps, keys, values = parts
    frames = _Parser(batch, _HEAD.size, len(batch))
    before = base - 1
    for place in range(count):
        try:
            frame = frames.bytes()
        except ValueError as error:
            raise NotTold(f"record {place + 1} of {count}: {error}") from None
        if frame is None:
            raise NotTold(f"record {place + 1} of {count} has no length")
        key: bytes | None
        value: bytes | None
        try:
            since, offset, key, value = _record(frame, before - base)
            before = base + offset
            timestamp = latest if appended else began + since
        except ValueError as error:
            before += 1
            timestamp = latest if appended else began
            key, value = None, RefusedValue.of(frame, "unreadable", f"not a valid record: {error}")
        if before >= first:
            offsets.append(before)
            timestamps.append(timestamp)
            keys.append(key)
            values.append(value)
    if not frames.done():
        raise NotTold(f"there is more in it than {count} records")
    return parts


def _record(frame: bytes, before: int) -> tuple[int, int, bytes | None, bytes | None]:
    """Read one record: timestamp and offset, counted from its batch's, key and value.

    Raises:
        ValueError: It makes no sense, as the one `before` has a later offset.
    """
    parser = _Parser(frame, 0, len(frame))
    parser.byte()
    since, offset, key, value = parser.number(), parser.number(), parser.bytes(), parser.bytes()
    if offset <= before:
        raise ValueError(f"its offset is number {offset} of the batch, after number {before}")
    headers = parser.number()
    if headers < 0:
        raise ValueError(f"it has {headers} headers")
    for _ in range(headers):
        if parser.bytes() is None:
            raise ValueError("a header has no name")
        parser.bytes()
    if not parser.done():
        raise ValueError("there is more behind its headers")
    return since, offset, key, value
