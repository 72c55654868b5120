"""Publishing: what is checked, where it goes, how lines are read, and what wrong usage says."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from aiokafka.partitioner import DefaultPartitioner
from typer.testing import CliRunner

from streams.cli.commands import program
from streams.cli.publishing import checked, logged
from streams.codec.decode import Decoder, Refused
from streams.core.errors import UserError
from streams.core.facts.inputs import INPUT_TOPICS, INPUTS
from streams.runtime import lines
from streams.runtime.batches import KeyPartitioner
from streams.runtime.lines import LineTooLongError, line_batches
from streams.runtime.publish import InputEvent, prepare, targets
from tests.unit.samples import PLACED_AT, POLICY, VALUES, exemption, line, paid, raw, scan

DECODER = Decoder(POLICY)


def failed(arguments: Sequence[str], stdin: str | None = None) -> UserError:
    """Run a command that must fail without a broker being asked."""
    result = CliRunner().invoke(program(), [*arguments, "--bootstrap", "127.0.0.1:1"], input=stdin)
    assert isinstance(result.exception, UserError), result
    return result.exception


# Events


@pytest.mark.parametrize("rank", range(len(INPUT_TOPICS)), ids=INPUT_TOPICS)
def test_every_event_is_keyed_by_its_order_or_exemption(rank: int) -> None:
    """The bytes are published as they are, under the key a worker wants."""
    topic, value = INPUT_TOPICS[rank], raw(VALUES[rank] | {"unknown": [1.5]})
    event = prepare(DECODER, topic, value, PLACED_AT)
    key = b"X1" if topic == "exemption-granted" else b"O1"
    assert event == InputEvent(topic, key, value, PLACED_AT)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "malformed"),
        (b"[" * 100_000, "malformed"),
        (b"[]", "schema"),
        (b'{"order_id": 1}', "schema"),
        (raw(scan(order_id="O:1")), "schema"),
        (raw(scan(scanned_at=PLACED_AT + 300_001)), "time-in-future"),
        (raw(scan(scanned_at=946_656_000_000)), "invalid"),
    ],
)
def test_what_a_worker_refuses_is_refused_before(value: bytes, reason: str) -> None:
    """The same decoder decides here and there."""
    with pytest.raises(Refused) as refused:
        prepare(DECODER, "first-scan", value, PLACED_AT)
    assert refused.value.reason == reason


def test_a_refusal_says_which_field_and_what_is_needed() -> None:
    """One line with the path of the field, and the fields of the event as a hint."""
    with pytest.raises(UserError) as error:
        checked(DECODER, "first-scan", raw(scan(carrier=7)), PLACED_AT)
    assert error.value.message == (
        "first-scan is refused as schema: Expected `str`, got `int` - at `$.carrier`"
    )
    assert error.value.hint == "first-scan needs order_id, tracking_number, carrier, scanned_at"
    assert error.value.exit_code == 2


# Partitions


def test_a_fact_goes_where_kafkas_partitioner_puts_its_key() -> None:
    """Producers of other languages and we agree."""
    for number in range(50):
        event = prepare(DECODER, "order-paid", raw(paid(f"O{number}")), PLACED_AT)
        expected = DefaultPartitioner()(event.key, list(range(7)), [])
        assert targets(event, 7, KeyPartitioner()) == [expected]


def test_an_exemption_goes_to_all_partitions_or_those_of_its_orders() -> None:
    """Each partition once, in order; a list of no orders covers none, and goes anywhere once."""

    def places(**scope: object) -> list[int]:
        event = prepare(DECODER, "exemption-granted", raw(exemption(scope=scope)), PLACED_AT)
        return targets(event, 5, KeyPartitioner())

    partitioner = DefaultPartitioner()
    assert places(shop_ids=["S1"]) == [0, 1, 2, 3, 4]
    order_ids = ["O1", "O2", "O3", "O1"]
    expected = {partitioner(one.encode(), list(range(5)), []) for one in order_ids}
    assert places(order_ids=order_ids, shop_ids=["S1"]) == sorted(expected)
    assert len(places(order_ids=[])) == 1


# Lines


def read(stream: io.BufferedIOBase) -> list[list[tuple[int, bytes]]]:
    """Read all batches of a stream."""

    async def batches() -> list[list[tuple[int, bytes]]]:
        return [batch async for batch in line_batches(stream)]

    return asyncio.run(batches())


def test_lines_keep_their_numbers_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines may be cut anywhere; empty ones count but are left out, the last needs no newline."""
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 3)
    batches = read(io.BytesIO(b"one\n\ntwo and more\n  \nthree"))
    assert [line for batch in batches for line in batch] == [
        (1, b"one"),
        (3, b"two and more"),
        (5, b"three"),
    ]


def test_a_pipe_is_read_as_it_comes() -> None:
    """What was written is passed on before the writer has ended."""

    async def first_batch(source: int, sink: int) -> list[tuple[int, bytes]]:
        with os.fdopen(source, "rb") as stream, os.fdopen(sink, "wb", buffering=0) as writer:
            writer.write(b"one\ntw")
            async with asyncio.timeout(10):
                return await anext(line_batches(stream))
        raise AssertionError

    assert asyncio.run(first_batch(*os.pipe())) == [(1, b"one")]


def test_an_endless_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded whatever comes."""
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 10)
    monkeypatch.setattr(lines, "_LINE_BYTES_MAX", 20)
    with pytest.raises(LineTooLongError, match="line 2 is longer than any event may be"):
        read(io.BytesIO(b"one\n" + b"x" * 50))


@pytest.mark.parametrize("rank", range(len(INPUT_TOPICS)), ids=INPUT_TOPICS)
def test_a_line_of_a_log_has_its_timestamp_or_the_events_own(rank: int) -> None:
    """As `simulate` reads it, whatever partition or key it names."""
    topic, value = INPUT_TOPICS[rank], VALUES[rank]
    own_time = value[INPUTS[rank].own_time]
    assert logged(line(topic, value)) == (topic, raw(value), own_time)
    named = line(topic, value, timestamp=own_time + 1, partition=3, key="x")
    assert logged(named) == (topic, raw(value), own_time + 1)


def test_a_line_with_a_misspelt_field_is_refused() -> None:
    """As `simulate` refuses it: its timestamp would be another."""
    with pytest.raises(UserError, match=r"not an event line: .* unknown field `tmestamp`"):
        logged(b'{"topic": "first-scan", "tmestamp": 5, "value": {}}')


def test_a_line_whose_value_cannot_be_read_is_left_to_the_check() -> None:
    """It says what is wrong, whatever the value holds."""
    value = b'{"scanned_at":' + b"9" * 5_000 + b"}"
    with pytest.raises(UserError, match="first-scan is refused as malformed: "):
        checked(DECODER, *logged(b'{"topic":"first-scan","value":' + value + b"}"))


def test_a_line_of_raw_text_is_what_its_text_says() -> None:
    """As `simulate` takes it: an event is sent, what is not JSON is refused for that."""
    text = raw(scan()).decode()
    made = logged(msgspec.json.encode({"topic": "first-scan", "raw": text}))
    assert checked(DECODER, *made) == checked(DECODER, *logged(line("first-scan", scan())))
    broken = logged(b'{"topic": "first-scan", "raw": "{", "timestamp": 5}')
    assert broken == ("first-scan", b"{", 5)
    with pytest.raises(UserError, match="first-scan is refused as malformed: "):
        checked(DECODER, *broken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not an event line: Input data was truncated"),
        (
            b'{"topic": "first-scan"}',
            "there is no `value`",
        ),
        (b'{"topic": "first-scam", "value": {}}', "first-scam is no input topic"),
        (line("x" * 1_000_000, {}), "^x{60}… is no input topic"),
        (
            b'{"topic": "first-scan", "value": {}, "timestamp": -1}',
            "not an event line: .*timestamp",
        ),
    ],
)
def test_what_is_no_line_of_a_log_is_told(text: bytes, message: str) -> None:
    """A person who mixed up two kinds of file is told at once."""
    with pytest.raises(UserError, match=message):
        logged(text)


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["send"], "give either a TOPIC or --events"),
        (["send", "first-scan", "--events", "x"], "give either a TOPIC or --events"),
        (["send", "first-scam", "{}"], "first-scam is no input topic"),
        (["send", "--events", "x", "--timestamp", "1"], "--timestamp needs a TOPIC"),
        (["send", "first-scan", "{}", "--timestamp", "noon"], "--timestamp: 'noon' is not a time"),
        (["appeal", "O1", "granted"], "'O1' is not a valid violation_id"),
        (["appeal", "O1:late-scan:4", "granted"], "appeal-decided is refused as invalid: .*"),
        (["exempt", "--id", "X1", "--waive"], "an exemption needs a scope, or --all-orders.*"),
        (["exempt", "--id", "X1", "--waive", "--all-orders"], "an exemption without --order .*"),
        (["exempt", "--id", "X1", "--waive", "--shop", "S1"], "an exemption without --order .*"),
        (
            ["exempt", "--id", "X1", "--waive", "--all-orders", "--shop", "S1"],
            "an exemption needs a scope, or --all-orders.*",
        ),
        (["exempt", "--id", "X1", "--shop", "S1"], "an exemption does one thing"),
        (
            ["exempt", "--id", "X1", "--shop", "S1", "--waive", "--extend-by", "1h"],
            "an exemption does one thing",
        ),
        (["exempt", "--id", "X1", "--shop", "S1", "--extend-by", "1"], "--extend-by: '1' is .*"),
        (["exempt", "--id", "X1", "--shop", "S1", "--extend-to", "1st"], "--extend-to: '1st' .*"),
        (
            ["exempt", "--id", "X1", "--waive", "--shop", "S1", "--kind", "late"],
            "--kind: there is no late",
        ),
        (["exempt", "--id", "X1", "--waive", "--mode", "slow"], "--mode: there is no slow"),
        (
            ["exempt", "--id", "X1", "--waive", "--paid-from", "2", "--paid-until", "1"],
            "--paid-from lies after --paid-until",
        ),
        (["exempt", "--id", "X:1", "--waive", "--shop", "S1"], "exemption-granted is refused.*"),
        (["explain", "O1", "--until", "1"], "--until needs --events"),
        (["explain", "O1", "--sort"], "--sort needs --events"),
        (["explain", "O1", "--events", "nowhere"], "nowhere: No such file or directory"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_hint(arguments: list[str], message: str) -> None:
    """It is told before a broker is asked."""
    error = failed(arguments)
    assert error.exit_code == 2
    assert error.hint
    with pytest.raises(UserError, match=f"^{message}$"):
        raise error


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "first-scan", raw(scan()).decode()],
        ["appeal", "O1:late-scan:1", "granted"],
        ["exempt", "--id", "X1", "--waive", "--all-orders", "--yes"],
        ["explain", "O1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_broker_that_is_not_there_is_one_clear_line(arguments: list[str]) -> None:
    """Exit 1, soon, with what to do."""
    error = failed(arguments)
    assert error.exit_code == 1
    assert error.message == "no Kafka broker answers at 127.0.0.1:1"
    assert error.hint
    assert "bootstrap" in error.hint


def test_a_dry_run_prints_the_event_a_worker_takes() -> None:
    """Options become an event; it can be piped into `send`."""
    arguments = (
        "exempt --id X1 --extend-by 36h --order O1 --order O2 --mode express --mode normal "
        "--paid-from 2022-12-06T16:29:00+08:00 --deadline-until 2000000000000 --kind late-scan "
        "--source report --granted-at 1670315340000 --dry-run"
    )
    result = CliRunner().invoke(program(), arguments.split())
    assert result.exit_code == 0
    assert json.loads(result.output) == {
        "exemption_id": "X1",
        "source": "report",
        "granted_at": PLACED_AT,
        "effect": {"extend_by": 36 * 3_600_000},
        "scope": {
            "order_ids": ["O1", "O2"],
            "shipping_modes": ["express", "normal"],
            "paid_from": PLACED_AT,
            "deadline_until": 2_000_000_000_000,
        },
        "kinds": ["late-scan"],
    }


def test_explain_reads_a_file_or_standard_input(tmp_path: Path) -> None:
    """Text by default, one JSON object on request; an unknown order is exit 1."""
    events = line("order-paid", paid()).decode()
    file = tmp_path / "events.jsonl"
    file.write_text(events)
    told = CliRunner().invoke(program(), ["explain", "O1", "--events", str(file)])
    assert told.exit_code == 0
    assert told.output.startswith("Order O1 of shop S1: 3 late-scan violations stand, charged ")
    as_json = ["explain", "O1", "--events", "-", "--json", "--until", "2022-12-09T16:29:00+08:00"]
    result = CliRunner().invoke(program(), as_json, input=events)
    assert result.exit_code == 0
    assert json.loads(result.output)["kinds"][0]["determinations"][0]["expected"] == "pending"
    unknown = failed(["explain", "O2", "--events", "-"], stdin=events)
    assert unknown.exit_code == 1
    assert unknown.message == "order O2 is not known: nothing of it has been taken so far"
    waiting = failed(
        ["explain", "O1", "--events", "-", "--until", str(PLACED_AT + 2)],
        stdin=line("first-scan", scan()).decode(),
    )
    assert waiting.message == (
        "order O1 is not known: facts wait for it (first-scan), but no order-paid has come"
    )
    refused = failed(
        ["explain", "O1", "--events", "-"],
        stdin=line("order-paid", {"order_id": "O1"}, timestamp=PLACED_AT).decode(),
    )
    assert refused.message.startswith("order O1 is not known: its order-paid was refused: schema: ")
    broken = failed(["explain", "O1", "--events", "-"], stdin="{}")
    assert broken.exit_code == 2
    assert broken.message.startswith("-: line 1: ")
