"""Record batches byte by byte, as other clients write them and the broker takes them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NotLeaderForPartitionError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint

Header = tuple[bytes, bytes | None]


def varint(number: int) -> bytes:
    """Write a zigzag number of variable length."""
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def _sized(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


def record(
    place: int, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
) -> bytes:
    """Write a record of a batch's own time."""
    body = b"\0" + varint(0) + varint(place) + _sized(key) + _sized(value) + varint(len(headers))
    body += b"".join(_sized(name) + _sized(content) for name, content in headers)
    return varint(len(body)) + body


def batch(body: bytes, count: int, at_ms: int, codec: int = 0, base: int = 0) -> bytes:
    """Write a batch around records, which are compressed already if it says so."""
    tail = struct.pack(">hiqqqhii", codec, count - 1, at_ms, at_ms, -1, -1, -1, count) + body
    rest = struct.pack(">ibI", -1, 2, calc_crc32c(tail)) + tail
    return struct.pack(">qi", base, len(rest)) + rest


def put(bootstrap: str, tp: TopicPartition, data: bytes) -> int:
    """Produce a batch; return the offset it got.

    Raises:
        AssertionError: The broker refused it.
    """

    async def send() -> int:
        client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=60_000)
        await client.bootstrap()
        try:
            await client.set_topics([tp.topic])
            while True:
                code, offset = await _sent(client, tp, data)
                # A topic that was just made has no leader for a moment.
                if code != NotLeaderForPartitionError.errno:
                    break
                await asyncio.sleep(0.1)
        finally:
            await client.close()
        assert code == 0, f"the broker answered {code}"
        return offset

    return asyncio.run(send())


async def _sent(client: AIOKafkaClient, tp: TopicPartition, data: bytes) -> tuple[int, int]:
    request = ProduceRequest(
        transactional_id=None,
        required_acks=-1,
        timeout=30_000,
        topics=[(tp.topic, [(tp.partition, data)])],
    )
    response = await client.send(client.cluster.leader_for_partition(tp), request)
    ((_, ((_, code, offset, *_),)),) = response.topics
    return code, offset
