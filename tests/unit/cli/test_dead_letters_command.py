"""`shipclock dead-letters`: how a letter is written, and which repairs are taken."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from streams.cli.letter_lines import as_event, as_json, as_text
from streams.core.facts.outputs import DeadLetter, DeadLetterReason, Source
from streams.engine.event_file import envelope_of
from streams.engine.simulate import simulate
from streams.runtime.dead_letters import Letter
from tests.unit.cli.conftest import Shipclock
from tests.unit.samples import PLACED_AT, POLICY, exemption, line, paid, raw, scan

NOBODY = ["--bootstrap", "127.0.0.1:1"]
ORIGIN = {"topic": "order-paid", "partition": 3, "offset": 17, "timestamp": PLACED_AT}


def letter(
    value: bytes,
    key: bytes | None = b"O1",
    reason: DeadLetterReason = "schema",
    detail: str = "it is wrong",
    timestamp: int = PLACED_AT,
) -> Letter:
    """Return a refused order-paid."""
    source = Source(offset=17, partition=3, timestamp=timestamp, topic="order-paid")
    found = DeadLetter(detail=detail, raw="", reason=reason, source=source)
    return Letter(PLACED_AT + 1, key, found, value)


def repaired(value: Any, **fields: Any) -> bytes:
    """Return a line that a person has repaired."""
    return raw({"origin": ORIGIN, "topic": "order-paid", "value": value} | fields)


# Lines


def test_a_letter_is_one_line_with_all_that_matters() -> None:
    """When, why, whence, key, detail."""
    assert as_text(letter(b"{}")) == (
        b"2022-12-06T08:29:00.001Z  schema          order-paid[3]@17  O1  it is wrong"
    )


def test_a_letter_that_was_resent_says_so_and_when() -> None:
    """At the end of its line, and by a field of its JSON and of what is exported."""
    resent = letter(b"{}")._replace(resent_at_ms=PLACED_AT + 2)
    assert as_text(resent).endswith(b"  it is wrong  resent 2022-12-06T08:29:00.002Z")
    assert json.loads(as_json(resent))["resent_at"] == PLACED_AT + 2
    assert json.loads(exported := as_event(resent))["resent_at"] == PLACED_AT + 2
    assert envelope_of(exported).topic == "order-paid"


@pytest.mark.parametrize(
    ("key", "shown"),
    [(None, "-"), (b"\xff\x1b[2J", "�\\u001b[2J"), (b"k" * 100_000, "k" * 60 + "…")],
)
def test_a_line_cannot_be_broken_from_outside(key: bytes | None, shown: str) -> None:
    """Neither by a key nor by a detail, whatever they hold."""
    text = as_text(letter(b"", key, detail="two\nlines \x9b31m")).decode()
    assert text.endswith(f"  {shown}  two\\u000alines \\u009b31m")


@pytest.mark.parametrize(
    ("value", "field", "shown"),
    [
        (b'{"a":1}', "raw", '{"a":1}'),
        (b"\x1b[2J", "raw", "\x1b[2J"),
        (b"", "raw", ""),
        (b"\xff\xfe", "raw_base64", "//4="),
    ],
)
def test_json_has_the_value_to_the_byte(value: bytes, field: str, shown: str) -> None:
    """As text where it is text, as base64 where it is none."""
    found = json.loads(as_json(letter(value)))
    assert found[field] == shown
    assert len({"raw", "raw_base64"} & found.keys()) == 1
    assert (found["at"], found["reason"], found["key"]) == (PLACED_AT + 1, "schema", "O1")
    assert found["source"] == ORIGIN
    assert found["resent_at"] is None


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[" * 100_000, "\ufeff{}".encode(), b"[]", b"1e400", raw(paid(paid_at=1))]
)
@pytest.mark.parametrize("key", [None, b"O1", b"O9"])
def test_an_exported_line_is_refused_by_a_simulation_as_it_was_before(
    value: bytes, key: bytes | None
) -> None:
    """For the same reason, with the same bytes: a repair can be tried without a broker."""
    record = {"topic": "order-paid", "timestamp": PLACED_AT, "raw": value.decode()}
    (before,) = simulate([raw(record)], POLICY)
    exported = as_event(letter(value, key))
    assert simulate([exported], POLICY) == [before]
    assert json.loads(exported)["origin"] == ORIGIN | {"key": key and key.decode()}


@pytest.mark.parametrize("key", [None, b"O9", b"\xff"])
def test_a_wrong_key_is_mended_in_a_simulation_as_by_a_resend(
    shipclock: Shipclock, tmp_path: Path, key: bytes | None
) -> None:
    """Both find it in the value, also beside a copy that somebody has sent rightly already."""
    astray = as_event(letter(raw(paid()), key, "wrong-key"))
    good = simulate([line("order-paid", paid())], POLICY)
    assert simulate([astray], POLICY) == good
    assert simulate([astray, line("order-paid", paid())], POLICY) == good
    file = tmp_path / "exported.jsonl"
    file.write_bytes(astray)
    finished = shipclock("dead-letters", "resend", str(file), *NOBODY)
    assert finished.err.startswith("error: no Kafka broker answers")


def test_a_value_on_several_lines_becomes_one() -> None:
    """Numbers and the order of fields stay as they were written."""
    value = b'{\r\n  "order_id": "O1",\n  "n": 1.10,\n "big": 12345678901234567890123\n}'
    exported = as_event(letter(value))
    assert b'"n": 1.10,  "big": 12345678901234567890123 }' in exported
    assert json.loads(exported)["value"] == json.loads(value)


@pytest.mark.parametrize("timestamp", [-1, 2**62])
def test_a_timestamp_no_simulation_takes_is_bounded(timestamp: int) -> None:
    """A producer's nonsense does not make the whole file unreadable."""
    assert simulate([as_event(letter(b"{}", timestamp=timestamp))], POLICY)


# Repairs


def test_bad_lines_are_named_and_nothing_is_sent(shipclock: Shipclock, tmp_path: Path) -> None:
    """Each with its number, before a broker is asked."""
    lines = [
        repaired(paid()),
        b"",
        b"{",
        raw({"origin": ORIGIN, "topic": "order-paid", "raw": "garbage"}),
        raw({"topic": "order-paid", "value": paid()}),
        repaired(paid(), topic="order-payed"),
        repaired(paid(shop_id=7)),
        repaired(paid(), origin=ORIGIN | {"offset": -1}),
        repaired({"order_id": "\x1b[2J"}, topic="refund-failed"),
    ]
    file = tmp_path / "repaired.jsonl"
    file.write_bytes(b"\n".join(lines))
    finished = shipclock("dead-letters", "resend", str(file), *NOBODY)
    assert (finished.code, finished.out) == (2, b"")
    *complaints, error, hint = finished.err.splitlines()
    assert [complaint.partition(":")[0] for complaint in complaints] == [
        f"line {number}" for number in range(3, 10)
    ]
    assert complaints[1] == "line 4: there is no `value`: write the event into it"
    assert "required field `origin`" in complaints[2]
    assert complaints[3] == "line 6: order-payed is no input topic"
    assert complaints[4].startswith("line 7: order-paid is refused as schema: Expected `str`")
    assert error == f"error: {file}: 7 of 8 lines would be refused again; nothing was sent"
    assert hint.startswith("hint: ")
    assert "\x1b" not in finished.err


def test_of_many_bad_lines_the_first_are_named(shipclock: Shipclock, tmp_path: Path) -> None:
    """A wrong file does not flood the terminal."""
    file = tmp_path / "wrong.jsonl"
    file.write_bytes(b"{}\n" * 5_000)
    finished = shipclock("dead-letters", "resend", str(file), *NOBODY)
    assert finished.code == 2
    assert re.findall(r"^line (\d+):", finished.err, re.MULTILINE) == [
        str(number) for number in range(1, 21)
    ]
    assert "and 4,980 more" in finished.err


def test_good_lines_need_a_broker(shipclock: Shipclock, tmp_path: Path) -> None:
    """What is in order fails only for want of one."""
    file = tmp_path / "good.jsonl"
    values = [repaired(paid()), repaired(scan(), topic="first-scan", raw="what it was")]
    file.write_bytes(b"\n".join([*values, repaired(exemption(), topic="exemption-granted")]))
    finished = shipclock("dead-letters", "resend", str(file), *NOBODY)
    assert (finished.code, finished.out) == (1, b"")
    assert finished.err.startswith("error: no Kafka broker answers at 127.0.0.1:1\nhint: ")


def test_what_is_no_file_is_told(shipclock: Shipclock, tmp_path: Path) -> None:
    """A missing one, a folder, a pipe and an empty one; a pipe could not be read twice."""
    pipe, empty = tmp_path / "pipe", tmp_path / "empty"
    os.mkfifo(pipe)
    empty.write_bytes(b"\n\n")
    for path, message in (
        (tmp_path / "nowhere", "No such file or directory"),
        (tmp_path, "is not a plain file"),
        (pipe, "is not a plain file"),
        (empty, "there is no event in it"),
    ):
        finished = shipclock("dead-letters", "resend", str(path), *NOBODY)
        assert finished.code == 2
        error, hint = finished.err.splitlines()
        assert message in error
        assert hint.startswith("hint: ")


# Usage


@pytest.mark.parametrize("arguments", [[], ["list"], ["--by", "reason"], ["export"]])
def test_a_broker_that_is_not_there_is_one_clear_line(
    shipclock: Shipclock, arguments: list[str]
) -> None:
    """Exit 1 with what to do; `list` may be left out."""
    finished = shipclock("dead-letters", *arguments, *NOBODY)
    assert (finished.code, finished.out) == (1, b"")
    assert finished.err.startswith("error: no Kafka broker answers at 127.0.0.1:1\nhint: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topic", "timeout"], "timeout is no input topic"),
        (["--since", "yesterday"], "--since: 'yesterday' is not a time"),
        (["export", "--until", "1st"], "--until: '1st' is not a time"),
        (["--by", "reason", "--limit", "3"], "--by counts all of them"),
        (["--reason", "bad"], "invalid value for '--reason'"),
        (["--by", "key"], "invalid value for '--by'"),
    ],
)
def test_wrong_usage_is_exit_2(shipclock: Shipclock, arguments: list[str], message: str) -> None:
    """It is told before a broker is asked."""
    finished = shipclock("dead-letters", *arguments, *NOBODY)
    assert finished.code == 2
    assert message in finished.err.splitlines()[0]
