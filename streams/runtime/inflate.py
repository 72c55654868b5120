"""Decompress what a producer compressed, up to a limit that holds before memory is taken.

What a few kilobytes inflate to is for their writer to choose; a client that inflates first and
counts later runs out of memory. So the size claimed is looked at where the format has one, and
elsewhere the room is given in steps, never beyond the limit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cramjam

Decompress = Callable[[memoryview, int], bytes]

# The room tried first, as a multiple of the compressed size; JSON rarely shrinks to less.
_RATIO = 8
_ROOM_MIN = 64 * 1024
# What a decompressor does not use of a piece is copied, so a batch is not given in one.
_PIECE_BYTES = 16 * 1024
_TOO_SMALL = "failed to write whole buffer"
_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEAD_BYTES = 16


class NotInflated(Exception):
    """What was compressed is damaged, in no known form, or larger than the limit."""


def inflate(codec: int, data: memoryview, limit: int) -> bytes:
    """Decompress the records of a batch.

    Args:
        codec: As in the lowest three bits of a batch's attributes.
        limit: The most bytes it may inflate to.

    Raises:
        NotInflated: It cannot be decompressed, or would be larger.
    """
    if codec not in _CODECS:
        raise NotInflated(f"compression codec {codec} is not known")
    name, decompress = _CODECS[codec]
    try:
        return decompress(data, limit)
    except (zlib.error, cramjam.DecompressionError, struct.error, EOFError) as error:
        raise NotInflated(f"{name}: {error}") from None


def _too_large(limit: int) -> NotInflated:
    return NotInflated(f"it inflates to more than {limit} bytes")


def _gzip(data: memoryview, limit: int) -> bytes:
    out, at = bytearray(), 0
    while at < len(data):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            piece = data[at : at + _PIECE_BYTES]
            if not piece:
                raise EOFError("it ends too early")
            # One byte more than allowed tells a batch that ends there from one that goes on.
            out += member.decompress(piece, limit + 1 - len(out))
            if len(out) > limit:
                raise _too_large(limit)
            at += len(piece) - len(member.unused_data)
        # Zeros may follow a member, as gzip files are padded.
        while at < len(data) and not data[at]:
            at += 1
    return bytes(out)


def _snappy(data: memoryview, limit: int) -> bytes:
    """Decompress a plain block, or blocks in the frame of the Java library.

    Its two version fields say nothing of the form, and some clients write them in the other byte
    order.
    """
    if data[: len(_XERIAL)] != _XERIAL or len(data) <= _XERIAL_HEAD_BYTES:
        return _snappy_block(data, limit)
    out = bytearray()
    at = _XERIAL_HEAD_BYTES
    while at < len(data):
        (size,) = struct.unpack_from("!i", data, at)
        at += 4
        if not 0 <= size <= len(data) - at:
            raise EOFError("a block ends behind the batch")
        out += _snappy_block(data[at : at + size], limit - len(out))
        at += size
    return bytes(out)


def _snappy_block(data: memoryview, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(data) > limit:
        raise _too_large(limit)
    return bytes(cramjam.snappy.decompress_raw(data))


def _into_room(decompress_into: Callable[[memoryview, bytearray], int]) -> Decompress:
    def decompress(data: memoryview, limit: int) -> bytes:
        room = min(limit, max(_ROOM_MIN, _RATIO * len(data)))
        while True:
            out = bytearray(room)
            try:
                size = decompress_into(data, out)
            except cramjam.DecompressionError as error:
                if str(error) != _TOO_SMALL:
                    raise
                if room == limit:
                    raise _too_large(limit) from None
                room = min(limit, 4 * room)
            else:
                return bytes(memoryview(out)[:size])

    return decompress


_CODECS: dict[int, tuple[str, Decompress]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _into_room(cramjam.lz4.decompress_into)),
    4: ("zstd", _into_room(cramjam.zstd.decompress_into)),
}
