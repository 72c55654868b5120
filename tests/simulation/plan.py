"""What a seed stands for: the events, how they arrive, the settings, the faults.

There are two kinds of runs. In a *punctual* one no record has a timestamp ahead of the clock or
arrives later than the idle slack allows: the outputs must be those of `simulate`, byte for byte.
In a *loose* one producers' clocks are wrong and records come days late: what stands must be what
the auditor finds, and its log time spans so little that no limit of it can decide anything.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.event_file import read_log
from streams.runtime.settings import Settings
from tests.auditor.naive import DAY_MS, HOUR_MS, MINUTE_MS, OWN_TIME, Event, audit, by_partition
from tests.property.logs import MONDAY_MS, LogMaker, arrange, judgeable, lines_of
from tests.simulation.clients import Faults
from tests.simulation.hangs import HangRates
from tests.simulation.memory_kafka import Row

LONG_AFTER_MS = 500 * DAY_MS
_LOOSE_SPAN_MS = 4 * DAY_MS
_LOOSE_MARGIN_MS = DAY_MS
_STRANGER_MS = 7 * DAY_MS


class Arrival(NamedTuple):
    """A record and when, by the events' clock, it comes to its topic partition."""

    at_ms: int
    topic: str
    partition: int
    row: Row


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a seed decides before the first step; accidents are drawn on the way."""

    seed: int
    punctual: bool
    partitions: int
    shop_partitions: int
    workers: int
    play_s: float
    """How long the events take to arrive, and the accidents last."""
    backlog_until_ms: int
    """What arrives before it is there, topic after topic, before the first worker starts."""
    last_arrival_ms: int
    end_ms: int
    """Where the events' clock comes to stand."""
    disturb_every_s: float
    settings: Mapping[str, int]
    window: tuple[int, int]
    """Records and timers that the orders stage takes in one go."""
    faults: Faults
    hangs: HangRates
    slow_topics: tuple[str, ...]
    events: list[Event] = field(repr=False)
    arrivals: list[Arrival] = field(repr=False)

    def describe(self) -> str:
        """Say the plan in one line, with what is not at rest."""
        parts = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}
        for rates in ("faults", "hangs"):
            parts[rates] = {name: rate for name, rate in vars(parts[rates]).items() if rate}
        return " ".join(f"{name}={value}" for name, value in parts.items())


def make_plan(seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(f"plan-{seed}")
    partitions = rng.choice((1, 1, 2, 3, 4, 6))
    punctual = rng.random() < 0.65
    slack_ms = rng.choice((500, 1_000, HOUR_MS, DAY_MS) if punctual else (500, HOUR_MS))
    if punctual:
        events = _events(rng, partitions)
        arrivals = _punctual(rng, events, slack_ms)
    else:
        events, arrivals = _loose(rng, _events(rng, partitions))
    last_ms = max((arrival.at_ms for arrival in arrivals), default=MONDAY_MS)
    instants = sorted(arrival.at_ms for arrival in arrivals) or [last_ms]
    backlog = rng.choice((0.0, 0.0, rng.random(), 1.0))
    backlog_until_ms = instants[min(len(instants) - 1, int(backlog * len(instants)))]
    rate = rng.choice((0.0, 0.002, 0.01, 0.04))

    def sometimes() -> float:
        return rate * rng.random() if rng.random() < 0.6 else 0.0

    return Plan(
        seed=seed,
        punctual=punctual,
        partitions=partitions,
        shop_partitions=rng.choice((1, 2, 3)),
        workers=rng.choice((1, 2, 2, 3)),
        play_s=rng.choice((2.0, 5.0, 10.0)),
        backlog_until_ms=backlog_until_ms,
        last_arrival_ms=last_ms,
        end_ms=last_ms + LONG_AFTER_MS,
        disturb_every_s=rng.choice((0.5, 1.5, 4.0)),
        settings=_settings(rng, punctual=punctual) | {"idle_slack_ms": slack_ms},
        window=rng.choice(((1, 1), (7, 3), (50, 1), (16_384, 8_192))),
        faults=Faults(
            lost_request=sometimes(),
            lost_reply=sometimes(),
            refused=sometimes(),
            silence=sometimes() / 4,
            straggler=sometimes() / 2,
            late_commit=rng.choice((0.0, 0.0, 0.1, 0.3)),
            kill=sometimes() / 2,
            freeze=sometimes(),
            delay_s=rng.choice((0.002, 0.02, 0.1)),
            slow_topic=rng.choice((0.0, 0.5, 0.9)),
        ),
        hangs=_hangs(random.Random(f"hangs-{seed}")),
        slow_topics=tuple(rng.sample(INPUT_TOPICS, 2)),
        events=events,
        arrivals=arrivals,
    )


def _settings(rng: random.Random, *, punctual: bool) -> dict[str, int]:
    """Draw settings in which everything is small and soon."""
    return {
        "probe_interval_ms": rng.choice((150, 500, 1_000)),
        "request_timeout_ms": 1_000,
        "session_timeout_ms": 2_000,
        "heartbeat_interval_ms": 600,
        "rebalance_timeout_ms": 3_000,
        "transaction_timeout_ms": 3_000,
        "commit_interval_ms": rng.choice((20, 100, 400)),
        "catch_up_ms": rng.choice((0, 10_000, 10**15)),
        "catch_up_commit_interval_ms": rng.choice((50, 400, 2_000)),
        "transaction_records_max": rng.choice((1, 20, 50_000)),
        "mark_interval_ms": rng.choice((300, 1_000)),
        "idle_mark_interval_ms": rng.choice((1_000, 60_000)),
        "idle_probe_interval_ms": rng.choice((500, 5_000)),
        "marks_wait_ms": rng.choice((100, 500)),
        "step_outputs_max": rng.choice((1, 2, 5, 20, 4_000)),
        "buffered_bytes_max": rng.choice((2_000, 20_000, 128 * 1024 * 1024)),
        # Where many records of one instant are stepped over, records get another log time.
        "instant_bytes_max": 512 * 1024 * 1024 if punctual else rng.choice((1, 512 * 1024 * 1024)),
        "fetch_partition_bytes": rng.choice((300, 2_000, 500_000)),
        "fetch_wait_ms": rng.choice((200, 500, 1_200)),
        "batch_bytes": rng.choice((2_000, 20_000, 512 * 1024)),
        "restore_concurrency": rng.choice((1, 4)),
        "stop_timeout_ms": rng.choice((200, 1_000)),
        # As many request timeouts as in the worker's own settings.
        "answer_limit_ms": 3_000,
        "join_limit_ms": 12_000,
        "silence_limit_ms": 6_000,
        "fetch_limit_ms": 3_000,
        "restore_stall_limit_ms": 1_500,
        "unready_limit_ms": 3_000,
    }


def _hangs(rng: random.Random) -> HangRates:
    """Draw whether and how calls hang: every second seed has some that do."""
    if rng.random() < 0.5:
        return HangRates()
    return HangRates(
        chance=rng.choice((0.001, 0.005, 0.02)),
        endless=rng.choice((0.0, 0.3, 1.0)),
        longest_s=rng.choice((1.0, 5.0, 20.0)),
        half_open_every_s=rng.choice((2.0, 5.0)),
        half_open_s=rng.choice((0.5, 2.0)),
        restores=rng.choice((0.0, 0.3, 0.8)),
    )


def settings_of(plan: Plan, **others: object) -> Settings:
    """Return the worker's settings."""
    return Settings(**plan.settings, **others)  # type: ignore[arg-type]


# --- the events


def _events(rng: random.Random, partitions: int) -> list[Event]:
    maker = LogMaker(random.Random(rng.random()))
    maker.partitions = partitions
    return judgeable(arrange(rng, maker.make()))


def _rows(events: list[Event]) -> list[tuple[str, int, list[Row]]]:
    """Lay the events out by topic and partition, as `simulate` does."""
    log = read_log(lines_of(events))
    return [
        (topic, partition, [Row(r.timestamp, r.key, r.value) for r in records])
        for (topic, partition), records in log.items()
    ]


def _punctual(rng: random.Random, events: list[Event], slack_ms: int) -> list[Arrival]:
    """Let each record arrive between its effective timestamp and the idle slack after it."""
    arrivals = []
    for topic, partition, rows in _rows(events):
        effective = at = 0
        lag_max = rng.choice((1, slack_ms))
        for row in rows:
            effective = max(effective, row.timestamp)
            at = max(at, effective + rng.randrange(lag_max))
            arrivals.append(Arrival(at, topic, partition, row))
    return sorted(arrivals, key=lambda arrival: arrival.at_ms)


def _loose(rng: random.Random, events: list[Event]) -> tuple[list[Event], list[Arrival]]:
    """Keep what happens within days; let producers' clocks be wrong and records late.

    Returns the events with the timestamps to be judged by, never later than the arrival, and what
    arrives.
    """
    timed = sorted(
        ((max(_stamp(event), MONDAY_MS), event) for event in events), key=lambda each: each[0]
    )
    first = timed[0][0] if timed else 0
    timed = [each for each in timed if each[0] <= first + _LOOSE_SPAN_MS]
    oldest_ms = (timed[-1][0] if timed else 0) + _LOOSE_MARGIN_MS - _STRANGER_MS
    judged: list[Event] = []
    sent: list[Event] = []
    ats: list[int] = []
    for at, event in timed:
        own, stamp = _own_time(event), _stamp(event)
        if not oldest_ms < own <= at + 5 * MINUTE_MS + 1:
            continue
        draw = rng.random()
        sent_stamp = judged_stamp = stamp
        if draw < 0.1 and own <= at:
            judged_stamp = at
            sent_stamp = at + rng.choice((HOUR_MS, 30 * DAY_MS, 3_650 * DAY_MS, 36_500 * DAY_MS))
        elif draw < 0.25:
            behind_ms = rng.choice((MINUTE_MS, 3 * HOUR_MS, 2 * DAY_MS, 3_650 * DAY_MS))
            sent_stamp = judged_stamp = max(0, at - behind_ms)
        judged.append({**event, "timestamp": judged_stamp})
        sent.append({**event, "timestamp": sent_stamp})
        ats.append(at)
    result = audit(judged)
    if result.forgettable or {r.reason for r in result.refusals} & {"too-late", "no-order"}:
        raise AssertionError("a limit of log time decides something in a loose run")
    rows = {(topic, partition): some for topic, partition, some in _rows(sent)}
    arrivals = [
        Arrival(ats[r.line], r.topic, r.partition, rows[r.topic, r.partition][r.offset])
        for records in by_partition(judged).values()
        for r in sorted(records, key=lambda r: r.offset)
    ]
    return judged, sorted(arrivals, key=lambda arrival: arrival.at_ms)


def _stamp(event: Event) -> int:
    return int(event["timestamp"]) if "timestamp" in event else _own_time(event)


def _own_time(event: Event) -> int:
    value = event.get("value")
    own = value.get(OWN_TIME[event["topic"]]) if isinstance(value, dict) else None
    return own if isinstance(own, int) else int(event.get("timestamp", MONDAY_MS))
