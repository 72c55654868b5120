"""`simulate`: lines, partitions, the end of the range, emission order."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from streams.engine.event_file import BadLine
from streams.engine.simulate import simulate
from tests.unit.samples import (
    DAY_MS,
    DEADLINE,
    HOUR_MS,
    PLACED_AT,
    POLICY,
    exemption,
    line,
    paid,
    policy_with,
    raw,
    rulebook_with,
    scan,
    upload,
)

Output = dict[str, Any]
YEAR_9999_MS = 253_370_764_800_000


def run(*lines: bytes, until: int | None = None) -> list[Output]:
    """Return what a file gives."""
    return [json.loads(each) for each in simulate(lines, POLICY, until)]


def values(outputs: list[Output], topic: str) -> list[Any]:
    """Return the values of one topic."""
    return [each["value"] for each in outputs if each["topic"] == topic]


def timeouts(outputs: list[Output]) -> list[str]:
    """Return the violations determined."""
    return [value["violation_id"] for value in values(outputs, "timeout")]


def sources(outputs: list[Output]) -> list[tuple[str, int, int]]:
    """Return topic, partition and offset of the dead letters."""
    found = [value["source"] for value in values(outputs, "dead-letter")]
    return [(source["topic"], source["partition"], source["offset"]) for source in found]


# Lines


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"{", "not an event line: "),
        (b"\xff", "not an event line: "),
        (b"[" * 5000, "not an event line: "),
        (b"[]", "Expected `object`"),
        (b'"order-paid"', "Expected `object`"),
        (raw({"value": {}, "timestamp": 1}), "missing required field `topic`"),
        (line("", {}, timestamp=1), "at `$.topic`"),
        (raw({"topic": 3, "timestamp": 1, "value": {}}), "at `$.topic`"),
        (raw({"topic": "first-scan", "timestamp": 1}), "`value` must be given"),
        (raw({"topic": "first-scan", "timestamp": 1, "raw": {}}), "at `$.raw`"),
        (raw({"topic": "first-scan", "timestamp": 1, "raw": None}), "`value` must be given"),
        (line("first-scan", {}, timestamp=1, key=1), "at `$.key`"),
        (line("first-scan", {}, timestamp=1, partition=-1), "at `$.partition`"),
        (line("first-scan", {}, timestamp=1, partition="0"), "at `$.partition`"),
        (line("first-scan", {}, timestamp=1, partition=True), "at `$.partition`"),
        (line("first-scan", {}, timestamp=1, partition=2**31), "at `$.partition`"),
        (line("first-scan", {}, timestamp="now"), "at `$.timestamp`"),
        (line("first-scan", {}, timestamp=-1), "at `$.timestamp`"),
        (line("first-scan", {}, timestamp=1.5), "at `$.timestamp`"),
        (line("first-scan", {}, timestamp=253_402_300_800_000), "at `$.timestamp`"),
        (line("first-scan", scan(), timestamp=YEAR_9999_MS), "at `$.timestamp`"),
    ],
)
def test_line_that_is_no_event_line_is_told_by_number(bad: bytes, message: str) -> None:
    """Blank lines count, so that the number is the one an editor shows."""
    with pytest.raises(BadLine, match=r"^line 3: ") as caught:
        run(line("order-paid", paid()), b"  \n", bad)
    assert message in str(caught.value)
    assert caught.value.number == 3


def test_order_in_two_partitions_is_a_bad_line() -> None:
    """No log of a keyed topic can look like that."""
    with pytest.raises(BadLine, match="line 2: order O1 stands in partitions 0 and 1") as caught:
        run(line("order-paid", paid()), line("first-scan", scan(), partition=1))
    assert "leave `partition` out" in caught.value.hint


@pytest.mark.parametrize("key", ["O2", None])
def test_record_that_went_astray_may_stand_in_another_partition(key: str | None) -> None:
    """Its key, or that it had none, has led it there; its repaired copy is judged."""
    astray = line("order-paid", paid(), partition=1, key=key)
    letter, *judged = run(astray, line("order-paid", paid()))
    assert (letter["key"], letter["value"]["reason"]) == (key, "wrong-key")
    assert judged == run(line("order-paid", paid()))


def test_nothing_in_nothing_out() -> None:
    """An empty file and one of blank lines are logs without records."""
    assert run() == run(b"", b"\n", b" \r\n") == []


def test_raw_is_what_the_dead_letter_holds() -> None:
    """Bytes that are no valid value can be put into a file as text."""
    (letter,) = run(raw({"topic": "first-scan", "timestamp": 7, "raw": "{订单"}))
    assert base64.b64decode(letter["value"]["raw"]).decode() == "{订单"
    assert (letter["key"], letter["value"]["reason"]) == (None, "malformed")
    assert letter["value"]["source"] == {
        "offset": 0,
        "partition": 0,
        "timestamp": 7,
        "topic": "first-scan",
    }


def test_value_of_any_kind_may_be_refused() -> None:
    """`null` is a value, not a missing one."""
    (letter,) = run(line("first-scan", None, timestamp=7))
    assert base64.b64decode(letter["value"]["raw"]) == b"null"


def test_key_is_the_order_unless_given() -> None:
    """A wrong key can be played too."""
    assert run(line("first-scan", scan())) == run(line("first-scan", scan(), key="O1")) == []
    (letter,) = run(line("first-scan", scan(), key="O2"))
    assert (letter["key"], letter["value"]["reason"]) == ("O2", "wrong-key")


def test_unknown_topic_is_a_dead_letter() -> None:
    """It is counted in its own partition, and the rest is judged."""
    stranger = {"topic": "carrier-scan", "timestamp": 5, "partition": 2}
    outputs = run(
        raw(stranger | {"value": {"order_id": "O1"}}),
        line("order-paid", paid()),
        raw(stranger | {"raw": "x"}),
    )
    letters = values(outputs, "dead-letter")
    assert [letter["reason"] for letter in letters] == ["unknown-topic"] * 2
    assert sources(outputs) == [("carrier-scan", 2, 0), ("carrier-scan", 2, 1)]
    assert [base64.b64decode(letter["raw"]) for letter in letters] == [b'{"order_id": "O1"}', b"x"]
    assert len(timeouts(outputs)) == 3


# Partitions


def test_offsets_count_within_topic_and_partition() -> None:
    """A dead letter tells where in its topic partition the record stands."""
    outputs = run(
        *(
            line(topic, {}, timestamp=1, partition=partition)
            for topic, partition in (("first-scan", 1), ("order-paid", 1), ("first-scan", 0))
        ),
        line("first-scan", {}, timestamp=1, partition=1),
    )
    expected = [("first-scan", 0, 0), ("first-scan", 1, 0), ("first-scan", 1, 1)]
    assert sorted(sources(outputs)) == [*expected, ("order-paid", 1, 0)]


PARTITIONS = (
    line("order-paid", paid("O0")),
    line("order-paid", paid("O1"), partition=1),
    line("order-paid", paid("O2"), partition=2),
)


@pytest.mark.parametrize(
    ("scope", "fields", "spared"),
    [
        ({}, {}, {"O0", "O1", "O2"}),
        ({}, {"partition": 1}, {"O1"}),
        ({"order_ids": ["O2", "O0"]}, {}, {"O0", "O2"}),
        ({"order_ids": ["O2"]}, {"partition": 1}, set()),
        ({"shop_ids": ["S1"]}, {}, {"O0", "O1", "O2"}),
        ({"order_ids": ["O9"]}, {}, set()),
    ],
)
def test_exemption_goes_where_its_orders_are(
    scope: dict[str, Any], fields: dict[str, Any], spared: set[str]
) -> None:
    """To every partition, to those of its orders, or only to the one given."""
    grant = line("exemption-granted", exemption(scope=scope), **fields)
    outputs = run(*PARTITIONS, grant)
    late = {violation.split(":")[0] for violation in timeouts(outputs)}
    assert {"O0", "O1", "O2"} - late == spared


@pytest.mark.parametrize(
    ("scope", "partitions"),
    [({}, [0, 1, 2]), ({"order_ids": ["O1", "O9", "O1"]}, [1]), ({"order_ids": ["O9"]}, [0])],
)
def test_copies_of_an_exemption_are_counted(scope: dict[str, Any], partitions: list[int]) -> None:
    """One record each partition; where no order is known, the first partition has it."""
    bad = exemption(scope=scope, granted_at=1)
    outputs = run(*PARTITIONS, line("exemption-granted", bad))
    assert sources(outputs) == [("exemption-granted", partition, 0) for partition in partitions]


# The end of the range


@pytest.mark.parametrize(
    ("until", "determined"),
    [(DEADLINE, 0), (DEADLINE + 1, 1), (DEADLINE + DAY_MS + 1, 2), (None, 3)],
)
def test_until_fires_what_is_due_before_it(until: int | None, determined: int) -> None:
    """A timer at that very instant stays; a drain fires all."""
    assert len(timeouts(run(line("order-paid", paid()), until=until))) == determined


def test_until_leaves_out_records_from_then_on() -> None:
    """The running maximum decides: what follows a record left out is left out too."""
    bad = [line("first-scan", {}, timestamp=at) for at in (10, 20, 15)]
    assert sources(run(*bad, until=20)) == [("first-scan", 0, 0)]
    assert len(sources(run(*bad, until=21))) == 3
    stranger = [line("elsewhere", {}, timestamp=at) for at in (10, 20, 15)]
    assert sources(run(*stranger, until=20)) == [("elsewhere", 0, 0)]


def test_until_counts_the_grace() -> None:
    """With an hour of grace a timer fires an hour later, in both stages."""
    policy = policy_with(('grace = "0s"', 'grace = "1h"'))
    lines = [line("order-paid", paid())]
    settled_at = 1_670_601_600_000  # 2022-12-10 00:00:00 +08:00
    for until, topics in (
        (DEADLINE + HOUR_MS, set()),
        (DEADLINE + HOUR_MS + 1, {"timeout", "penalty"}),
    ):
        outputs = [json.loads(each) for each in simulate(lines, policy, until)]
        assert {each["topic"] for each in outputs} & {"timeout", "penalty"} == topics
    for until, accounts in (
        (settled_at + HOUR_MS, {"points"}),
        (settled_at + HOUR_MS + 1, {"points", "deposit"}),
    ):
        outputs = [json.loads(each) for each in simulate(lines, policy, until)]
        assert {value["account"] for value in values(outputs, "penalty")} == accounts


def test_closure_further_off_than_any_instant_lets_a_shop_forget() -> None:
    """A shop that is told an order is gone counts back by the closure, at most to the epoch."""
    policy = rulebook_with(close_unshipped=99_999_999 * DAY_MS)
    lines = [
        line("order-paid", paid()),
        line("first-scan", scan(scanned_at=DEADLINE + 1)),
        line("first-scan", scan("O2", scanned_at=DEADLINE + 100 * DAY_MS)),
    ]
    assert timeouts([json.loads(each) for each in simulate(lines, policy)]) == ["O1:late-scan:1"]


def test_waiting_fact_expires_in_log_time_alone() -> None:
    """A drain does not let a fact's wait run out that the log has not."""
    stray = line("first-scan", scan())
    expires_at = PLACED_AT + 7 * DAY_MS
    last = [line("order-paid", paid("O2", paid_at=expires_at + n)) for n in (0, 1)]
    assert sources(run(stray, last[0])) == []
    assert sources(run(stray, last[1])) == [("first-scan", 0, 0)]


# Emission


def test_outputs_come_by_log_time_then_stage_then_partition() -> None:
    """Whatever partition a violation is of, the file reads as time went."""
    outputs = run(
        line("order-paid", paid("O1"), partition=1),
        line("order-paid", paid("O0", shop_id="S0")),
        line("tracking-number-uploaded", upload("O2"), partition=1),
        line("order-paid", paid("O2", shipping_mode="express"), partition=1),
    )
    told = [
        (each["topic"], each["value"]["violation_id"])
        for each in outputs
        if each["topic"] == "timeout" or each["value"].get("account") == "points"
    ]
    first = [f"O2:late-scan:{n}" for n in (1, 2)]
    assert told[:4] == [(topic, id_) for id_ in first for topic in ("timeout", "penalty")]
    due = PLACED_AT + 72 * HOUR_MS
    at_once = [
        (each["topic"], each["key"])
        for each in outputs
        if each["topic"] in ("timeout", "penalty")
        and (each["value"].get("determined_at") or each["value"].get("effective_at")) == due
    ]
    assert at_once == [
        ("timeout", "S0"),
        ("timeout", "S1"),
        ("timeout", "S1"),
        ("penalty", "S0"),
        ("penalty", "S1"),
        ("penalty", "S1"),
    ]


def test_line_is_canonical_json() -> None:
    """Sorted keys, compact, UTF-8."""
    letter = simulate([line("first-scan", {}, timestamp=1, key="店")], POLICY)[0].decode()
    assert letter.startswith('{"key":"店","topic":"dead-letter","value":{"detail":')
    assert letter == json.dumps(
        json.loads(letter), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
