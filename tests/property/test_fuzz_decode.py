"""Whatever bytes arrive: no exception, one dead letter a bad record, the rest untouched.

The decoder alone, then the whole of both stages with crashes and restores, then `simulate`.
"""

from __future__ import annotations

import base64
import copy
import json
import random
from operator import attrgetter
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from streams.codec.decode import Decoder, Refused
from streams.core.facts.events import Event
from streams.core.facts.inputs import INPUT_TOPICS, INPUTS
from streams.core.facts.instants import NEVER_MS
from streams.engine.event_file import BadLine
from streams.engine.orders_task import OrdersTask
from streams.engine.records import SHOP_VIOLATIONS, InRecord, OutRecord, columns
from streams.engine.simulate import simulate
from streams.rulebook import load_rulebook
from tests.auditor.naive import DAY_MS
from tests.property.driver import (
    EVERYTHING,
    LONG_AFTER_MS,
    NOW_MS,
    Chaos,
    OrdersMachine,
    ShopsMachine,
    public,
    records_of,
    repartitioned,
)
from tests.property.logs import MONDAY_MS, lines_of, make_log

POLICY = load_rulebook(["douyin-first-scan"])
SEEDS = st.integers(min_value=0, max_value=2**32)
RANKS = st.integers(min_value=0, max_value=len(INPUT_TOPICS) - 1)
TIMESTAMPS = st.one_of(st.just(MONDAY_MS), st.integers(-1, 2**62))
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(MONDAY_MS - 10**10, MONDAY_MS + 10**10),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda children: st.one_of(
        st.lists(children, max_size=3), st.dictionaries(st.text(), children, max_size=3)
    ),
    max_leaves=6,
)
Place = tuple[str, int]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values within a value, but for the value itself."""
    found: list[tuple[Any, ...]] = []
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found += [(*path, key), *places(child, (*path, key))]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> tuple[int, bytes | None, bytes]:
    """Return the rank, key and bytes of an event with something changed."""
    log = [event for event in make_log(draw(SEEDS)) if event.get("value")]
    if not log:
        return 0, None, b""
    event = draw(st.sampled_from(log))
    value = copy.deepcopy(event["value"])
    key = str(value.get("order_id", "")).encode()
    for _ in range(draw(st.integers(0, 2))):
        if not (paths := places(value)):
            break
        *parents, last = draw(st.sampled_from(paths))
        holder = value
        for parent in parents:
            holder = holder[parent]
        if draw(st.booleans()):
            holder[last] = draw(JSON)
        else:
            del holder[last]
    raw = json.dumps(value).encode()
    if draw(st.booleans()):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=3)) + raw[at + draw(st.integers(0, 3)) :]
    return INPUT_TOPICS.index(event["topic"]), key, raw


def decoded(rank: int, key: bytes | None, value: bytes | None, timestamp: int) -> Event | Refused:
    """Return the event of a record, or why it is refused."""
    try:
        return Decoder(POLICY).decode(rank, key, value, timestamp)
    except Refused as refused:
        return refused


@given(rank=RANKS, key=st.one_of(st.none(), st.binary()), value=st.one_of(st.none(), st.binary()))
@example(rank=2, key=None, value=b"[" * 100_000)
@example(rank=2, key=b"O1", value=b'{"order_id":"\\ud800"}')
def test_bytes_are_an_event_or_refused(rank: int, key: bytes | None, value: bytes | None) -> None:
    """No bytes make the decoder fail in any other way."""
    assert isinstance(decoded(rank, key, value, MONDAY_MS), INPUTS[rank].event | Refused)


@given(record=mutated(), timestamp=TIMESTAMPS)
def test_nearly_valid_events_are_an_event_or_refused(
    record: tuple[int, bytes | None, bytes], timestamp: int
) -> None:
    """A changed field, a lost one or a flipped byte is no other failure either."""
    rank, key, value = record
    assert isinstance(decoded(rank, key, value, timestamp), INPUTS[rank].event | Refused)


def judged(topics: dict[str, list[InRecord]]) -> tuple[list[OutRecord], dict[Place, list[bytes]]]:
    """Return what the orders stage of one partition puts out, and the dead letters by place."""
    task = OrdersTask(0, POLICY, live=False)
    task.restored()
    for topic, records in topics.items():
        task.offer(topic, columns(records), now_ms=0)
        last = max((record.timestamp for record in records), default=0)
        task.complete(topic, max(MONDAY_MS, last) + LONG_AFTER_MS)
    outputs: list[OutRecord] = []
    letters: dict[Place, list[bytes]] = {}
    while checkpoint := task.step(EVERYTHING, mark=False):
        for record in checkpoint.outputs:
            if record.topic != "dead-letter":
                outputs.append(record)
                continue
            value = json.loads(record.value)
            place = value["source"]["topic"], value["source"]["offset"]
            letters.setdefault(place, []).append(base64.b64decode(value["raw"]))
    return outputs, letters


@given(
    seed=SEEDS,
    garbage=st.lists(
        st.tuples(RANKS, st.none() | st.binary(), st.none() | st.binary()), max_size=5
    ),
    mutants=st.lists(mutated(), max_size=3),
)
def test_garbage_is_set_aside_whole_and_changes_nothing_else(
    seed: int,
    garbage: list[tuple[int, bytes | None, bytes | None]],
    mutants: list[tuple[int, bytes | None, bytes]],
) -> None:
    """Each bad record is one dead letter with its bytes; the outputs are those without it."""
    rng = random.Random(seed)
    clean = records_of(make_log(seed))[0]
    dirty = {topic: list(records) for topic, records in clean.items()}
    bad: dict[Place, bytes] = {}
    for rank, key, value in [*garbage, *mutants]:
        # Older than all others, so that log time passes as without it.
        record = InRecord(-1, 0, key, value)
        if isinstance(decoded(rank, key, value, 0), Refused):
            records = dirty[INPUT_TOPICS[rank]]
            records.insert(rng.randrange(len(records) + 1), record)
    for topic, records in dirty.items():
        for offset, record in enumerate(records):
            if record.offset == -1:
                bad[topic, offset] = record.value or b""
            records[offset] = record._replace(offset=offset)
    expected, known_letters = judged(clean)
    outputs, letters = judged(dirty)
    assert outputs == expected
    assert {place: letters.get(place) for place in bad} == {
        place: [raw] for place, raw in bad.items()
    }
    assert len(letters) == len(known_letters) + len(bad)
    assert all(len(raws) == 1 for raws in letters.values())


# What a field may hold that is right somewhere: at its own place, or at a wrong one.
PLAUSIBLE = st.sampled_from(
    [
        "O0", "O1", "O2", "S1", "T1", "SF", "X1", "A1", "O0:late-scan:1", "O1:late-scan:9",
        "normal", "express", "presale", "refunded", "cancelled", "granted", "rejected", "platform",
        "CN-BJ", "CNY", ["P1"], ["P1", "P1"], ["O0", "O1"], ["late-scan"], {}, {"waive": True},
        {"extend_by": DAY_MS}, {"extend_to": NEVER_MS}, {"order_ids": ["O0"]},
        {"shop_ids": []}, MONDAY_MS, MONDAY_MS + DAY_MS, MONDAY_MS + 4 * DAY_MS, NEVER_MS, 0, 1,
    ]
)  # fmt: skip


@st.composite
def shaped(draw: st.DrawFn) -> tuple[int, bytes | None, bytes]:
    """Return a record with fields of its topic, each of them with anything in it."""
    rank = draw(RANKS)
    values = st.one_of(PLAUSIBLE, PLAUSIBLE, JSON)
    fields = st.fixed_dictionaries(
        {}, optional=dict.fromkeys(INPUTS[rank].event.__struct_fields__, values)
    )
    value = draw(fields)
    key = draw(st.one_of(st.just(str(value.get("order_id")).encode()), st.none() | st.binary()))
    return rank, key, json.dumps(value).encode()


STRAYS = st.lists(
    st.tuples(
        st.one_of(
            shaped(),
            mutated(),
            st.tuples(RANKS, st.none() | st.binary(), st.none() | st.binary()),
        ),
        st.one_of(
            st.integers(0, 20).map(lambda days: MONDAY_MS + days * DAY_MS),
            st.integers(-1, NEVER_MS - 1),
        ),
    ),
    max_size=12,
)


def mixed(
    seed: int, strays: list[tuple[tuple[int, bytes | None, bytes | None], int]]
) -> dict[str, list[InRecord]]:
    """Return the records of a log with others strewn in."""
    rng = random.Random(seed)
    topics = records_of(make_log(seed))[0]
    for (rank, key, value), timestamp in strays:
        records = topics[INPUT_TOPICS[rank]]
        records.insert(rng.randrange(len(records) + 1), InRecord(-1, timestamp, key, value))
    return {
        topic: [record._replace(offset=offset) for offset, record in enumerate(records)]
        for topic, records in topics.items()
    }


def played(
    topics: dict[str, list[InRecord]], chaos: Chaos
) -> tuple[list[OutRecord], dict[Place, list[tuple[str, bytes]]]]:
    """Run both stages over a partition.

    Return what came out by topic, and the dead letters by place, with their reasons.
    """
    latest = max((r.timestamp for records in topics.values() for r in records), default=0)
    end_ms = (NOW_MS if chaos.live else max(MONDAY_MS, latest)) + LONG_AFTER_MS
    orders = OrdersMachine(0, topics, POLICY, end_ms, chaos)
    orders.run()
    assert orders.task.next_offsets == {topic: len(records) for topic, records in topics.items()}
    outputs: list[OutRecord] = []
    letters: dict[Place, list[tuple[str, bytes]]] = {}
    for record in orders.committed.outputs:
        if record.topic == "dead-letter":
            value = json.loads(record.value)
            place = value["source"]["topic"], value["source"]["offset"]
            letter = value["reason"], base64.b64decode(value["raw"])
            letters.setdefault(place, []).append(letter)
        else:
            outputs.append(record)
    shops = ShopsMachine(0, repartitioned([outputs], 1, chaos.rng), POLICY, 1, chaos)
    shops.run()
    # Marks come as steps do, and so does the order between topics.
    items = [record for record in outputs if record.topic == SHOP_VIOLATIONS]
    kept = items + public(outputs + shops.committed.outputs)
    return sorted(kept, key=attrgetter("topic")), letters


@given(seed=SEEDS, strays=STRAYS, live=st.booleans())
def test_every_record_is_judged_or_set_aside_once(
    seed: int, strays: list[tuple[tuple[int, bytes | None, bytes | None], int]], live: bool
) -> None:
    """Through crashes and lost commits; and what is set aside has had no effect at all."""
    topics = mixed(seed, strays)
    rough = Chaos(
        random.Random(seed), batch_max=9, outputs_max=5, crash=0.1, lost_commit=0.1, live=live
    )
    outputs, letters = played(topics, rough)
    for topic, records in topics.items():
        for record in records:
            found = letters.get((topic, record.offset), [])
            assert [raw for _, raw in found] in ([], [record.value or b""])
            if isinstance(decoded(INPUT_TOPICS.index(topic), *record[2:], record[1]), Refused):
                assert found
    if live:
        # What is late to the frontier depends on the batches.
        return
    for (topic, offset), ((reason, _),) in letters.items():
        # One that waited in vain has kept its copies from waiting.
        if reason != "no-order":
            topics[topic][offset] = topics[topic][offset]._replace(key=None, value=b"")
            letters[topic, offset] = [("malformed", b"")]
    assert played(topics, Chaos(random.Random(seed))) == (outputs, letters)


@st.composite
def event_lines(draw: st.DrawFn) -> bytes:
    """Return a line that holds a changed event at any time."""
    rank, key, value = draw(mutated())
    line = {
        "topic": INPUT_TOPICS[rank],
        "timestamp": draw(st.integers(0, NEVER_MS - 1)),
        "key": (key or b"").decode(),
        "raw": value.decode(errors="replace"),
    }
    return json.dumps(line).encode()


@given(
    seed=SEEDS,
    lines=st.lists(
        st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode()), event_lines())
    ),
)
def test_any_file_is_judged_or_refused_by_line(seed: int, lines: list[bytes]) -> None:
    """`simulate` reads a file to its end, or names a line that is there."""
    rng = random.Random(seed)
    good = lines_of(make_log(seed))[:10]
    file = list(good)
    for text in lines:
        file.insert(rng.randrange(len(file) + 1), text)
    assert read(file)
    assert read(good) == "judged"


def read(file: list[bytes]) -> str:
    """Run a file; return how that ended."""
    try:
        outputs = simulate(file, POLICY)
    except BadLine as bad:
        return "refused" if 1 <= bad.number <= len(file) else ""
    return "judged" if all(json.loads(output)["topic"] for output in outputs) else ""


@given(
    topic=st.one_of(st.sampled_from(INPUT_TOPICS), st.text(min_size=1)),
    timestamp=st.integers(0, NEVER_MS - 1),
    content=st.one_of(
        JSON.map(lambda value: {"value": value}), st.text().map(lambda raw: {"raw": raw})
    ),
    key=st.none() | st.text(),
)
def test_any_event_line_comes_back_as_one_dead_letter(
    topic: str, timestamp: int, content: dict[str, Any], key: str | None
) -> None:
    """What no topic takes is put out once, with its key, place and content."""
    line = {"topic": topic, "timestamp": timestamp, "key": key} | content
    (output,) = map(json.loads, simulate([json.dumps(line, ensure_ascii=False).encode()], POLICY))
    letter = output["value"]
    assert output["topic"] == "dead-letter"
    assert letter["source"] == {
        "topic": topic,
        "partition": 0,
        "offset": 0,
        "timestamp": timestamp,
    }
    raw = base64.b64decode(letter["raw"]).decode()
    if "raw" in content:
        assert raw == content["raw"]
        assert output["key"] == key
    else:
        assert json.loads(raw) == content["value"]
