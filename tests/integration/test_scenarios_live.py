"""Every scenario, of every pack too, through a worker on a real broker: a simulation's very bytes.

Each scenario has a partition of its own and its own orders, shops and exemptions, so that one
worker runs them all at once.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from streams.core.facts.inputs import INPUT_OF_TOPIC, INPUT_TOPICS
from streams.engine.simulate import simulate
from streams.kafka.connection import Connection
from streams.rulebook import load_rulebook
from streams.testing import cluster
from tests.auditor.fold import parse, standing_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

SCENARIOS = Path(__file__).parents[1] / "scenarios"
CASES = sorted((SCENARIOS / "cases").glob("*.json"))
PACKS = sorted((SCENARIOS / "packs").glob("*.json"))
# Packs of one platform would have to start at different times, so each of Douyin's runs apart.
ONE_EACH = [
    "1688-ship-service", "douyin-2022", "pinduoduo", "tiktok-sea-2026", "tiktok-us", "tiktok-vn",
    "tmall-double-11-2021",
]  # fmt: skip
APART = ["douyin-2021", "douyin-first-scan", "douyin-late-compensation"]
IDENTIFIERS = ("order_id", "shop_id", "violation_id", "exemption_id")


def renamed(value: Any, prefix: str) -> Any:
    """Return a value with the scenario's prefix before its orders, shops and exemptions."""
    if isinstance(value, list):
        return [renamed(item, prefix) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, item in value.items():
        if name in IDENTIFIERS and isinstance(item, str) and item:
            found[name] = f"{prefix}{item}"
        elif name in ("order_ids", "shop_ids") and isinstance(item, list):
            found[name] = [f"{prefix}{each}" if isinstance(each, str) else each for each in item]
        else:
            found[name] = renamed(item, prefix)
    return found


def own_partition(number: int, path: Path) -> list[dict[str, Any]]:
    """Return a scenario's events, in a partition of its own, or none if it needs several."""
    case = json.loads(path.read_text())
    events = case["events"]
    (policy, *_) = load_rulebook([case["policy"]]).policies
    for event in events:
        if path in PACKS and event["topic"] == "order-paid":
            event["value"]["platform"] = policy.platform
    if any(event.get("partition") for event in events):
        return []
    return [
        {**event, "partition": number, "value": renamed(event["value"], f"c{number}-")}
        if "value" in event
        else {**event, "partition": number}
        for event in events
    ]


def own_time(event: dict[str, Any]) -> int:
    """Return the time a line without a timestamp defaults to."""
    at: int = event["value"][INPUT_OF_TOPIC[event["topic"]].own_time]
    return at


def canonical(value: Any) -> bytes:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def as_record(event: dict[str, Any]) -> cluster.LogRecord:
    """Return the Kafka record of a line."""
    value = event.get("value")
    raw = event["raw"].encode() if "raw" in event else json.dumps(value).encode()
    name = "exemption_id" if event["topic"] == "exemption-granted" else "order_id"
    key = event.get("key") or (value.get(name) if isinstance(value, dict) else None)
    return cluster.LogRecord(
        event["topic"], event["partition"], event["timestamp"],
        key.encode() if isinstance(key, str) else None, raw,
    )  # fmt: skip


def test_every_pack_is_run() -> None:
    """Together or apart."""
    assert sorted([*ONE_EACH, *APART]) == [path.stem for path in PACKS]


@pytest.mark.parametrize(
    ("cases", "packs"),
    [
        (CASES, ["douyin-first-scan"]),
        ([path for path in PACKS if path.stem in ONE_EACH], ONE_EACH),
        *(([path for path in PACKS if path.stem == name], [name]) for name in APART),
    ],
    ids=["scenarios", "one-each", *APART],
)
async def test_scenarios_give_the_bytes_of_a_simulation(
    broker: str, tmp_path: Path, cases: list[Path], packs: list[str]
) -> None:
    """Per topic and key: the same values in the same order, once each."""
    scenarios = [events for n, path in enumerate(cases) if (events := own_partition(n, path))]
    log = [event for events in scenarios for event in events if event["topic"] in INPUT_TOPICS]
    for event in log:
        if "timestamp" not in event:
            event["timestamp"] = own_time(event)
    now_ms = cluster.now_ms()
    events = [json.dumps(event).encode() for event in log]
    lines = simulate(events, load_rulebook(packs), until=now_ms)

    # Each order partition tells every shop partition once a second how far it has come.
    await cluster.empty_topics(Connection(broker), len(cases), shop_partitions=4)
    await cluster.load(Connection(broker), map(as_record, log))
    rules = [flag for name in packs for flag in ("--policy", name)]
    worker = cluster.WorkerProcess(Connection(broker), tmp_path / "worker.log", *rules)
    try:
        await cluster.wait_until_done(Connection(broker), now_ms, timeout_s=200)
    finally:
        code = worker.stop()
    assert code == 0
    written = await cluster.read(Connection(broker), cluster.OUTPUT_TOPICS)

    expected, found = defaultdict(list), defaultdict(list)
    for line in parse(lines):
        expected[line["topic"], line["key"]].append(canonical(line["value"]))
    for record in written:
        key = None if record.key is None else record.key.decode()
        found[record.topic, key].append(record.value)
    # Both stages tell a shop, each in its own order; a dead letter may come from any partition.
    for place in expected.keys() | found.keys():
        if place[0] in ("notification", "dead-letter"):
            assert Counter(found[place]) == Counter(expected[place]), place
        else:
            assert found[place] == expected[place], place

    live = [
        json.dumps({"topic": r.topic, "key": r.key.decode(), "value": json.loads(r.value)})
        for r in written
        if r.key is not None and r.value is not None
    ]
    assert standing_of(parse(line.encode() for line in live)) == standing_of(parse(lines))
