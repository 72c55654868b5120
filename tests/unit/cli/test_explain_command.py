"""`shipclock explain`: what an event holds is shown, never obeyed."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.conftest import Shipclock
from tests.unit.samples import DAY_MS, DEADLINE, line, paid, scan, upload

HOSTILE = "\x1b[2J\x9b31m\u202e"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_in_an_event_commands_the_terminal(
    shipclock: Shipclock, options: list[str]
) -> None:
    """A carrier's name reorders no line, and a refused value clears no screen."""
    log = [
        line("order-paid", paid()),
        line("tracking-number-uploaded", upload(carrier="S\u202eF")),
        line("first-scan", scan(HOSTILE), key="O1"),
    ]
    finished = shipclock("explain", "O1", "--events", "-", *options, stdin=b"\n".join(log))
    assert (finished.code, finished.err) == (0, "")
    text = finished.out.decode()
    assert not [char for char in text.replace("\n", "") if not char.isprintable()]
    assert "S\\u202eF" in text
    assert "\\u001b[2J\\u009b31m\\u202e" in text
    if options:
        told = json.loads(text)
        assert told["refused"][0]["detail"].endswith(HOSTILE)
        assert told["facts"][0]["fields"]["carrier"] == "S\u202eF"


def test_an_error_commands_no_terminal_either(shipclock: Shipclock) -> None:
    """Why an unknown order is unknown is told in one line, whatever its sender wrote."""
    log = line("order-paid", paid(f"two\nlines{HOSTILE}"), key="O1")
    finished = shipclock("explain", "O1", "--events", "-", stdin=log)
    assert finished.code == 1
    error, _ = finished.err.splitlines()
    assert error.startswith("error: order O1 is not known: its order-paid was refused: wrong-key: ")
    assert "two\\u000alines\\u001b[2J\\u009b31m\\u202e" in error


def test_a_file_without_the_order_is_not_taken_for_a_missing_worker(shipclock: Shipclock) -> None:
    """Not even an empty one."""
    finished = shipclock("explain", "O1", "--events", "-")
    assert finished.code == 1
    assert finished.err.startswith(
        "error: order O1 is not known: nothing of it has been taken so far\n"
        "hint: check the order_id, and that the file has its order-paid; "
    )


def test_a_record_gone_astray_under_its_key_does_not_hide_an_order(shipclock: Shipclock) -> None:
    """Another order's scan, refused in another partition, is none of its records."""
    astray = line("first-scan", scan("O9"), key="O1", partition=3)
    log = astray + b"\n" + line("order-paid", paid())
    finished = shipclock("explain", "O1", "--events", "-", stdin=log)
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.startswith(b"Order O1 of shop S1: ")


@pytest.mark.parametrize(
    ("subject", "code", "expected"),
    [
        ("O1:late-scan:0", 2, "error: 'O1:late-scan:0' is not a valid violation_id\n"),
        ("O1:late-scan", 2, "error: 'O1:late-scan' is not a valid violation_id\n"),
        ("O1:late-ship:1", 1, "error: order O1 has no violation O1:late-ship:1\n"),
        ("O9:late-scan:1", 1, "error: order O9 is not known: "),
    ],
)
def test_a_violation_that_cannot_be_is_one_clear_line(
    shipclock: Shipclock, subject: str, code: int, expected: str
) -> None:
    """The hint lists those there can be."""
    finished = shipclock("explain", subject, "--events", "-", stdin=line("order-paid", paid()))
    assert (finished.code, finished.out) == (code, b"")
    assert finished.err.startswith(expected)


def test_a_violation_is_explained_by_its_id(shipclock: Shipclock) -> None:
    """As an appeal names it; as JSON it is its order's object."""
    log = line("order-paid", paid())
    finished = shipclock("explain", "O1:late-scan:2", "--events", "-", stdin=log)
    assert (finished.code, finished.err) == (0, "")
    assert finished.out.startswith(b"Violation O1:late-scan:2 of shop S1: stands, charged ")
    told = shipclock("explain", "O1:late-scan:2", "--events", "-", "--json", stdin=log)
    assert json.loads(told.out)["order"]["order_id"] == "O1"


def test_lines_out_of_order_are_explained_as_simulate_judges_them(shipclock: Shipclock) -> None:
    """Sorted, a scan that stands behind a later payment is not late evidence."""
    late = line("first-scan", scan("O2", scanned_at=DEADLINE), timestamp=DEADLINE + DAY_MS)
    in_time = line("first-scan", scan(scanned_at=DEADLINE - 1), timestamp=DEADLINE - 1)
    log = b"\n".join([line("order-paid", paid()), late, in_time])
    as_read = shipclock("explain", "O1", "--events", "-", stdin=log).out.decode()
    assert "revoked, revision 1: late first-scan" in as_read
    in_order = shipclock("explain", "O1", "--events", "-", "--sort", stdin=log).out.decode()
    assert in_order.startswith("Order O1 of shop S1: no violation stands, nothing is charged.")
    assert "revoked" not in in_order
