"""`send`, `exempt`, `appeal` and `explain` on a real broker, the last with a real worker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from typer.testing import CliRunner

from streams.cli import app
from streams.cli.errors import UserError
from streams.core.events import INPUT_TOPICS
from streams.runtime.batches import KeyPartitioner
from streams.topics.admin import ensure_topics, planned_topics
from tests.unit.samples import HOUR_MS, VALUES, exemption, line, paid, raw, scan, upload

pytestmark = pytest.mark.kafka

PARTITIONS = 3
TOPICS = [file.topic for file in planned_topics()]
Record = ConsumerRecord[bytes, bytes]


async def delete_topics(bootstrap: str) -> None:
    """Delete our topics and wait until the broker has forgotten them."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        while found := [topic for topic in await client.list_topics() if topic in TOPICS]:
            await client.delete_topics(found)
            await asyncio.sleep(0.1)
    finally:
        await client.close()


@pytest.fixture
def bootstrap(broker: str) -> Iterator[str]:
    """Give the address of a broker with fresh topics, and leave none behind."""
    asyncio.run(delete_topics(broker))
    asyncio.run(ensure_topics(broker, PARTITIONS))
    yield broker
    asyncio.run(delete_topics(broker))


def run(bootstrap: str, *arguments: str, stdin: str | None = None) -> str:
    """Run a command that must succeed; return what it printed."""
    result = CliRunner().invoke(app, [*arguments, "--bootstrap", bootstrap], input=stdin)
    assert result.exit_code == 0, result.exception
    return result.output


def failed(bootstrap: str, *arguments: str, stdin: str | None = None) -> UserError:
    """Run a command that must fail; return its error."""
    result = CliRunner().invoke(app, [*arguments, "--bootstrap", bootstrap], input=stdin)
    assert isinstance(result.exception, UserError), result
    return result.exception


def records(bootstrap: str, topic: str) -> list[Record]:
    """Read what has been committed to a topic, partition by partition."""

    async def read() -> list[Record]:
        found: list[Record] = []
        async with AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        ) as consumer:
            places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(tp) < ends[tp] for tp in places]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
        return sorted(found, key=lambda record: (record.partition, record.offset))

    return asyncio.run(read())


def home(order_id: str) -> int:
    """Return an order's partition."""
    return KeyPartitioner()(order_id.encode(), PARTITIONS)


def now_ms() -> int:
    """Return the machine's time."""
    return time.time_ns() // 1_000_000


def test_events_arrive_with_key_partition_and_timestamp(bootstrap: str, tmp_path: Path) -> None:
    """From arguments, from a file of one event, from lines, the bytes as they were given."""
    one, two = raw(paid("O1", note="kept")).decode(), json.dumps(paid("O2"), indent=1)
    file = tmp_path / "two.json"
    file.write_text(two)
    before_ms = now_ms()
    assert run(bootstrap, "send", "order-paid", one, f"@{file}") == "sent 2 events: order-paid 2\n"
    third = raw(paid("O3")).decode()
    at = ["--timestamp", "2022-12-07T00:00:00+08:00"]
    assert run(bootstrap, "send", "order-paid", *at, stdin=f"{third}\n\n{one}") == (
        "sent 2 events: order-paid 2\n"
    )
    found = records(bootstrap, "order-paid")
    assert sorted((record.key, record.value.decode()) for record in found) == sorted(
        [(b"O1", one), (b"O1", one), (b"O2", two), (b"O3", third)]
    )
    assert all(record.partition == home(record.key.decode()) for record in found)
    assert [record.timestamp for record in found if record.key == b"O3"] == [1_670_342_400_000]
    (stamped,) = [record.timestamp for record in found if record.key == b"O2"]
    assert before_ms <= stamped <= now_ms()


def test_a_log_is_sent_topic_by_topic_with_its_timestamps(bootstrap: str, tmp_path: Path) -> None:
    """A file of `simulate` reaches all input topics; partition and key are found anew."""
    file = tmp_path / "events.jsonl"
    lines = [
        line(topic, value, partition=1, key="x")
        for topic, value in zip(INPUT_TOPICS, VALUES, strict=True)
    ]
    file.write_bytes(b"\n".join(lines))
    assert run(bootstrap, "send", "--events", str(file)).startswith("sent 7 events: order-paid 1, ")
    for topic, value in zip(INPUT_TOPICS, VALUES, strict=True):
        found = records(bootstrap, topic)
        everywhere = topic == "exemption-granted"
        assert len(found) == (PARTITIONS if everywhere else 1)
        for record in found:
            assert json.loads(record.value) == value
            assert record.key == (b"X1" if everywhere else b"O1")
            assert record.timestamp == 1_670_315_340_000


def test_a_refused_event_keeps_its_whole_batch_back(bootstrap: str) -> None:
    """The line is named; nothing that came with it is sent."""
    good = raw(scan()).decode()
    error = failed(bootstrap, "send", "first-scan", "-", stdin=f"{good}\n{good}\n{{}}\n")
    assert error.message == (
        "-: line 3: first-scan is refused as schema: Object missing required field `order_id`"
    )
    assert error.exit_code == 2
    assert records(bootstrap, "first-scan") == []


def test_many_lines_are_sent_in_order(bootstrap: str, tmp_path: Path) -> None:
    """More than a batch; a refused line at the end tells what went before it."""
    file = tmp_path / "many.jsonl"
    pad = "x" * 900
    events = [raw(scan("O1", tracking_number=f"T{n}", note=pad)) for n in range(3000)]
    file.write_bytes(b"\n".join(events))
    assert run(bootstrap, "send", "first-scan", f"@{file}") == "sent 3000 events: first-scan 3000\n"
    assert [record.value for record in records(bootstrap, "first-scan")] == events
    file.write_bytes(b"\n".join([*events, b"nonsense"]))
    message = failed(bootstrap, "send", "first-scan", f"@{file}").message
    assert "line 3001: first-scan is refused as malformed" in message
    sent = len(records(bootstrap, "first-scan")) - 3000
    assert 0 < sent <= 3000
    assert message.endswith(f"({sent} events sent before)")


def test_an_exemption_reaches_every_partition_or_those_of_its_orders(bootstrap: str) -> None:
    """All copies are equal and were committed together."""
    output = run(bootstrap, "exempt", "--id", "X1", "--waive", "--region", "CN-XJ")
    assert output.startswith("exemption X1: published to 3 of 3 partitions, at once\n")
    found = records(bootstrap, "exemption-granted")
    assert [record.partition for record in found] == [0, 1, 2]
    assert len({(record.key, record.value, record.timestamp) for record in found}) == 1
    printed = json.loads(output.splitlines()[1])
    assert json.loads(found[0].value) == printed
    assert printed["scope"] == {"regions": ["CN-XJ"]}
    assert printed["granted_at"] == found[0].timestamp

    orders = ["--order", "O1", "--order", "O1"]
    output = run(bootstrap, "exempt", "--id", "X2", "--extend-by", "24h", *orders)
    assert output.startswith("exemption X2: published to 1 of 3 partitions")
    of_orders = [one for one in records(bootstrap, "exemption-granted") if one.key == b"X2"]
    assert [record.partition for record in of_orders] == [home("O1")]


def test_an_event_larger_than_its_topic_takes_is_one_clear_line(bootstrap: str) -> None:
    """The transaction is aborted: nothing is left for readers to wait for."""
    large = raw(paid(note="x" * 1_200_000)).decode()
    error = failed(bootstrap, "send", "order-paid", raw(paid("O2")).decode(), large)
    assert error.message == f"the broker at {bootstrap} refuses an event as too large"
    assert records(bootstrap, "order-paid") == []
    run(bootstrap, "send", "order-paid", raw(paid("O2")).decode())
    assert len(records(bootstrap, "order-paid")) == 1
    many = [f"O{number:06}" for number in range(50_000)]
    wide = raw(exemption(scope={"order_ids": many})).decode()
    assert run(bootstrap, "send", "exemption-granted", "-", stdin=wide).startswith("sent 1 event:")


def test_missing_topics_and_workers_are_told(broker: str) -> None:
    """What to do first stands in the hint."""
    asyncio.run(delete_topics(broker))
    for arguments in (["send", "first-scan", raw(scan()).decode()], ["explain", "O1"]):
        error = failed(broker, *arguments)
        assert error.message.endswith(" does not exist")
        assert error.hint == "shipclock topics create"
    asyncio.run(ensure_topics(broker, PARTITIONS))
    error = failed(broker, "explain", "O1")
    assert error.message == "order O1 is not known: no worker has judged its partition yet"
    asyncio.run(delete_topics(broker))


@pytest.fixture
def worker(bootstrap: str, tmp_path: Path) -> Iterator[str]:
    """Give the address of a broker with a worker on it."""
    command = [sys.executable, "-m", "streams", "worker", "--bootstrap", bootstrap]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen([*command, "--app-id", "commands"], stdout=log, stderr=log)
        yield bootstrap
        process.terminate()
        process.wait(20)


def explained(bootstrap: str, order_id: str) -> dict[str, Any]:
    """Explain an order; empty while it is not known."""
    arguments = ["explain", order_id, "--json", "--bootstrap", bootstrap]
    result = CliRunner().invoke(app, arguments)
    return json.loads(result.output) if result.exit_code == 0 else {}


def wait_for(
    bootstrap: str, condition: Callable[[list[Any], dict[str, int]], bool]
) -> dict[str, Any]:
    """Wait until what is said of O1's determinations and of the journal's sums is so."""
    deadline_s, explanation = time.monotonic() + 60, {}
    while time.monotonic() < deadline_s:
        explanation = explained(bootstrap, "O1")
        if explanation and condition(
            explanation["kinds"][0]["determinations"], explanation["totals"]
        ):
            return explanation
        time.sleep(0.3)
    raise AssertionError(explanation)


@pytest.mark.timeout(180)
def test_an_order_is_explained_from_what_a_worker_wrote(worker: str, tmp_path: Path) -> None:
    """Fined, appealed, exempted: each step of a seller's story is read back from the logs."""
    placed_at = now_ms() - 97 * HOUR_MS
    times = {"placed_at": placed_at, "paid_at": placed_at, "region": "CN-XJ"}
    file = tmp_path / "events.jsonl"
    lines = [
        line("order-paid", paid(**times)),
        line("order-paid", paid("O11", **times)),
        line("tracking-number-uploaded", upload(uploaded_at=placed_at + HOUR_MS)),
        line("first-scan", scan("O3", scanned_at=placed_at)),
    ]
    file.write_bytes(b"\n".join(lines))
    run(worker, "send", "--events", str(file))
    # The first was due 25 hours ago, so its day is settled; the second's may be or not.
    explanation = wait_for(
        worker,
        lambda found, totals: totals.get("tenth-point:B") == 2 and totals.get("CNY", 0) >= 1000,
    )
    first, second, third = explanation["kinds"][0]["determinations"]
    assert [one["standing"] for one in (first, second, third)] == [True, True, False]
    assert first["due"] == placed_at + 72 * HOUR_MS
    assert [charge["status"] for charge in first["charges"]] == ["charged", "charged"]
    assert second["charges"][0]["status"] == "charged"
    assert second["charges"][1]["status"] in ("charged", "settles")
    assert third["expected"] == "pending"
    entries = [entry for charge in first["charges"] for entry in charge["entries"]]
    assert {entry["order_id"] for entry in entries} == {"O1"}
    told = run(worker, "explain", "O1")
    assert told.startswith("Order O1 of shop S1: 2 late-scan violations stand, charged ")

    run(worker, "appeal", "O1:late-scan:1", "granted")
    wait_for(worker, lambda found, totals: not found[0]["standing"])
    run(worker, "exempt", "--id", "X1", "--extend-by", "72h", "--region", "CN-XJ")
    explanation = wait_for(
        worker,
        lambda found, totals: (
            not any(one["standing"] for one in found) and not any(totals.values())
        ),
    )
    (step,) = explanation["kinds"][0]["exemptions"]
    assert (step["exemption_id"], step["covers"]) == ("X1", True)
    told = run(worker, "explain", "O1")
    assert "revoked, revision 1: appeal A-O1:late-scan:1" in told
    assert "revoked, revision 1: exemption X1" in told

    waiting = failed(worker, "explain", "O3")
    assert waiting.message == (
        "order O3 is not known: facts wait for it (first-scan), but no order-paid has come"
    )
    run(worker, "send", "order-paid", raw(paid("O4")).decode())
    deadline_s = time.monotonic() + 30
    while "was refused" not in (error := failed(worker, "explain", "O4")).message:
        assert time.monotonic() < deadline_s, error.message
        time.sleep(0.3)
    assert error.message.startswith("order O4 is not known: its order-paid was refused: too-late")
