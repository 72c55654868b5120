"""`send`, `exempt`, `appeal` and `explain` on a real broker, the last with a real worker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from typer.testing import CliRunner

from streams.broker import EmbeddedBroker
from streams.cli.commands import program
from streams.codec.encode import encode_value
from streams.core.errors import UserError
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.instants import format_instant
from streams.core.facts.outputs import DeadLetter, Source
from streams.kafka.connection import Connection
from streams.kafka.errors import ClientError, clear_errors
from streams.kafka.topic_admin import ensure_topics
from streams.runtime import dead_letters, merged
from streams.runtime.batches import KeyPartitioner
from streams.runtime.lookup import look_up
from tests.integration.topics import delete_topics
from tests.unit.samples import HOUR_MS, VALUES, closed, exemption, line, paid, raw, scan, upload

pytestmark = pytest.mark.kafka

PARTITIONS = 3
Record = ConsumerRecord[bytes, bytes]


async def without_topics(bootstrap: str) -> None:
    """Delete our topics."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        await delete_topics(client)
    finally:
        await client.close()


@pytest.fixture
def bootstrap(broker: str) -> Iterator[str]:
    """Give the address of a broker with fresh topics, and leave none behind."""
    asyncio.run(without_topics(broker))
    asyncio.run(ensure_topics(Connection(broker), PARTITIONS))
    yield broker
    asyncio.run(without_topics(broker))


def run(bootstrap: str, *arguments: str, stdin: str | None = None) -> str:
    """Run a command that must succeed; return what it printed."""
    result = CliRunner().invoke(program(), [*arguments, "--bootstrap", bootstrap], input=stdin)
    assert result.exit_code == 0, result.exception
    return result.stdout


def failed(bootstrap: str, *arguments: str, stdin: str | None = None) -> UserError:
    """Run a command that must fail; return its error."""
    result = CliRunner().invoke(program(), [*arguments, "--bootstrap", bootstrap], input=stdin)
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
    assert (
        run(bootstrap, "send", "first-scan", f"@{file}") == "sent 3,000 events: first-scan 3,000\n"
    )
    assert [record.value for record in records(bootstrap, "first-scan")] == events
    file.write_bytes(b"\n".join([*events, b"nonsense"]))
    message = failed(bootstrap, "send", "first-scan", f"@{file}").message
    assert "line 3001: first-scan is refused as malformed" in message
    sent = len(records(bootstrap, "first-scan")) - 3000
    assert 0 < sent <= 3000
    assert message.endswith(f"({sent:,} events sent before)")


def test_an_exemption_reaches_every_partition_or_those_of_its_orders(bootstrap: str) -> None:
    """All copies are equal and were committed together."""
    output = run(bootstrap, "exempt", "--id", "X1", "--waive", "--region", "CN-XJ", "--yes")
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
    asyncio.run(without_topics(broker))
    for arguments in (["send", "first-scan", raw(scan()).decode()], ["explain", "O1"]):
        error = failed(broker, *arguments)
        assert error.message.endswith(" does not exist")
        assert error.hint == "shipclock topics create"
    asyncio.run(ensure_topics(Connection(broker), PARTITIONS))
    error = failed(broker, "explain", "O1")
    assert error.message == "order O1 is not known: no worker has judged its partition yet"
    asyncio.run(without_topics(broker))


@pytest.fixture
def worker(bootstrap: str, tmp_path: Path) -> Iterator[str]:
    """Give the address of a broker with a worker on it."""
    command = [sys.executable, "-m", "streams", "worker", "--bootstrap", bootstrap]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen([*command, "--app-id", "commands"], stdout=log, stderr=log)
        yield bootstrap
        process.terminate()
        process.wait(20)


def answered(bootstrap: str, answer: str, *arguments: str) -> tuple[int, str]:
    """Run a command in a terminal, answer its question; return exit code and all it wrote."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streams", *arguments, "--bootstrap", bootstrap]
    with os.fdopen(ours, "wb", buffering=0) as terminal:
        terminal.write(f"{answer}\n".encode())
        finished = subprocess.run(
            command, stdin=theirs, capture_output=True, text=True, timeout=60, check=False
        )
    os.close(theirs)
    return finished.returncode, finished.stdout + finished.stderr


def explained(bootstrap: str, order_id: str) -> dict[str, Any]:
    """Explain an order; empty while it is not known."""
    arguments = ["explain", order_id, "--json", "--bootstrap", bootstrap]
    result = CliRunner().invoke(program(), arguments)
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
    # The account follows the orders, and what is covered is counted from its state.
    wait_for(worker, lambda found, totals: totals.get("tenth-point:B") == 1)
    wide = ["exempt", "--id", "X1", "--extend-by", "72h", "--region", "CN-XJ"]
    code, shown = answered(worker, "n", *wide)
    assert code == 1
    assert "covers 2 known orders, and those to come that match: 3 violations of them" in shown
    assert " stand now, charged " in shown
    assert "0.3 B points\n" in shown
    assert "not confirmed" in shown
    assert records(worker, "exemption-granted") == []
    code, shown = answered(worker, "y", *wide)
    assert (code, "published to 3 of 3 partitions" in shown) == (0, True)
    wait_for(
        worker,
        lambda found, totals: (
            not any(one["standing"] for one in found) and not any(totals.values())
        ),
    )
    # The state is read before the outputs, so that the first look may not have had it yet.
    (step,) = explained(worker, "O1")["kinds"][0]["exemptions"]
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


# Dead letters

GARBAGE = b"\x1b[2J{\xff"


def letters(bootstrap: str, *options: str) -> list[Any]:
    """List dead letters as JSON."""
    return [
        json.loads(one) for one in run(bootstrap, "dead-letters", "--json", *options).splitlines()
    ]


async def put(bootstrap: str, *records: tuple[str, bytes | None, bytes | None]) -> None:
    """Write records as a careless producer would: topic, key, value."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for topic, key, value in records:
            await producer.send_and_wait(topic, value, key, home("O1"))


def test_an_explanation_is_of_one_moment(bootstrap: str) -> None:
    """What is written while it is read stays out: outputs would know more than the state does."""
    source = Source(offset=0, partition=0, timestamp=1, topic="first-scan")
    letter = DeadLetter(detail="bad", raw="", reason="schema", source=source)
    refused = ("dead-letter", b"O1", encode_value(letter))
    asyncio.run(put(bootstrap, refused, ("orders-changelog", b"O2", None)))
    written = threading.Event()

    def write(_done: int, _total: int) -> None:
        if not written.is_set():
            written.set()
            thread = threading.Thread(target=lambda: asyncio.run(put(bootstrap, refused)))
            thread.start()
            thread.join()

    evidence = asyncio.run(look_up(Connection(bootstrap), "O1", write, pytest.fail))
    assert written.is_set()
    assert len(evidence.dead_letters) == 1


def wait_for_letters(bootstrap: str, count: int) -> list[Any]:
    """Wait until there are so many."""
    deadline_s = time.monotonic() + 60
    while len(found := letters(bootstrap)) < count:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.3)
    return found


@pytest.mark.timeout(180)
def test_a_dead_letter_is_repaired_and_judged(worker: str, tmp_path: Path) -> None:
    """Garbage is listed, an order that lacked its shop is exported, repaired, sent and fined."""
    placed_at = now_ms() - 73 * HOUR_MS
    order = paid(placed_at=placed_at, paid_at=placed_at)
    unfit = raw({name: order[name] for name in order if name != "shop_id"})
    known = paid("O11", placed_at=placed_at, paid_at=placed_at)
    asyncio.run(
        put(
            worker,
            ("order-paid", b"O1", unfit),
            ("first-scan", b"\xff\x1b[31m", GARBAGE),
            ("first-scan", b"O1", None),
            ("first-scan", b"O2", raw(scan("O1", scanned_at=now_ms()))),
            ("order-paid", b"O11", raw(known)),
            ("order-paid", b"O11", raw(known | {"paid_amount": 1})),
        )
    )
    found = wait_for_letters(worker, 5)
    by_reason = {one["reason"]: one for one in found}
    assert sorted(one["reason"] for one in found) == (
        ["conflict", "malformed", "malformed", "schema", "wrong-key"]
    )
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)
    assert by_reason["schema"]["raw"] == unfit.decode()
    assert {one.get("raw_base64") for one in found} == {None, base64.b64encode(GARBAGE).decode()}
    assert "\x1b" not in (told := run(worker, "dead-letters"))
    assert len(told.splitlines()) == 5
    counts = run(worker, "dead-letters", "--by", "reason").splitlines()
    assert counts[0].split() == ["2", "malformed"]
    (count,) = [
        one["count"] for one in letters(worker, "--by", "topic") if one["topic"] == "first-scan"
    ]
    assert count == 3

    # The filters choose by what a line shows.
    latest = found[-1]["at"]
    assert letters(worker, "--reason", "schema") == [by_reason["schema"]]
    assert len(letters(worker, "--topic", "order-paid")) == 2
    assert letters(worker, "--limit", "2") == found[-2:]
    since = letters(worker, "--since", str(latest))
    assert since == [one for one in found if one["at"] >= latest]
    assert letters(worker, "--until", str(latest)) + since == found

    # Unrepaired, it is refused before it is sent.
    file = tmp_path / "repaired.jsonl"
    file.write_text(run(worker, "dead-letters", "export", "--reason", "schema"))
    error = failed(worker, "dead-letters", "resend", str(file))
    assert error.message == f"{file}: 1 of 1 lines would be refused again; nothing was sent"

    one = json.loads(file.read_text())
    one["value"]["shop_id"] = "S9"
    file.write_text(json.dumps(one) + "\n")
    for again in ([], ["--again"]):  # twice: the same fact again changes nothing
        resent = run(worker, "dead-letters", "resend", str(file), *again)
        assert resent == "sent 1 event again: order-paid 1\n"
        error = failed(worker, "dead-letters", "resend", str(file))
        assert error.message == f"{file}: 1 of 1 lines was sent again before; nothing was sent"
    explanation = wait_for(worker, lambda found, totals: found[0]["standing"])
    assert explanation["order"]["shop_id"] == "S9"
    first = explanation["kinds"][0]["determinations"][0]
    assert first["due"] == first["history"][0]["determined_at"] == placed_at + 72 * HOUR_MS

    origin = by_reason["schema"]["source"]
    place = f"order-paid:{origin['partition']}:{origin['offset']}"
    headers = [one.headers for one in records(worker, "order-paid") if one.headers]
    assert headers == [(("shipclock-resent-from", place.encode()),)] * 2

    # The letter is as it was; the time of the last sending stands beside it.
    sent_at = max(one.timestamp for one in records(worker, "order-paid") if one.headers)
    (marked,) = letters(worker, "--resent")
    assert marked == by_reason["schema"] | {"resent_at": sent_at}
    assert {one["resent_at"] for one in letters(worker, "--unresent")} == {None}
    assert len(letters(worker, "--unresent")) == 4
    (told,) = run(worker, "dead-letters", "--reason", "schema").splitlines()
    assert told.endswith(f"  resent {format_instant(sent_at)}")
    exported = json.loads(run(worker, "dead-letters", "export", "--reason", "schema"))
    assert exported["resent_at"] == sent_at
    refused = json.loads(run(worker, "explain", "O1", "--json"))["refused"]
    assert {one["reason"]: one["resent_at"] for one in refused} == (
        {"schema": sent_at, "malformed": None}
    )
    assert f"; resent {format_instant(sent_at)}" in run(worker, "explain", "O1")
    run(worker, "send", "order-closed", raw(closed(closed_at=placed_at)).decode())
    wait_for(worker, lambda found, totals: not found[0]["standing"])
    assert len(letters(worker)) == 5


def test_a_letter_without_its_topic_of_marks_is_listed_and_not_resent(
    bootstrap: str, tmp_path: Path
) -> None:
    """A cluster of an older version: nothing is sent that could not be marked."""

    async def fill() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await delete_topics(admin, "resent-letters")
        await admin.close()
        source = Source(offset=0, partition=0, timestamp=1, topic="first-scan")
        letter = DeadLetter(detail="bad", raw="", reason="schema", source=source)
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send_and_wait("dead-letter", encode_value(letter), partition=0)

    asyncio.run(fill())
    (found,) = letters(bootstrap)
    assert found["resent_at"] is None
    file = tmp_path / "repaired.jsonl"
    one = json.loads(run(bootstrap, "dead-letters", "export")) | {"value": scan()}
    file.write_text(json.dumps(one))
    for again in ([], ["--again"]):
        error = failed(bootstrap, "dead-letters", "resend", str(file), *again)
        assert error.message == "topic resent-letters does not exist"
        assert error.hint == "shipclock topics create"
    assert records(bootstrap, "first-scan") == []


def test_a_silent_answer_of_a_live_broker_is_not_told_as_an_absent_broker(broker: str) -> None:
    """What is late then is one partition's leader, or a topic in deletion."""

    async def wait_in_vain() -> None:
        async with clear_errors(Connection(broker)):
            raise TimeoutError

    with pytest.raises(ClientError, match="answers, but not in time to all that was asked"):
        asyncio.run(wait_in_vain())


def test_a_record_at_the_same_place_of_a_recreated_topic_is_not_marked(
    bootstrap: str, tmp_path: Path
) -> None:
    """Its offset is that of a letter that was resent; its timestamp is not."""
    file = tmp_path / "repaired.jsonl"

    async def refuse(timestamp: int) -> None:
        source = Source(offset=0, partition=0, timestamp=timestamp, topic="first-scan")
        letter = DeadLetter(detail="bad", raw="", reason="schema", source=source)
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send_and_wait("dead-letter", encode_value(letter), partition=0)

    asyncio.run(refuse(1))
    one = json.loads(run(bootstrap, "dead-letters", "export")) | {"value": scan()}
    file.write_text(json.dumps(one))
    run(bootstrap, "dead-letters", "resend", str(file))
    asyncio.run(refuse(2))
    marked, later = letters(bootstrap)
    assert (marked["resent_at"] is None, later["resent_at"]) == (False, None)
    one = json.loads(run(bootstrap, "dead-letters", "export", "--unresent")) | {"value": scan()}
    file.write_text(json.dumps(one))
    assert run(bootstrap, "dead-letters", "resend", str(file)).startswith("sent 1 event again")


def test_dead_letters_are_read_in_order_as_far_as_they_are_committed(bootstrap: str) -> None:
    """Over all partitions; aborted ones are not shown, strange records are left out and told."""

    async def fill() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=bootstrap, transactional_id="letters"
        ) as producer:
            for number in range(60):
                await producer.begin_transaction()
                value = encode_value(
                    DeadLetter(
                        detail=f"the {number}.",
                        raw=base64.b64encode(b"x" * 100_000).decode(),
                        reason="schema",
                        source=Source(offset=number, partition=0, timestamp=1, topic="first-scan"),
                    )
                )
                await producer.send_and_wait("dead-letter", value, partition=number % PARTITIONS)
                if number % 3 == 2:
                    await producer.abort_transaction()
                else:
                    await producer.commit_transaction()
            async with producer.transaction():
                await producer.send_and_wait("dead-letter", b"strange", partition=0)
                await producer.send_and_wait("dead-letter", None, b"key", partition=1)

    asyncio.run(fill())
    result = CliRunner().invoke(program(), ["dead-letters", "--bootstrap", bootstrap])
    assert result.exit_code == 0
    committed = [f"the {number}." for number in range(60) if number % 3 != 2]
    assert [line[line.index("the ") :] for line in result.stdout.splitlines()] == committed
    assert result.stderr == "note: left out 2 records that this shipclock cannot read\n"
    newest = run(bootstrap, "dead-letters", "export", "--limit", "2").splitlines()
    assert [json.loads(line)["origin"]["offset"] for line in newest] == [57, 58]
    assert all(json.loads(line)["raw"] == "x" * 100_000 for line in newest)


def test_a_broker_that_goes_away_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it reads: no traceback, and no waiting for ever."""
    monkeypatch.setattr(merged, "_PATIENCE_S", 2.0)

    async def read(broker: EmbeddedBroker) -> None:
        async with aclosing(dead_letters.dead_letters(Connection(broker.bootstrap))) as found:
            assert await anext(found) is None
            broker.kill()
            async for _ in found:
                pass

    async def fill(bootstrap: str) -> None:
        await ensure_topics(Connection(bootstrap), 1)
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for _ in range(40):
                await producer.send_and_wait("dead-letter", os.urandom(900_000), partition=0)

    with EmbeddedBroker(tmp_path / "broker") as broker:
        asyncio.run(fill(broker.bootstrap))
        with pytest.raises(ClientError, match=f"no Kafka broker answers at {broker.bootstrap}"):
            asyncio.run(read(broker))


def test_what_is_sent_may_still_be_refused_and_it_is_said_where(bootstrap: str) -> None:
    """Beside the output of every command that publishes."""
    for arguments in (
        ["send", "first-scan", raw(scan()).decode()],
        ["appeal", "O1:late-scan:1", "granted"],
        ["exempt", "--id", "X1", "--waive", "--order", "O1"],
    ):
        result = CliRunner().invoke(program(), [*arguments, "--bootstrap", bootstrap])
        assert result.exit_code == 0
        assert result.stderr.startswith("note: a worker may still refuse it, as conflict")
        assert "shipclock dead-letters" in result.stderr
    result = CliRunner().invoke(
        program(), ["send", "first-scan", "--bootstrap", bootstrap], input=""
    )
    assert (result.stdout, result.stderr) == ("sent 0 events\n", "")
