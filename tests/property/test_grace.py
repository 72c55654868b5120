"""A grace above zero: it may say later what stands, but never change it."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from streams.core.rules.book import Rulebook
from streams.engine.simulate import simulate
from tests.auditor.fold import Output, parse, standing_of
from tests.auditor.naive import HOUR_MS, OWN_TIME, Event, audit, by_partition
from tests.property.driver import Chaos, play
from tests.property.logs import lines_of, make_log
from tests.unit.samples import DEFAULT, rulebook_with

SEEDS = st.integers(min_value=0, max_value=2**32)
WAITING = st.sampled_from(
    [
        rulebook_with(
            DEFAULT,
            processing=msgspec.structs.replace(DEFAULT.policies[0].processing, grace=grace),
        )
        for grace in (HOUR_MS // 2, HOUR_MS, 24 * HOUR_MS)
    ]
)


def rough(rng: random.Random, live: bool) -> Chaos:
    """Return accidents, and batches and steps of any size."""
    return Chaos(
        rng,
        batch_max=rng.choice((1, 3, 10)),
        outputs_max=rng.choice((1, 2, 10, 100)),
        crash=rng.choice((0.0, 0.1, 0.5)),
        lost_commit=rng.choice((0.0, 0.1, 0.5)),
        mark=rng.random(),
        live=live,
    )


def on_time(events: list[Event]) -> list[Event]:
    """Return the accepted events as if each had been recorded at its own time, in that order."""
    refused = {tuple(refusal)[1:] for refusal in audit(events).refusals}
    accepted = {
        record.line
        for records in by_partition(events).values()
        for record in records
        if (record.topic, record.partition, record.offset) not in refused
    }
    moved = [
        {**events[line], "timestamp": events[line]["value"][OWN_TIME[events[line]["topic"]]]}
        for line in sorted(accepted)
    ]
    return sorted(moved, key=lambda event: event["timestamp"])


def account_of(outputs: list[Output]) -> dict[str, Any]:
    """Return what stands but the closures: those hang on what was known at their instant."""
    stands = standing_of(outputs)
    del stands["closures"]
    return stands


@given(seed=SEEDS, policy=WAITING, live=st.booleans())
def test_accidents_change_no_byte_with_a_grace(seed: int, policy: Rulebook, live: bool) -> None:
    """Batches of any size, lost commits and restarts leave every output as it was."""
    log = make_log(seed)
    calm = play(log, policy, Chaos(random.Random(seed)))
    assert play(log, policy, rough(random.Random(seed), live)) == calm


@given(seed=SEEDS, policy=WAITING)
def test_what_stands_is_that_of_events_on_time(seed: int, policy: Rulebook) -> None:
    """Records that came late leave standing and charged what they would have on time."""
    log = make_log(seed)
    punctual = on_time(log)
    judged = audit(punctual)
    assume(not judged.forgettable and not judged.refusals)
    stands = account_of(play(log, policy, Chaos(random.Random(seed))).outputs())
    assert stands == account_of(parse(simulate(lines_of(punctual), DEFAULT)))


@given(seed=SEEDS, policy=WAITING)
def test_live_runs_leave_the_same_standing_with_a_grace(seed: int, policy: Rulebook) -> None:
    """Against a clock, records up to an hour late and idle topics, what stands is the same."""
    punctual = on_time(make_log(seed))
    later = audit([{**event, "timestamp": event["timestamp"] + 2 * HOUR_MS} for event in punctual])
    judged = audit(punctual)
    # Log time may be up to an hour later, so nothing may hang on the hour.
    assume(not judged.forgettable | later.forgettable)
    assume(not judged.refusals + later.refusals)
    chaos = rough(random.Random(seed), live=True)
    stands = account_of(play(punctual, policy, chaos, live_delay_max=HOUR_MS).outputs())
    assert stands == account_of(parse(simulate(lines_of(punctual), DEFAULT)))
