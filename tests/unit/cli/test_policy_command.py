"""`shipclock policy`: check and list."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from streams.rulebook import load_rulebook, pack_names
from tests.unit.cli.conftest import Shipclock
from tests.unit.samples import POLICY_TEXT

ROOT = Path(__file__).parents[3]


def test_valid_file_is_said_to_be_so(shipclock: Shipclock, tmp_path: Path) -> None:
    """The answer names the rules, their kinds and their zone."""
    path = tmp_path / "own.toml"
    path.write_text(POLICY_TEXT.replace("version = 1", "version = 7"), encoding="utf-8")
    expected = f"{path}: douyin-first-scan@7 is valid (late-scan; Asia/Shanghai)\n"
    assert shipclock("policy", "check", str(path)) == (0, expected.encode(), "")


@pytest.mark.parametrize("name", policy_names())
def test_every_policy_that_comes_along_is_valid(shipclock: Shipclock, name: str) -> None:
    """A policy is checked by its name too, and its name is its file's."""
    assert shipclock("policy", "check", name).code == 0
    assert load_rulebook([name]).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (POLICY_TEXT.replace('"72h"', '"72"').encode(), ":22: violations.late-scan.deadline"),
        (POLICY_TEXT.replace("retention]", "retentoin]").encode(), ":46: retentoin: "),
        (b"", ": policy: Object missing required field `name`"),
        (b"name = [", ": not TOML: "),
        (b"\xff\xfe", ": the byte order mark at its start says UTF-16"),
        (b"\xff", ": not TOML: "),
        (b"\x00", ": not TOML: "),
        (b"version = " + b"9" * 5_000, ": not TOML: "),
        (b"kinds = " + b"[" * 100_000, ": not TOML: "),
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
        error, hint = finished.err.splitlines()
        assert error.startswith(f"error: {path}{message}")
        assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "no policy or file named nobody"),
        (".", ".: Is a directory"),
        ("", ".: Is a directory"),
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


@pytest.mark.parametrize("arguments", [["check"], ["check", "a", "b"], ["show"], ["list", "x"]])
def test_wrong_arguments_are_wrong_usage(shipclock: Shipclock, arguments: list[str]) -> None:
    """What the command line itself cannot read is exit code 2."""
    finished = shipclock("policy", *arguments)
    assert finished.code == 2
    assert "\nhint: usage: shipclock policy" in finished.err


@pytest.mark.parametrize("name", policy_names())
def test_shown_policy_is_a_file_to_start_from(
    shipclock: Shipclock, tmp_path: Path, name: str
) -> None:
    """The same rules, byte for byte, below a comment that says where they are from."""
    shown = shipclock("policy", "show", name)
    assert (shown.code, shown.err) == (0, "")
    comment, text = shown.out.split(b"\n", 1)
    assert comment == f"# From shipclock {version('shipclock')}, policy {name}.".encode()
    assert text == (ROOT / "streams" / "policies" / f"{name}.toml").read_bytes()
    path = tmp_path / "mine.toml"
    path.write_bytes(shown.out)
    assert load_rulebook([str(path)]) == load_rulebook([name])
    again = shipclock("policy", "show", str(path))
    assert again.out == f"# From {path}.\n".encode() + shown.out


def test_file_with_mistakes_is_shown_all_the_same(shipclock: Shipclock, tmp_path: Path) -> None:
    """It is mended by what it says; what is not text is wrong usage."""
    path = tmp_path / "bad\x1b.toml"
    path.write_bytes(b"nonsense")
    assert shipclock("policy", "show", str(path)).out.endswith(b"bad\\u001b.toml.\nnonsense")
    path.write_bytes(b"\xff")
    assert shipclock("policy", "show", str(path)).code == 2


def test_list_names_all(shipclock: Shipclock) -> None:
    """One line a policy: label, kinds, zone."""
    finished = shipclock("policy", "list")
    lines = finished.out.decode().splitlines()
    assert (finished.code, len(lines)) == (0, len(policy_names()))
    assert "douyin-first-scan@1\tlate-scan\tAsia/Shanghai" in lines
