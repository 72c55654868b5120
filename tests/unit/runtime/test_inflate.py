"""What was compressed is inflated as its format says, and never beyond a limit."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from collections.abc import Callable

import cramjam
import pytest
from aiokafka import codec as client

from streams.runtime.inflate import NotInflated, inflate

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
LIMIT = 1 << 20
MB = 1 << 20


def framed(payload: bytes, version: bytes = b"\0\0\0\1\0\0\0\1", block: int = 32 * 1024) -> bytes:
    """Compress in blocks, as the Java library of snappy frames them."""
    out = b"\x82SNAPPY\0" + version
    for at in range(0, len(payload), block):
        packed = bytes(cramjam.snappy.compress_raw(payload[at : at + block]))
        out += struct.pack("!i", len(packed)) + packed
    return out


def halves(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Compress in two frames."""
    return lambda data: compress(data[: len(data) // 2]) + compress(data[len(data) // 2 :])


def lz4(payload: bytes, linked: bool = False) -> bytes:
    """Compress as librdkafka and others do."""
    packer = cramjam.lz4.Compressor(level=1, content_checksum=True, block_linked=linked)
    packer.compress(payload)
    return bytes(packer.finish())


def zstd(payload: bytes) -> bytes:
    """Compress in one frame."""
    return bytes(cramjam.zstd.compress(payload))


FORMS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, gzip.compress),
    "gzip-two": (GZIP, halves(gzip.compress)),
    "gzip-padded": (GZIP, lambda data: gzip.compress(data) + bytes(9)),
    "snappy": (SNAPPY, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "snappy-framed": (SNAPPY, framed),
    "snappy-small-blocks": (SNAPPY, lambda data: framed(data, block=64)),
    "lz4": (LZ4, lz4),
    "lz4-linked": (LZ4, lambda data: lz4(data, linked=True)),
    "lz4-two": (LZ4, halves(lz4)),
    "zstd": (ZSTD, zstd),
    "zstd-two": (ZSTD, halves(zstd)),
    "zstd-skippable": (
        ZSTD, lambda data: struct.pack("<II", 0x184D2A50, 4) + b"abcd" + zstd(data),
    ),
}  # fmt: skip
CLIENT = {
    GZIP: client.gzip_decode, SNAPPY: client.snappy_decode, LZ4: client.lz4_decode,
    ZSTD: client.zstd_decode,
}  # fmt: skip
PAYLOADS = {
    "small": b"x",
    "json": b'{"order_id":"O1"}' * 3_000,
    "random": os.urandom(100_000),
    "shrinks": bytes(LIMIT - 5),
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("form", FORMS)
def test_what_the_client_inflates_is_inflated(form: str, payload: str) -> None:
    """To the same bytes, up to the limit and not one byte beyond it."""
    codec, compress = FORMS[form]
    data = PAYLOADS[payload]
    packed = compress(data)
    assert CLIENT[codec](packed) == inflate(codec, memoryview(packed), LIMIT) == data
    assert inflate(codec, memoryview(packed), len(data)) == data
    with pytest.raises(NotInflated, match="more than"):
        inflate(codec, memoryview(packed), len(data) - 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", [slice(3, None), slice(None, -2), slice(0, 0), slice(9)])
def test_what_the_client_refuses_is_refused(form: str, damage: slice) -> None:
    """With one kind of error; what it takes all the same is taken."""
    codec, compress = FORMS[form]
    packed = compress(PAYLOADS["json"])[damage]
    try:
        expected = CLIENT[codec](packed)
    except Exception:  # noqa: BLE001 - every library has its own
        with pytest.raises(NotInflated):
            inflate(codec, memoryview(packed), LIMIT)
    else:
        assert inflate(codec, memoryview(packed), LIMIT) == expected


@pytest.mark.parametrize("version", [b"\1\0\0\0\1\0\0\0", b"\0\0\0\2\0\0\0\1", bytes(8)])
def test_framed_snappy_may_name_any_version(version: bytes) -> None:
    """Of which the client takes one alone."""
    packed = framed(PAYLOADS["json"], version)
    with pytest.raises(cramjam.DecompressionError):
        client.snappy_decode(packed)
    assert inflate(SNAPPY, memoryview(packed), LIMIT) == PAYLOADS["json"]


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0"])
def test_block_of_snappy_that_does_not_fit_is_refused(size: bytes) -> None:
    """Its length is whatever the writer put there."""
    packed = framed(b"x" * 100)[:16] + size
    with pytest.raises(NotInflated):
        inflate(SNAPPY, memoryview(packed), LIMIT)


def test_unknown_codec_is_refused() -> None:
    """There are numbers for three more."""
    with pytest.raises(NotInflated, match="codec 5 is not known"):
        inflate(5, memoryview(b"x"), LIMIT)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "snappy-small-blocks"])
def test_memory_is_bounded_before_it_is_taken(form: str) -> None:
    """A bomb costs about the limit, whatever it would become."""
    codec, compress = FORMS[form]
    packed = memoryview(compress(bytes(64 * MB)))
    tracemalloc.start()
    with pytest.raises(NotInflated):
        inflate(codec, packed, LIMIT)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * LIMIT


def test_many_small_members_take_no_time_of_their_own_each() -> None:
    """What is left behind a member is not copied for each of them."""
    packed = gzip.compress(b"x") * 50_000
    assert inflate(GZIP, memoryview(packed), LIMIT) == b"x" * 50_000
