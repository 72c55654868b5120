"""`shipclock simulate`: files, standard input, times, and what a person can get wrong."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from streams.engine.simulate import simulate
from streams.rulebook import load_rulebook
from tests.unit.cli.conftest import Shipclock
from tests.unit.samples import DEADLINE, POLICY_TEXT, line, paid, raw, scan

LOG = line("order-paid", paid()) + b"\n"
ALL = b"".join(each + b"\n" for each in simulate([LOG], load_rulebook(["douyin-first-scan"])))


@pytest.fixture
def events(tmp_path: Path) -> str:
    """Return the path of a file of one late order."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(LOG)
    return str(path)


def test_file_is_judged_to_the_end(shipclock: Shipclock, events: str) -> None:
    """Outputs go to standard output, one line each, and nothing else is said."""
    assert shipclock("simulate", events) == (0, ALL, "")
    assert shipclock("simulate", events, "--until", "drain") == (0, ALL, "")
    assert ALL.count(b'"timeout.determined","violation_id"') == 3


def test_dash_reads_standard_input(shipclock: Shipclock) -> None:
    """A log can come through a pipe."""
    assert shipclock("simulate", "-", stdin=LOG) == (0, ALL, "")
    assert shipclock("simulate", "-") == (0, b"", "")


@pytest.mark.parametrize(
    ("until", "determined"),
    [
        (str(DEADLINE), 0),
        (str(DEADLINE + 1), 1),
        ("2022-12-09T16:29:00+08:00", 0),
        ("2022-12-09T16:29:00.001+08:00", 1),
        ("2022-12-09T08:29:00.001Z", 1),
        ("20221209T082901Z", 1),
    ],
)
def test_until_takes_milliseconds_or_iso_8601(
    shipclock: Shipclock, events: str, until: str, determined: int
) -> None:
    """Both ways to write an instant mean the same, to the millisecond."""
    finished = shipclock("simulate", events, "--until", until)
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.count(b'"timeout.determined","violation_id"') == determined


def test_policy_may_be_a_file(shipclock: Shipclock, events: str, tmp_path: Path) -> None:
    """Rules of one's own are judged by."""
    rules = tmp_path / "own.toml"
    rules.write_text(POLICY_TEXT.replace("douyin-first-scan", "own"), encoding="utf-8")
    assert b"own@1" in shipclock("simulate", events, "--policy", str(rules)).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: No such file or directory"),
        (["."], ".: Is a directory"),
        (["-", "--until", "tomorrow"], "--until: 'tomorrow' is not a time"),
        (["-", "--until", "1969-12-31T23:59:59Z"], "is not a time"),
        (["-", "--until", ""], "--until: '' is not a time"),
        (["-", "--until", "-1"], "--until: '-1' is not a time"),
        (["-", "--policy", "nobody"], "no policy or file named nobody"),
        (["-", "--policy", "[red]nobody[/red]"], "no policy or file named [red]nobody[/red]"),
        (["-", "--policy", ""], "the name of a policy is empty"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(
    shipclock: Shipclock, arguments: list[str], message: str
) -> None:
    """Exit code 2, nothing on standard output."""
    finished = shipclock("simulate", *arguments, stdin=LOG)
    assert (finished.code, finished.out) == (2, b"")
    error, hint = finished.err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("arguments", [[], ["-", "--nonsense"], ["-", "--until"], ["-", "more"]])
def test_wrong_arguments_are_wrong_usage(shipclock: Shipclock, arguments: list[str]) -> None:
    """What the command line itself cannot read is exit code 2 too."""
    finished = shipclock("simulate", *arguments)
    assert finished.code == 2
    error, hint = finished.err.splitlines()
    assert error.startswith("error: ")
    assert hint.endswith("--help tells more")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"{", "line 2: not an event line"),
        (b"\xff\xfe", "line 2: not an event line"),
        (b"[]", "line 2: not an event line"),
    ],
)
def test_bad_line_is_told_by_file_and_number(
    shipclock: Shipclock, tmp_path: Path, bad: bytes, message: str
) -> None:
    """Nothing is put out of a file that cannot be read whole."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(LOG + bad + b"\n")
    finished = shipclock("simulate", str(path))
    assert (finished.code, finished.out) == (2, b"")
    error, hint = finished.err.splitlines()
    assert error.startswith(f"error: {path}: {message}")
    assert hint.startswith("hint: a line is ")


def test_a_misspelt_field_of_a_line_is_refused(shipclock: Shipclock) -> None:
    """Without its timestamp the event would count as of another time."""
    event = json.loads(line("order-paid", paid()))
    exported = {"origin": {}, "reason": "schema", "detail": "x", "resent_at": 1}
    lines = [json.dumps(event | extra).encode() for extra in (exported, {"tmestamp": 1})]
    finished = shipclock("simulate", "-", stdin=b"\n".join(lines))
    assert (finished.code, finished.out) == (2, b"")
    assert finished.err.startswith(
        "error: -: line 2: not an event line: Object contains unknown field `tmestamp`\n"
    )
    assert shipclock("simulate", "-", stdin=lines[0]).code == 0


def test_half_of_a_surrogate_pair_in_a_line_is_named(shipclock: Shipclock) -> None:
    """The parser takes it for the end of the line."""
    finished = shipclock("simulate", "-", stdin=b'{"topic": "order-paid", "value": "\\ud83d"}')
    assert finished.code == 2
    assert "line 1: not an event line: \\ud83d is half of a surrogate pair" in finished.err


def test_policy_mistake_is_told_by_file_and_line(shipclock: Shipclock, tmp_path: Path) -> None:
    """A wrong rule file is wrong usage of this command."""
    rules = tmp_path / "own.toml"
    rules.write_text(POLICY_TEXT.replace('grace = "0s"', "grace = 0"), encoding="utf-8")
    finished = shipclock("simulate", "-", "--policy", str(rules))
    assert finished.code == 2
    assert finished.err.startswith(f"error: {rules}:8: grace = 0 is not ")


def test_nothing_in_an_event_commands_the_terminal(shipclock: Shipclock) -> None:
    """Control characters are escaped, whoever sent them; the records mean what they meant."""
    key = "\x1b[2J\x7f\x9b31m\u202e"
    log = line("first-scan", scan(), key=key) + b"\n"
    finished = shipclock("simulate", "-", stdin=log)
    assert finished.code == 0
    assert all(char.isprintable() for char in finished.err.rstrip())
    text = finished.out.decode()
    assert not [char for char in text.replace("\n", "") if not char.isprintable()]
    (expected,) = simulate([log], load_rulebook(["douyin-first-scan"]))
    assert json.loads(text) == json.loads(expected)
    assert json.loads(text)["key"] == key


def test_reader_that_goes_away_is_no_error_to_tell(tmp_path: Path) -> None:
    """`shipclock simulate … | head -1` ends without a word."""
    path = tmp_path / "many.jsonl"
    path.write_bytes((line("first-scan", "x" * 500, timestamp=1) + b"\n") * 2000)
    command = [sys.executable, "-m", "streams", "simulate", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"key":')
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("command", ["simulate", "policy list", "--help"])
def test_output_that_takes_no_more_is_named(tmp_path: Path, events: str, command: str) -> None:
    """And once: not again, as code 120 and a traceback, when Python ends."""
    arguments = [*command.split(), *([events] if command == "simulate" else [])]
    with (tmp_path / "out").open("wb") as out:
        finished = subprocess.run(
            [sys.executable, "-m", "streams", *arguments],
            env={name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )
    assert finished.stderr == (
        "error: standard output: File too large\n"
        "hint: what was written until then is not complete\n"
    )
    assert finished.returncode == 1


# What is said beside the output

JANUARY, MARCH = 1_515_117_600_000, 1_520_215_200_000
UNSORTED = [
    line("order-paid", paid("B", placed_at=MARCH, paid_at=MARCH)),
    line("order-paid", paid("A", placed_at=JANUARY, paid_at=JANUARY)),
    line("first-scan", scan("A", scanned_at=JANUARY + 86_400_000)),
    line("first-scan", scan("B", scanned_at=MARCH + 15 * 86_400_000)),
]


def test_what_was_refused_and_disorder_are_summed_up(shipclock: Shipclock) -> None:
    """A line for each reason, and one with the way out."""
    finished = shipclock("simulate", "-", stdin=b"\n".join([b"", *UNSORTED]))
    assert finished.code == 0
    late, stranger, disorder = finished.err.splitlines()
    assert late.startswith(
        "note: 1 record refused as too-late, the first in line 3: order-paid: the order is not"
    )
    assert stranger.startswith("note: 1 record refused as no-order, the first in line 4: ")
    assert disorder.startswith("note: lines are not in time order: line 3 is older than line 2 ")
    assert "--sort" in disorder


def test_sorted_lines_are_judged_like_lines_in_order(shipclock: Shipclock) -> None:
    """By timestamp; what is of one instant keeps its order."""
    by_time = [UNSORTED[1], UNSORTED[2], UNSORTED[0], UNSORTED[3]]
    expected = shipclock("simulate", "-", stdin=b"\n".join(by_time))
    assert expected.err == ""
    finished = shipclock("simulate", "-", "--sort", stdin=b"\n".join(UNSORTED))
    assert finished == expected
    assert finished.out.count(b'"timeout.determined","violation_id"') == 3
    first, second = (line("order-paid", paid(paid_amount=amount)) for amount in (1, 2))
    finished = shipclock("simulate", "-", "--sort", stdin=b"\n".join([second, first]))
    assert "1 record refused as conflict, the first in line 2: " in finished.err


def test_topics_one_after_another_are_in_order(shipclock: Shipclock) -> None:
    """A file of blocks is as good as one of mixed lines."""
    blocks = [UNSORTED[1], UNSORTED[0], UNSORTED[2], UNSORTED[3]]
    assert shipclock("simulate", "-", stdin=b"\n".join(blocks)).err == ""


@pytest.mark.parametrize("sort", [[], ["--sort"]])
def test_a_line_without_a_time_refuses_itself_alone(shipclock: Shipclock, sort: list[str]) -> None:
    """Not the file; its reason and number are told, and copies are counted."""
    bad = [
        line("first-scan", {"order_id": "O1"}),
        line("first-scan", scan(scanned_at="yesterday")),
        line("elsewhere", scan()),
        raw({"topic": "first-scan", "raw": "{"}),
    ]
    finished = shipclock("simulate", "-", *sort, stdin=b"\n".join([LOG.strip(), *bad]))
    assert finished.code == 0
    unfit, stranger, garbage = finished.err.splitlines()
    first = "first-scan: Object missing required field `tracking_number`"
    assert unfit == f"note: 2 records refused as schema, the first in line 2: {first}"
    assert "1 record refused as unknown-topic, the first in line 4: elsewhere: " in stranger
    assert "1 record refused as malformed, the first in line 5: first-scan: " in garbage
    assert finished.out.count(b'"timeout.determined","violation_id"') == 3


def test_the_policy_is_that_of_the_settings(
    shipclock: Shipclock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in the same environment judges by it."""
    monkeypatch.setenv("SHIPCLOCK_POLICY", "nowhere.toml")
    finished = shipclock("simulate", "-", stdin=line("order-paid", paid()))
    assert finished.code != 0
    assert "nowhere.toml" in finished.err
    assert shipclock("simulate", "-", "--policy", "douyin-first-scan").code == 0
