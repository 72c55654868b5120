"""`shipclock policy`: check, show, compare, try and list."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from streams.rulebook import load_rulebook, pack_names, policy_files
from tests.unit.cli.conftest import Shipclock
from tests.unit.samples import DEADLINE, HOUR_MS, POLICY_TEXT, line, paid, scan


def test_valid_file_is_said_to_be_so(shipclock: Shipclock, tmp_path: Path) -> None:
    """The answer names the rules, their kinds and their zone."""
    path = tmp_path / "own.toml"
    path.write_text(POLICY_TEXT.replace("version = 1", "version = 7"), encoding="utf-8")
    expected = f"{path}: douyin-first-scan@7 is valid (late-scan; Asia/Shanghai)\n"
    assert shipclock("policy", "check", str(path)) == (0, expected.encode(), "")


@pytest.mark.parametrize("name", pack_names())
def test_every_policy_that_comes_along_is_valid(shipclock: Shipclock, name: str) -> None:
    """A policy is checked by its name too, its name is its file's, and nothing looks wrong."""
    checked = shipclock("policy", "check", name)
    assert (checked.code, checked.err) == (0, "")
    assert b"warning" not in checked.out
    assert {policy.name for policy in load_rulebook([name]).policies} == {name}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            POLICY_TEXT.replace('"72h"', '"72"').encode(),
            ':22: violations.late-scan.deadline.normal = "72 after placed" is not a deadline',
        ),
        (POLICY_TEXT.replace("retention]", "retentoin]").encode(), ":46: retentoin is not a key"),
        (b"", ": lacks name, such as"),
        (b"name = [", ": is not valid TOML: "),
        (b"\xff\xfe", ": the byte order mark at its start says UTF-16"),
        (b"\xff", ": is not valid TOML: "),
        (b"\x00", ": is not valid TOML: "),
        (b"version = " + b"9" * 5_000, ": is not valid TOML: "),
        (b"kinds = " + b"[" * 100_000, ": is not valid TOML: "),
    ],
)
def test_mistake_is_one_line_and_a_hint(
    shipclock: Shipclock, tmp_path: Path, text: bytes, message: str
) -> None:
    """The check has failed, with file, line and key; any other work was asked for wrongly."""
    path = tmp_path / "own.toml"
    path.write_bytes(text)
    for arguments, code in ((["policy", "check"], 1), (["simulate", "-", "--policy"], 2)):
        finished = shipclock(*arguments, str(path))
        assert (finished.code, finished.out) == (code, b"")
        error, *_, hint = finished.err.splitlines()
        assert error.startswith(f"error: {path}{message}")
        assert hint.startswith("hint: ")


def test_all_mistakes_of_all_files_are_reported(shipclock: Shipclock, tmp_path: Path) -> None:
    """A rules person mends a file once, not mistake by mistake."""
    for name in ("a", "b"):
        text = POLICY_TEXT.replace("occurrences_max = 3", "occurrences_max = 0")
        text = text.replace("weekly_max = 20", "weekly_max = -1")
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    finished = shipclock("policy", "check", str(tmp_path))
    lines = finished.err.splitlines()
    assert [line.split(":")[2] for line in lines[:-1]] == ["18", "33"] * 2
    assert lines[-1].startswith("hint: 4 mistakes")
    shown = json.loads(shipclock("policy", "check", "--json", str(tmp_path)).out)
    assert [(each["line"], each["path"]) for each in shown["mistakes"]] == [
        (18, "violations.late-scan.occurrences_max = 0"),
        (33, "points.weekly_max = -1"),
    ] * 2


def test_what_looks_wrong_is_a_warning(shipclock: Shipclock, tmp_path: Path) -> None:
    """It is allowed, so the check succeeds."""
    path = tmp_path / "own.toml"
    path.write_text(POLICY_TEXT.replace("daily_max = 50000", "daily_max = 500"), encoding="utf-8")
    finished = shipclock("policy", "check", str(path))
    assert (finished.code, finished.err) == (0, "")
    assert b"of 5.00 CNY is below one charge of 10.00 CNY: it would never charge" in finished.out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "no policy or file named nobody"),
        ("", "the name of a policy is empty"),
        ("n" * 300, f"{'n' * 300}: File name too long"),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["policy", "check"],
        ["policy", "show"],
        ["worker", "--policy"],
        ["simulate", "-", "--policy"],
        ["explain", "O1", "--policy"],
        ["exempt", "--id", "X1", "--waive", "--all-orders", "--yes", "--policy"],
        ["appeal", "O1:late-scan:1", "granted", "--policy"],
        ["send", "order-paid", "{}", "--policy"],
        ["dead-letters", "resend", "nowhere", "--policy"],
    ],
)
def test_file_that_cannot_be_read_is_wrong_usage(
    shipclock: Shipclock, arguments: list[str], name: str, message: str
) -> None:
    """Of every command that takes a policy, told in the same words."""
    finished = shipclock(*arguments, name)
    assert (finished.code, finished.out) == (2, b"")
    error, hint = finished.err.splitlines()
    assert error == f"error: {message}"
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("arguments", [["check"], ["diff", "a"], ["show"], ["list", "x"], ["try"]])
def test_wrong_arguments_are_wrong_usage(shipclock: Shipclock, arguments: list[str]) -> None:
    """What the command line itself cannot read is exit code 2."""
    finished = shipclock("policy", *arguments)
    assert finished.code == 2
    assert "\nhint: usage: shipclock policy" in finished.err


@pytest.mark.parametrize("name", pack_names())
def test_shown_policy_is_a_file_to_start_from(
    shipclock: Shipclock, tmp_path: Path, name: str
) -> None:
    """The same rules, every default spelled out; the source has its comments."""
    files = policy_files(name)
    shown = shipclock("policy", "show", name)
    assert (shown.code, shown.err) == (0, "")
    for number, text in enumerate(_files(shown.out)):
        (tmp_path / f"{number}.toml").write_text(text, encoding="utf-8")
    assert load_rulebook([str(tmp_path)]).policies == load_rulebook([name]).policies
    source = shipclock("policy", "show", "--source", name)
    assert all(file.text.encode() in source.out for file in files)


def _files(shown: bytes) -> list[str]:
    """Split what was shown at the line above each file."""
    texts: list[str] = []
    for row in shown.decode().splitlines():
        if row.endswith("every default spelled out."):
            texts.append("")
        texts[-1] += f"{row}\n"
    return texts


def test_list_names_all(shipclock: Shipclock) -> None:
    """One line a version: label, platform, kinds, zone."""
    finished = shipclock("policy", "list")
    lines = finished.out.decode().splitlines()
    versions = sum(len(policy_files(name)) for name in pack_names())
    assert (finished.code, len(lines)) == (0, versions + 1)
    assert any(
        row.split() == ["tiktok-us@1", "tiktok-us", "late-dispatch", "America/Los_Angeles"]
        for row in lines
    )


def test_difference_is_told_in_words(shipclock: Shipclock, tmp_path: Path) -> None:
    """As a seller would say it."""
    path = tmp_path / "own.toml"
    path.write_text(POLICY_TEXT.replace('"72h"', '"48h"'), encoding="utf-8")
    old = tmp_path / "old.toml"
    old.write_text(POLICY_TEXT, encoding="utf-8")
    told = shipclock("policy", "diff", str(old), str(path))
    assert (told.code, told.err) == (0, "")
    assert told.out.decode() == (
        "late-scan, order in mode normal: now due 48 h after placing; "
        "before: due 72 h after placing\n"
    )
    assert shipclock("policy", "diff", str(old), str(old)).out == b"no difference\n"


def _events(path: Path) -> str:
    """Write events of an order late by 48 h and not by 72 h, and of one late by both."""
    path.write_bytes(
        b"\n".join(
            [
                line("order-paid", paid("O1")),
                line("first-scan", scan("O1", scanned_at=DEADLINE - HOUR_MS)),
                line("order-paid", paid("O2")),
                line("first-scan", scan("O2", scanned_at=DEADLINE + HOUR_MS)),
            ]
        )
    )
    return str(path)


def test_rules_are_tried_beside_others(shipclock: Shipclock, tmp_path: Path) -> None:
    """Totals by shop, kind and account; orders that differ; nothing is put out."""
    path = tmp_path / "own.toml"
    path.write_text(POLICY_TEXT.replace('"72h"', '"48h"'), encoding="utf-8")
    events = _events(tmp_path / "events.jsonl")
    arguments = ("policy", "try", str(path), "--events", events)
    shown = json.loads(shipclock(*arguments, "--json", "--orders").out)
    totals = {(row["kind"], row["what"]): (row["before"], row["after"]) for row in shown["totals"]}
    assert totals == {
        ("late-scan", "violations"): (1, 3),
        ("late-scan", "deposit"): (1_000, 3_000),
        ("late-scan", "points"): (1, 3),
    }
    assert [order["order_id"] for order in shown["orders"]] == ["O1", "O2"]
    assert shown["orders"][0]["before"] == {}
    rows = list(csv.reader(io.StringIO(shipclock(*arguments, "--csv").out.decode())))
    assert rows[0] == ["shop", "kind", "what", "unit", "before", "after"]
    assert ["S1", "late-scan", "deposit", "CNY", "1000", "3000"] in rows
    text = shipclock(*arguments, "--orders").out.decode()
    assert "30.00 CNY" in text
    assert "order O1 of S1: CNY 0 -> 1000" in text
    assert text.endswith("2 orders differ\n")


def test_the_same_rules_tried_differ_in_nothing(shipclock: Shipclock, tmp_path: Path) -> None:
    """And the table says so."""
    events = _events(tmp_path / "events.jsonl")
    tried = shipclock("policy", "try", "douyin-first-scan", "--events", events)
    assert (tried.code, tried.err) == (0, "")
    assert tried.out.decode().endswith("0 orders differ\n")
