"""What must hold when a run has come to rest. Reads the log alone, and asks nobody who wrote it."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Any

from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2

from streams.engine.records import (
    BETWEEN_STAGES,
    FRONTIER_MARKS,
    SHOP_VIOLATIONS,
    CorruptChangelog,
)
from streams.engine.simulate import simulate
from tests.auditor.fold import BrokenLawError, Output, parse, refusals_of, standing_of, warnings_of
from tests.auditor.naive import Audit, Event, accept, audit, by_partition
from tests.property.logs import lines_of
from tests.simulation.memory_kafka import Row
from tests.simulation.world import World, group_of
from tests.unit.samples import DEFAULT

_BY_SHOP = ("penalty", "product-ban", "shop-action")
_BY_ORDER = ("timeout", "deadline-warning", "deadline-changed", "order-closure")
_PREFIXES = 4


def faults_of(world: World) -> list[str]:
    """Return what is wrong with a run, in words; an empty list if nothing is."""
    found = list(world.failures)
    if world.stands_still:
        # What is missing follows from that.
        return found
    for check in (_transactions, _offsets, _marks, _states, _identities, _judgement):
        try:
            found += check(world)
        except (BrokenLawError, CorruptChangelog) as exc:
            found.append(f"{check.__name__[1:]}: {exc}")
    return found


def _transactions(world: World) -> list[str]:
    """Require that no fenced producer commits, and that nothing is left open."""
    found = []
    newest: dict[str, int] = {}
    for name, epoch in world.kafka.commits:
        if epoch < newest.get(name, 0):
            found.append(f"{name} committed with epoch {epoch} after {newest[name]}")
        newest[name] = max(epoch, newest.get(name, 0))
    if world.kafka.undecided:
        found.append(f"{world.kafka.undecided} transactions are left open")
    return found


def _offsets(world: World) -> list[str]:
    """Require committed offsets to go on only, and to the end."""
    found = [
        f"offsets of {group} in {tp.topic}[{tp.partition}] went back: {history}"
        for (group, tp), history in world.kafka.offset_history.items()
        if history != sorted(history)
    ]
    for stage in world.stages:
        found += [
            f"{left} records of {tp.topic}[{tp.partition}] are not processed"
            for tp in world.kafka.logs
            if tp.topic in stage.inputs and (left := world.unread(stage, tp))
        ]
    return found


def _marks(world: World) -> list[str]:
    """Require that frontiers only go on, and that nothing follows a mark that lies below it."""
    found = []
    marked: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for transaction, value in _between(world, FRONTIER_MARKS):
        if value["type"] == "mark":
            marks, frontier_ms = marked[value["source"]], value["frontier_ms"]
            if marks and frontier_ms < marks[-1][1]:
                found.append(f"the frontier of {value['source']} went back to {frontier_ms}")
            marks.append((transaction, frontier_ms))
    partition_of = _partition_of(world.plan.events)
    for transaction, value in _between(world, SHOP_VIOLATIONS):
        marks = marked[partition_of[value["order_id"]]]
        before = bisect_left(marks, (transaction, 0))
        if before and value["log_time_ms"] < marks[before - 1][1]:
            found.append(f"{value} follows a mark of {marks[before - 1][1]}")
    return found


def _between(world: World, topic: str) -> list[tuple[int, dict[str, Any]]]:
    """Return what the stages have ever committed to a topic between them, with transactions."""
    return [
        (entry.transaction, json.loads(entry.row.value or b""))
        for tp, log in world.kafka.logs.items()
        if tp.topic == topic
        for entry in log.written
        if entry.row is not None and entry.transaction is not None and log.visible(entry)
    ]


def _states(world: World) -> list[str]:
    """Restore prefixes of every changelog: frontier and offsets go on, up to the group's."""
    found = []
    for stage in world.stages:
        for partition in range(world.kafka.counts[stage.changelog]):
            where = f"{stage.changelog}[{partition}]"
            log = world.kafka.logs[TopicPartition(stage.changelog, partition)]
            ends = [entry.offset for entry in log.written if entry.row is None]
            cuts = [*ends[:: max(1, len(ends) // _PREFIXES)], log.end]
            before: tuple[int, dict[str, int]] = 0, {}
            for cut in cuts:
                task: Any = stage.new_task(partition, world.kafka.counts)
                entries = [
                    (entry.row.key or b"", entry.row.value)
                    for entry in log.written
                    if entry.offset < cut and entry.row is not None and log.visible(entry)
                ]
                task.restore(entries)
                task.restored()
                frontier_ms, offsets = task.frontier_ms, dict(task.next_offsets)
                if frontier_ms < before[0]:
                    found.append(f"the frontier in {where} went back before offset {cut}")
                if any(offsets[topic] < offset for topic, offset in before[1].items()):
                    found.append(f"the offsets in {where} went back before offset {cut}")
                before = frontier_ms, offsets
            committed = {
                topic: world.kafka.committed.get(
                    (group_of(stage), TopicPartition(topic, partition))
                )
                for topic in stage.inputs
            }
            if any(before[1][topic] != offset for topic, offset in committed.items() if offset):
                found.append(f"{where} says {before[1]}, the group {committed}")
    return found


def _identities(world: World) -> list[str]:
    """Require every output once, under its identity, in the partition of its key."""
    found = []
    for topic in _output_topics(world):
        count = world.kafka.counts[topic]
        seen: Counter[bytes] = Counter()
        for partition, row in _rows(world, topic):
            identity = dict(row.headers)["ce_id"]
            seen[identity] += 1
            if row.key is not None and (murmur2(row.key) & 0x7FFFFFFF) % count != partition:
                found.append(f"{topic} {identity!r} is not in the partition of its key")
        found += [
            f"{topic} {identity.decode()} is there {n} times"
            for identity, n in seen.items()
            if n > 1
        ]
    return found


def _judgement(world: World) -> list[str]:
    """Compare what stands with the auditor, and a punctual run's outputs with `simulate`."""
    events = world.plan.events
    written = _written(world)
    found = _against_auditor(events, written)
    if world.plan.punctual:
        lines = simulate(lines_of(events), DEFAULT, until=world.frontier_end_ms)
        found += _differences(_places(events, parse(lines)), _places(events, written))
    return found


def _against_auditor(events: list[Event], written: list[Output]) -> list[str]:
    judged, found = audit(events), []
    standing, wanted = standing_of(written), judged.what_stands()
    for part, expected in wanted.items():
        if standing[part] != expected:
            found.append(f"{part}: the auditor finds {_brief(expected, standing[part])}")
    warnings_of(written)
    refused = Counter(refusals_of(written))
    refusals = Counter((r.reason, r.topic, r.partition, r.offset) for r in judged.refusals)
    missing = refusals - refused
    # What waits for an order that never comes is refused once log time has gone on for long enough.
    strangers = _of_strangers(events)
    beyond = [
        each for each in refused - refusals if each[0] != "no-order" or each[1:] not in strangers
    ]
    if missing or beyond:
        found.append(f"dead letters: missing {sorted(missing)}, beyond {sorted(beyond)}")
    return found


def _of_strangers(events: list[Event]) -> set[tuple[str, int, int]]:
    """Return (topic, partition, offset) of the records whose order the auditor does not know."""
    found: set[tuple[str, int, int]] = set()
    for records in by_partition(events).values():
        orders, _ = accept(records, Audit())
        found |= {
            (record.topic, record.partition, record.offset)
            for record in records
            if isinstance(record.value, dict) and str(record.value.get("order_id")) not in orders
        }
    return found


def _brief(expected: Any, actual: Any) -> str:
    if isinstance(expected, dict):
        expected, actual = list(expected.items()), list(actual.items())
    only = [each for each in expected if each not in actual]
    beyond = [each for each in actual if each not in expected]
    return f"{only[:5]} more, and not {beyond[:5]}"


def _partition_of(events: list[Event]) -> dict[str, int]:
    """Return the partition of every order."""
    return {
        record.value["order_id"]: partition
        for partition, records in by_partition(events).items()
        for record in records
        if isinstance(record.value, dict) and "order_id" in record.value
    }


def _places(events: list[Event], outputs: list[Output]) -> dict[tuple[Any, ...], list[str]]:
    """Sort outputs into the sequences whose order is promised."""
    partition_of = _partition_of(events)
    places: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for output in outputs:
        topic, value = output["topic"], output["value"]
        place: tuple[Any, ...] = topic, output["key"]
        if topic in _BY_ORDER:
            place += (partition_of[value["order_id"]],)
        places[place].append(json.dumps(value, sort_keys=True))
    for place, values in places.items():
        if place[0] not in (*_BY_SHOP, *_BY_ORDER):
            values.sort()
    return places


def _differences(
    wanted: dict[tuple[Any, ...], list[str]], written: dict[tuple[Any, ...], list[str]]
) -> list[str]:
    found = []
    for place in sorted(wanted.keys() | written.keys(), key=str):
        expected, actual = wanted.get(place, []), written.get(place, [])
        if expected == actual:
            continue
        lost, more = Counter(expected) - Counter(actual), Counter(actual) - Counter(expected)
        how = f"lost {list(lost)[:3]}, beyond {list(more)[:3]}" if lost or more else "other order"
        found.append(f"{place}: unlike `simulate`: {how}")
    return found


def _output_topics(world: World) -> list[str]:
    orders, shops = world.stages
    return sorted({*orders.outputs, *shops.outputs} - {*BETWEEN_STAGES})


def _rows(world: World, topic: str) -> list[tuple[int, Row]]:
    return [
        (partition, row)
        for partition in range(world.kafka.counts[topic])
        for _, row in world.kafka.logs[TopicPartition(topic, partition)].committed_rows()
    ]


def _written(world: World) -> list[Output]:
    """Return all outputs as lines of `simulate`; offsets of sources count visible records."""
    outputs = []
    for topic in _output_topics(world):
        for _, row in _rows(world, topic):
            value = json.loads(row.value or b"")
            if topic == "dead-letter":
                source = value["source"]
                log = world.kafka.logs[TopicPartition(source["topic"], source["partition"])]
                offsets = [offset for offset, _ in log.committed_rows()]
                if source["offset"] not in offsets:
                    raise BrokenLawError(f"a dead letter of an aborted record: {source}")
                source["offset"] = offsets.index(source["offset"])
            key = None if row.key is None else row.key.decode()
            outputs.append({"topic": topic, "key": key, "value": value})
    return outputs
