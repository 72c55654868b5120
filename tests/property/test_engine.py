"""The engine against the auditor, against itself, and against accidents."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.orders_task import OrdersTask
from streams.engine.records import columns
from streams.engine.simulate import simulate
from tests.auditor.fold import parse, refusals_of, standing_of, warnings_of
from tests.auditor.naive import DAY_MS, HOUR_MS, OWN_TIME, Event, audit
from tests.property.driver import Chaos, play, records_of
from tests.property.logs import arrange, interleave, judgeable, lines_of, make_log
from tests.unit.samples import DEFAULT

SEEDS = st.integers(min_value=0, max_value=2**32)
DEAD_LETTER = b'"topic":"dead-letter"'


def run(events: list[Event]) -> list[bytes]:
    """Return the lines `simulate` writes for the events."""
    return simulate(lines_of(events), DEFAULT)


def assert_agreement(events: list[Event]) -> None:
    """Hold the engine's outputs against the auditor's judgement."""
    outputs, judged = parse(run(events)), audit(events)
    assert refusals_of(outputs) == [tuple(refusal) for refusal in judged.refusals]
    assert standing_of(outputs) == judged.what_stands()
    assert warnings_of(outputs) == judged.warnings


@given(seed=SEEDS)
def test_engine_agrees_with_the_auditor(seed: int) -> None:
    """What stands, is warned of and is refused is what the naive program finds."""
    assert_agreement(make_log(seed))


@given(seed=SEEDS)
def test_agreement_in_any_arrival_order(seed: int) -> None:
    """However the same records arrive, engine and auditor read them alike."""
    rng = random.Random(seed)
    assert_agreement(judgeable(arrange(rng, make_log(seed))))


@given(seed=SEEDS)
def test_order_between_topics_changes_no_byte(seed: int) -> None:
    """Lines of different topics may be mixed in any way."""
    log = make_log(seed)
    assert run(interleave(random.Random(seed), log)) == run(log)


@given(seed=SEEDS)
def test_duplicates_change_no_byte(seed: int) -> None:
    """Every record once more right behind itself: all but the dead letters stays as it was."""
    log = make_log(seed)
    doubled = [copy.deepcopy(event) for event in log for _ in range(2)]
    once, twice = (
        [line for line in run(events) if DEAD_LETTER not in line] for events in (log, doubled)
    )
    assert twice == once


@given(seed=SEEDS)
def test_stopping_earlier_writes_a_prefix(seed: int) -> None:
    """Up to an instant there is nothing that the whole log would not write, in the same order."""
    log = make_log(seed)
    rng = random.Random(seed)
    until = time_of(rng.choice(log)) + rng.choice((0, 1, DAY_MS)) if log else 0
    part, whole = (
        [line for line in lines if DEAD_LETTER not in line]
        for lines in (simulate(lines_of(log), DEFAULT, until), run(log))
    )
    assert part == whole[: len(part)]
    # Warnings are never overdue: those that are missing are due at or after the instant.
    missing = [at for _, at, _ in warnings_of(parse(whole[len(part) :]))]
    assert min(missing, default=until) >= until


@given(seed=SEEDS)
def test_accidents_change_no_byte(seed: int) -> None:
    """Batches of any size, lost commits and restarts leave every output as it was."""
    rng = random.Random(seed)
    log = make_log(seed)
    calm = play(log, DEFAULT, Chaos(random.Random(seed)))
    chaos = Chaos(
        rng,
        batch_max=rng.choice((1, 3, 10)),
        outputs_max=rng.choice((1, 2, 10, 100)),
        crash=rng.choice((0.0, 0.1, 0.5)),
        lost_commit=rng.choice((0.0, 0.1, 0.5)),
        mark=rng.random(),
        live=rng.random() < 0.5,
    )
    rough = play(log, DEFAULT, chaos)
    assert rough == calm
    assert standing_of(calm.outputs()) == audit(log).what_stands()


@given(seed=SEEDS)
def test_live_runs_leave_the_same_standing(seed: int) -> None:
    """Against a clock, records up to an hour late and idle topics, what stands is the same."""
    log = [{**event, "timestamp": time_of(event)} for event in make_log(seed)]
    log.sort(key=time_of)
    judged = audit(log)
    # Log time may be up to an hour later, so these must not hang on the hour.
    later = audit([{**event, "timestamp": event["timestamp"] + 2 * HOUR_MS} for event in log])
    hanging = {refusal.reason for refusal in judged.refusals + later.refusals}
    assume(not judged.forgettable | later.forgettable)
    assume(not hanging & {"too-late", "no-order", "time-in-future"})
    rng = random.Random(seed)
    chaos = Chaos(
        rng,
        outputs_max=rng.choice((1, 10, 1000)),
        crash=rng.choice((0.0, 0.2)),
        lost_commit=rng.choice((0.0, 0.2)),
        mark=rng.random(),
        live=True,
    )
    stands = standing_of(play(log, DEFAULT, chaos, live_delay_max=HOUR_MS).outputs())
    for part in ("standing", "journal", "bans"):
        assert stands[part] == judged.what_stands()[part]


def test_records_at_the_frontier_wait() -> None:
    """Another topic may still bring a record of the same instant that comes first."""
    record = next(
        records[0] for topics in records_of(make_log(0)).values() for records in topics.values()
    )
    instant = record.timestamp
    task = OrdersTask(0, DEFAULT, live=False)
    pair = [record._replace(timestamp=instant - 1), record._replace(offset=1)]
    task.offer(INPUT_TOPICS[0], columns(pair), now_ms=0)
    for frontier, waiting in ((instant - 1, 2), (instant, 1), (instant + 1, 0)):
        for topic in INPUT_TOPICS:
            task.complete(topic, frontier)
        task.step(10, mark=False)
        assert task.buffered == waiting


def time_of(event: Event) -> int:
    """Return the record timestamp of a line."""
    time = event.get("timestamp")
    return int(event["value"][OWN_TIME[event["topic"]]] if time is None else time)


@pytest.mark.parametrize("seed", [11, 23])
def test_hash_seeds_change_no_byte(seed: int, tmp_path: Path) -> None:
    """The command writes the same bytes whatever the interpreter's hash seed."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines_of(make_log(seed))))
    written = {
        subprocess.run(
            [sys.executable, "-m", "streams", "simulate", str(path)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert len(written) == 1
    assert written.pop().splitlines() == run(make_log(seed))
