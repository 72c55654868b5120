"""A byte order mark, as editors and shells of Windows write it, is taken by every reader."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from streams.cli.send import _Reader as Reader
from streams.codec.decode import Decoder
from streams.core.errors import UserError
from streams.runtime.publish import InputEvent
from tests.unit.cli.conftest import Shipclock
from tests.unit.samples import PLACED_AT, POLICY, POLICY_TEXT, line, paid, raw

MARK = b"\xef\xbb\xbf"
NOBODY = ["--bootstrap", "127.0.0.1:1"]
REPAIRED = json.dumps(
    {
        "topic": "order-paid",
        "origin": {"topic": "order-paid", "partition": 0, "offset": 1},
        "value": paid(),
    }
).encode()
# What reads a file, and what that file is to hold.
READERS = {
    "simulate": (["simulate"], line("order-paid", paid())),
    "explain": (["explain", "O1", "--events"], line("order-paid", paid())),
    "resend": (["dead-letters", "resend", *NOBODY], REPAIRED),
    "policy": (["policy", "check"], POLICY_TEXT.encode()),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_is_taken(shipclock: Shipclock, tmp_path: Path, reader: str) -> None:
    """It ends as without one: judged, or sent but for a broker."""
    command, content = READERS[reader]
    path = tmp_path / "file"

    def run(start: bytes) -> tuple[int, bytes, str]:
        path.write_bytes(start + content)
        return shipclock(*command, str(path))

    plain = run(b"")
    assert run(MARK) == plain
    assert plain[0] == 0 or "no Kafka broker answers" in plain[2]
    code, out, err = run(b"\xff\xfe")
    assert (code, out) == (1 if reader == "policy" else 2, b"")
    assert "the byte order mark at its start says UTF-16" in err


@pytest.mark.parametrize("reader", [name for name in READERS if name != "policy"])
def test_a_missing_file_is_told_in_one_way(
    shipclock: Shipclock, tmp_path: Path, reader: str
) -> None:
    """The same words whoever reads it."""
    command, _ = READERS[reader]
    path = tmp_path / "nowhere.json"
    finished = shipclock(*command, str(path))
    assert finished.code == 2
    assert finished.err.splitlines() == [
        f"error: {path}: No such file or directory",
        "hint: give a file of JSON lines, or - for standard input",
    ]


def test_standard_input_may_have_a_mark_too(shipclock: Shipclock) -> None:
    """A pipe of PowerShell has one."""
    text = line("order-paid", paid())
    assert shipclock("simulate", "-", stdin=MARK + text) == shipclock("simulate", "-", stdin=text)


@pytest.mark.parametrize(
    ("topic", "name", "content"),
    [
        (None, "events.jsonl", line("order-paid", paid())),
        ("order-paid", "one.json", raw(paid())),
        ("order-paid", "lines", raw(paid())),
    ],
)
def test_what_is_sent_may_have_a_mark_too(
    tmp_path: Path, topic: str | None, name: str, content: bytes
) -> None:
    """The value that is sent has none; a file that is missing or UTF-16 is told like any."""
    path = tmp_path / name

    async def sent() -> list[InputEvent]:
        reader = Reader(Decoder(POLICY), topic, PLACED_AT)
        return [one async for batch in reader.batches([f"@{path}"]) for one in batch]

    with pytest.raises(UserError) as missing:
        asyncio.run(sent())
    assert missing.value.message == f"{path}: No such file or directory"
    assert missing.value.hint == "give a file of JSON lines, or - for standard input"
    path.write_bytes(content)
    plain = asyncio.run(sent())
    assert [one.key for one in plain] == [b"O1"]
    path.write_bytes(MARK + content)
    assert asyncio.run(sent()) == plain
    path.write_bytes(b"\xff\xfe" + content)
    with pytest.raises(UserError, match="the byte order mark at its start says UTF-16"):
        asyncio.run(sent())
