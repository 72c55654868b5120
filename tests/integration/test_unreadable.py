"""Batches as other clients write them: one partition waits at most, and says so."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import cramjam
import psutil
import pytest
from aiokafka import TopicPartition
from typer.testing import CliRunner

from streams.cli.commands import program
from streams.core.errors import UserError
from streams.kafka.connection import Connection
from streams.runtime.batches import KeyPartitioner
from streams.testing.cluster import LogRecord, WorkerProcess, empty_topics, load, now_ms, read
from tests.raw_batches import batch, put, record
from tests.unit.samples import HOUR_MS, exemption, paid, raw, scan

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITIONS = 2
PARTITION_OF = KeyPartitioner()
T = TypeVar("T")


@pytest.fixture
def connection(broker: str) -> Iterator[Connection]:
    """Give a broker with fresh topics, and leave none of our records behind."""
    found = Connection(broker)
    asyncio.run(empty_topics(found, PARTITIONS))
    yield found
    asyncio.run(empty_topics(found, PARTITIONS))


@pytest.fixture
def start(connection: Connection, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start workers, of an app id of their own, that are killed in the end."""
    started: list[WorkerProcess] = []
    app_id = f"held-{os.urandom(4).hex()}"

    def begin(*options: str) -> WorkerProcess:
        path = tmp_path / f"worker-{len(started)}.log"
        started.append(WorkerProcess(connection, path, "--app-id", app_id, *options))
        return started[-1]

    begin.app_id = app_id  # type: ignore[attr-defined]
    yield begin
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


def late(order_id: str, **fields: Any) -> bytes:
    """Return an order that is late already."""
    placed_at = now_ms() - 80 * HOUR_MS
    return raw(paid(order_id, placed_at=placed_at, paid_at=placed_at, **fields))


def order_of(partition: int, name: str) -> str:
    """Return an order id that belongs in a partition."""
    return next(
        f"{name}-{number}"
        for number in range(1000)
        if PARTITION_OF(f"{name}-{number}".encode(), PARTITIONS) == partition
    )


def send_late(connection: Connection, *order_ids: str) -> None:
    """Send orders that are late already, by key."""
    asyncio.run(
        load(
            connection,
            [
                LogRecord(
                    "order-paid", PARTITION_OF(one.encode(), PARTITIONS), now_ms(), one.encode(),
                    late(one),
                )
                for one in order_ids
            ],
        )
    )  # fmt: skip


def values(connection: Connection, topic: str) -> list[dict[str, Any]]:
    """Read what was committed to an output topic."""
    return [json.loads(one.value or b"") for one in asyncio.run(read(connection, [topic]))]


def fined(connection: Connection) -> set[str]:
    """Give the orders of which a violation was determined."""
    return {one["order_id"] for one in values(connection, "timeout")}


def until(look: Callable[[], T], wanted: Callable[[T], object], worker: WorkerProcess) -> T:
    """Look until it is as wanted."""
    deadline_s = time.monotonic() + 60
    while not wanted(found := look()):
        assert time.monotonic() < deadline_s, (found, worker.log[-3000:])
        time.sleep(0.3)
    return found


def shown(connection: Connection, *arguments: str) -> Any:
    """Run a command; return what became of it."""
    return CliRunner().invoke(program(), [*arguments, "--bootstrap", connection.bootstrap])


def put_first(connection: Connection, order_id: str, data: bytes) -> int:
    """Put a batch where an order belongs; return its offset."""
    place = TopicPartition("order-paid", PARTITION_OF(order_id.encode(), PARTITIONS))
    return put(connection.bootstrap, place, data)


LOW_LIMIT = ("--set", "inflated_bytes_max=9999")
LATIN_1 = [(b"gr\xf6\xdfe", b"x")]


def test_header_name_may_be_any_bytes(
    connection: Connection, start: Callable[..., WorkerProcess]
) -> None:
    """Headers are not used, so the record is taken; `dead-letters` and `explain` read on, too."""
    value = late("O1")
    put_first(connection, "O1", batch(record(0, b"O1", value, LATIN_1), 1, now_ms()))
    worker = start()
    until(lambda: fined(connection), {"O1"}.__eq__, worker)
    assert "broken" not in worker.log
    assert values(connection, "dead-letter") == []

    letter = {
        "reason": "schema", "detail": "why", "raw": base64.b64encode(b"{}").decode(),
        "source": {"topic": "first-scan", "partition": 0, "offset": 7, "timestamp": 1},
    }  # fmt: skip
    for partition in range(PARTITIONS):
        place = TopicPartition("dead-letter", partition)
        body = record(0, b"O1", raw(letter), LATIN_1)
        put(connection.bootstrap, place, batch(body, 1, now_ms()))
    listed = shown(connection, "dead-letters")
    assert (listed.exit_code, len(listed.stdout.splitlines())) == (0, PARTITIONS), listed
    assert shown(connection, "explain", "O1").exit_code == 0


@pytest.mark.parametrize("version", [b"\1\0\0\0\1\0\0\0", b"\0\0\0\2\0\0\0\1"])
def test_snappy_frame_may_name_any_version(
    connection: Connection, start: Callable[..., WorkerProcess], version: bytes
) -> None:
    """The form is the same: some clients write the two numbers in the other byte order."""
    body = record(0, b"O1", late("O1")) + record(1, b"O1", late("O1", paid_amount=7))
    block = bytes(cramjam.snappy.compress_raw(body))
    frame = b"\x82SNAPPY\0" + version + struct.pack("!i", len(block)) + block
    put_first(connection, "O1", batch(frame, 2, now_ms(), 2))
    worker = start()
    until(lambda: fined(connection), {"O1"}.__eq__, worker)
    assert "broken" not in worker.log
    found = until(lambda: values(connection, "dead-letter"), len, worker)
    assert [one["reason"] for one in found] == ["conflict"]


def bomb(order_id: str, count: int) -> bytes:
    """Return a batch of some kilobytes that inflates to eight megabytes a record."""
    packer = cramjam.zstd.Compressor(level=3)
    for place in range(count):
        value = late(order_id)[:-1] + b" " * int(7.9 * 2**20) + b"}"
        packer.compress(record(place, order_id.encode(), value))
    return batch(bytes(packer.finish()), count, now_ms(), 4)


def peak_bytes(worker: WorkerProcess) -> int:
    """Return the most memory a worker's processes had."""
    process = psutil.Process(worker.process.pid)
    found = 0
    for each in [process, *process.children(recursive=True)]:
        status = Path(f"/proc/{each.pid}/status").read_text()
        found += int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return found


def test_large_batch_within_the_limit_is_taken(
    connection: Connection, start: Callable[..., WorkerProcess]
) -> None:
    """Four records of almost the largest size, in a few kilobytes."""
    offset = put_first(connection, "O1", bomb("O1", 4))
    worker = start()
    until(lambda: fined(connection), {"O1"}.__eq__, worker)
    assert "ERROR" not in worker.log

    place = ("order-paid", str(PARTITION_OF(b"O1", PARTITIONS)), str(offset))
    app = ("--app-id", start.app_id)  # type: ignore[attr-defined]
    refused = shown(connection, "dead-letters", "skip", *place, *app)
    assert "can be read" in refused.exception.message
    skipped = shown(connection, "dead-letters", "skip", *place, *app, *LOW_LIMIT)
    assert skipped.exit_code == 0, skipped
    assert "more than 9999" in skipped.stdout


@pytest.mark.parametrize(
    ("topic", "command"),
    [("dead-letter", ["dead-letters"]), ("orders-changelog", ["explain", "O2"])],
)
def test_commands_inflate_no_more_than_the_setting_says(
    connection: Connection, topic: str, command: list[str]
) -> None:
    """As workers do: what is beyond it is left out, and reported."""
    letter = {
        "reason": "schema", "detail": "why", "raw": "",
        "source": {"topic": "first-scan", "partition": 0, "offset": 7, "timestamp": 1},
    }  # fmt: skip
    body = bytes(cramjam.zstd.compress(record(0, b"O1", raw(letter) + b" " * 10_000)))
    for partition in range(PARTITIONS):
        put(connection.bootstrap, TopicPartition(topic, partition), batch(body, 1, now_ms(), 4))
    within, beyond = shown(connection, *command), shown(connection, *command, *LOW_LIMIT)
    assert "left out" not in within.stderr
    assert "left out" in beyond.stderr, beyond


def test_bomb_holds_up_its_partition_alone_until_it_is_skipped(
    connection: Connection, start: Callable[..., WorkerProcess]
) -> None:
    """It is never inflated beyond the limit, it is told where it is, and nothing of it is lost."""
    here, there = order_of(0, "here"), order_of(1, "there")
    before, after = order_of(0, "before"), order_of(0, "after")
    send_late(connection, before)
    data = bomb(here, 30)
    assert len(data) < 20_000
    offset = put_first(connection, here, data)
    send_late(connection, after, there)
    worker = start("--metrics-port", "19973")
    # The last that was read before it waits as well: more of its instant might follow.
    until(lambda: fined(connection), {there}.__eq__, worker)
    until(lambda: worker.log, lambda log: "ERROR unreadable" in log, worker)
    time.sleep(6)
    told = [line for line in worker.log.splitlines() if "unreadable" in line]
    assert len(told) == 1, told
    for field in ("topic=order-paid", "partition=0", f"offset={offset}", "more than 67108864"):
        assert field in told[0]
    assert fined(connection) == {there}
    assert peak_bytes(worker) < 300 * 2**20
    metrics = scraped(19973)
    assert metrics['shipclock_lag_records{stage="orders"}'] >= 31
    assert metrics['shipclock_unreadable_batches{stage="orders"}'] == 1
    assert metrics['shipclock_failures_total{kind="unreadable",stage="orders"}'] >= 2

    place = ("dead-letters", "skip", "order-paid", "0")
    app = ("--app-id", start.app_id)  # type: ignore[attr-defined]
    refused = shown(connection, *place, str(offset + 30), *app)
    assert isinstance(refused.exception, UserError)
    assert "can be read" in refused.exception.message
    nowhere = shown(connection, "dead-letters", "skip", "order-paid", "9", "0", *app)
    assert isinstance(nowhere.exception, UserError)
    assert nowhere.exception.message == "order-paid has no partition 9"
    nobody = shown(connection, *place, str(offset), "--app-id", "nobody")
    assert isinstance(nobody.exception, UserError)
    assert nobody.exception.exit_code == 1
    assert nobody.exception.message.startswith("no worker with --app-id nobody has worked on ")
    worker.kill()
    skipped = shown(connection, *place, str(offset), *app)
    assert skipped.exit_code == 0, skipped
    assert f"offsets {offset}-{offset + 29} of order-paid[0]" in skipped.stdout
    assert "no worker runs" not in skipped.stderr
    again = shown(connection, *place, str(offset), *app)
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout.startswith(f"offsets {offset}-")
    assert "already skipped" in again.stdout
    worker = start()
    until(lambda: fined(connection), {before, there, after}.__eq__, worker)
    (letter,) = values(connection, "dead-letter")
    assert letter["reason"] == "unreadable"
    assert letter["source"]["offset"] == offset + 29
    # The broker has given it an offset and an epoch.
    assert base64.b64decode(letter["raw"])[61:] == data[61:]
    assert worker.stop() == 0
    worker = start()
    send_late(connection, order_of(0, "last"))
    until(lambda: fined(connection), lambda found: order_of(0, "last") in found, worker)
    assert len(values(connection, "dead-letter")) == 1


def scraped(port: int) -> dict[str, float]:
    """Return a worker's metrics by name and labels."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(number) for name, _, number in samples}


def misplaced(name: str) -> tuple[str, int]:
    """Return an order id and the other partition than its own."""
    order_id = order_of(0, name)
    return order_id, 1


def test_order_of_another_partitioner_is_reported_and_found(
    connection: Connection, start: Callable[..., WorkerProcess]
) -> None:
    """The commands go where it is; an order that is where it belongs is not disturbed."""
    order_id, other = misplaced("crc")
    put_at = TopicPartition("order-paid", other)
    put(
        connection.bootstrap,
        put_at,
        batch(record(0, order_id.encode(), late(order_id)), 1, now_ms()),
    )
    send_late(connection, order_of(1, "well"))
    worker = start("--metrics-port", "19974")
    until(lambda: fined(connection), {order_id, order_of(1, "well")}.__eq__, worker)
    (line,) = [line for line in worker.log.splitlines() if "ERROR wrong-partition" in line]
    for field in (
        "topic=order-paid", "records=1", f"key={order_id}", "partition=1", "expected=0",
        "partitioner=murmur2_random",
    ):  # fmt: skip
        assert field in line
    metrics = scraped(19974)
    counted = "shipclock_wrong_partition_records_total"
    assert metrics[f'{counted}{{topic="order-paid"}}'] == 1
    assert metrics[f'{counted}{{topic="exemption-granted"}}'] == 0

    explained = shown(connection, "explain", order_id)
    assert explained.exit_code == 0
    assert "is known in partition 1" in explained.stderr
    appealed = shown(connection, "appeal", f"{order_id}:late-scan:1", "granted")
    assert (appealed.exit_code, "not known" in appealed.stderr) == (0, False)
    revoked = until(
        lambda: [one for one in values(connection, "timeout") if one["type"].endswith("revoked")],
        len,
        worker,
    )
    assert [one["order_id"] for one in revoked] == [order_id]
    assert shown(connection, "exempt", "--id", "X1", "--waive", "--order", order_id).exit_code == 0
    (granted,) = asyncio.run(read(connection, ["exemption-granted"]))
    assert granted.partition == other
    unknown = shown(connection, "appeal", "nobody:late-scan:1", "granted")
    assert "1 order not known to any worker" in unknown.stderr


def test_records_of_another_partitioner_are_refused_where_that_is_set(
    connection: Connection, start: Callable[..., WorkerProcess]
) -> None:
    """Each becomes a dead letter, whatever topic it comes from; the others are judged."""
    order_id, other = misplaced("crc")
    key = order_id.encode()
    grant = exemption(scope={"order_ids": [order_id]})
    for topic, value in (
        ("order-paid", late(order_id)),
        ("first-scan", raw(scan(order_id, scanned_at=now_ms()))),
        ("exemption-granted", raw(grant | {"granted_at": now_ms()})),
    ):
        named = b"X1" if topic == "exemption-granted" else key
        body = record(0, named, value)
        put(connection.bootstrap, TopicPartition(topic, other), batch(body, 1, now_ms()))
    send_late(connection, order_of(1, "well"))
    worker = start("--refuse-wrong-partition")
    found = until(lambda: values(connection, "dead-letter"), lambda some: len(some) == 3, worker)
    assert {one["reason"] for one in found} == {"wrong-partition"}
    paid_letter = next(one for one in found if one["source"]["topic"] == "order-paid")
    assert json.loads(base64.b64decode(paid_letter["raw"]))["order_id"] == order_id
    assert f"the key {order_id} belongs in partition 0 of 2, not 1" in paid_letter["detail"]
    until(lambda: fined(connection), {order_of(1, "well")}.__eq__, worker)
