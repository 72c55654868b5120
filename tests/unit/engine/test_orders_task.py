"""The orders stage of one partition: partial steps, offsets, marks, restore."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterable

import pytest

from streams.codec.state import PARTS_AT, StateVersionError
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.facts.instants import END_OF_TIME_MS
from streams.engine import orders_changelog, orders_task
from streams.engine.orders_task import OrdersTask
from streams.engine.records import (
    BETWEEN_STAGES,
    FRONTIER_MARKS,
    META_KEY,
    SHOP_VIOLATIONS,
    Checkpoint,
    CorruptChangelog,
    InRecord,
    OutRecord,
    columns,
)
from tests.unit.samples import (
    DAY_MS,
    DEADLINE,
    HOUR_MS,
    PLACED_AT,
    POLICY,
    Value,
    appeal,
    closed,
    exemption,
    paid,
    policy_with,
    record,
    rulebook_with,
    scan,
    upload,
)

MANY = 1_000_000
LATER = DEADLINE + 10 * DAY_MS


@pytest.fixture
def halting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let work stop everywhere, as it may where there are too many timers for one step."""
    monkeypatch.setattr(OrdersTask, "_next_window", lambda self: (self._frontier.value(), False))


def new_task(live: bool = False) -> OrdersTask:
    """Return a task that starts from nothing."""
    task = OrdersTask(3, POLICY, live)
    task.restored()
    return task


def offer(task: OrdersTask, topic: str, *values: Value, timestamp: int | None = None) -> None:
    """Offer values as the first records of a topic."""
    records = [record(topic, value, timestamp, offset) for offset, value in enumerate(values)]
    task.offer(topic, columns(records), now_ms=LATER)


def complete(task: OrdersTask, as_of_ms: int) -> None:
    """Let every topic be read to its end."""
    for topic in INPUT_TOPICS:
        task.complete(topic, as_of_ms)


def step(task: OrdersTask, max_outputs: int = MANY, mark: bool = False) -> Checkpoint:
    """Take a step that must have something to commit."""
    checkpoint = task.step(max_outputs, mark)
    assert checkpoint is not None
    return checkpoint


def topics_of(checkpoint: Checkpoint) -> list[str]:
    """Return the topics of the outputs, notifications and items left out."""
    left_out = ("notification", *BETWEEN_STAGES)
    return [each.topic for each in checkpoint.outputs if each.topic not in left_out]


def marks_of(checkpoint: Checkpoint) -> list[int]:
    """Return the frontiers of the marks."""
    return [
        json.loads(each.value)["frontier_ms"]
        for each in checkpoint.outputs
        if each.topic == FRONTIER_MARKS
    ]


def by_topic(outputs: list[OutRecord]) -> list[OutRecord]:
    """Return what each topic holds, in order, marks left out."""
    return sorted(
        (each for each in outputs if each.topic != FRONTIER_MARKS), key=lambda each: each.topic
    )


def restored(changelog: Iterable[tuple[bytes, bytes | None]]) -> OrdersTask:
    """Return a task restored from a changelog."""
    task = OrdersTask(3, POLICY, live=False)
    task.restore(changelog)
    task.restored()
    return task


# Frontier and offsets


def test_nothing_is_processed_before_every_topic_was_read_so_far() -> None:
    """A topic not read yet may still hold the scan that decides."""
    task = new_task()
    offer(task, "order-paid", paid())
    assert task.step(MANY, mark=False) is None
    assert (task.buffered, task.held("order-paid"), task.held("first-scan")) == (1, 1, 0)


def test_record_at_the_frontier_waits() -> None:
    """Only what lies below it is final."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, PLACED_AT)
    assert task.step(MANY, mark=False) is None
    complete(task, PLACED_AT + 1)
    assert step(task).offsets == [("order-paid", 1)]
    assert (task.buffered, task.frontier_ms, task.states) == (0, PLACED_AT + 1, 1)


def test_held_records_are_not_among_the_offsets() -> None:
    """After a restart they are read again."""
    task = new_task()
    offer(task, "order-paid", paid("O1"), paid("O2", paid_at=PLACED_AT + HOUR_MS))
    offer(task, "first-scan", scan(scanned_at=PLACED_AT + 2 * HOUR_MS))
    complete(task, PLACED_AT + 1)
    checkpoint = step(task)
    assert checkpoint.offsets == [("order-paid", 1)]
    assert (task.buffered, task.states) == (2, 1)
    again = restored([*checkpoint.changelog.items()])
    assert again.next_offsets == dict.fromkeys(INPUT_TOPICS, 0) | {"order-paid": 1}


def test_one_instant_goes_by_topic_rank_then_offset() -> None:
    """An exemption that arrives with the payments of its orders is tested against all of them."""
    task = new_task()
    offer(task, "exemption-granted", exemption())
    offer(task, "order-paid", paid("O1"), paid("O2"))
    complete(task, PLACED_AT + 1)
    assert step(task).offsets == [("order-paid", 2), ("exemption-granted", 1)]


@pytest.mark.usefixtures("halting")
def test_step_stops_at_its_limit_and_says_there_is_more() -> None:
    """Partial steps put out what one large step does, and their offsets only grow."""
    task, whole = new_task(), new_task()
    orders = [paid(f"O{n}", paid_at=PLACED_AT + n) for n in range(5)]
    orders += [paid("O0", shop_id="S9", paid_at=PLACED_AT + 2 * DAY_MS + n) for n in range(3)]
    for each in (task, whole):
        offer(each, "order-paid", *orders)
        complete(each, DEADLINE + DAY_MS)
    expected = step(whole)
    assert not expected.more
    steps = []
    while checkpoint := task.step(1, mark=False):
        steps.append(checkpoint)
    assert len(steps) > 10
    assert all(each.more for each in steps[:-1])
    outputs = [each for one in steps for each in one.outputs]
    assert by_topic(outputs) == by_topic(expected.outputs)
    offsets = [offset for one in steps for _, offset in one.offsets]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] == 8


@pytest.mark.usefixtures("halting")
def test_restart_between_partial_steps_loses_and_repeats_nothing() -> None:
    """What a checkpoint did not reach is done by the task restored from it."""
    task, whole = new_task(), new_task()
    orders = [paid(f"O{n}") for n in range(4)]
    for each in (task, whole):
        offer(each, "order-paid", *orders)
        complete(each, LATER)
    expected = step(whole).outputs
    changelog, outputs, restarts = [], [], 0
    while checkpoint := task.step(2, mark=False):
        changelog += checkpoint.changelog.items()
        outputs += checkpoint.outputs
        task = restored(changelog)
        start = task.next_offsets["order-paid"]
        again = [record("order-paid", orders[n], offset=n) for n in range(start, 4)]
        task.offer("order-paid", columns(again), now_ms=LATER)
        complete(task, LATER)
        restarts += 1
    assert restarts > 10
    assert by_topic(outputs) == by_topic(expected)


def test_garbage_does_not_stop_the_partition() -> None:
    """Each bad record becomes one dead letter, and the good ones around it are judged."""
    task = new_task()
    good = record("order-paid", paid(), offset=1)
    bad = [InRecord(n, PLACED_AT, b"\xff", value) for n, value in ((0, None), (2, b"\x00{"))]
    task.offer("order-paid", columns([bad[0], good, bad[1]]), now_ms=LATER)
    complete(task, PLACED_AT + 1)
    checkpoint = step(task)
    assert topics_of(checkpoint) == ["dead-letter", "dead-letter"]
    assert [each.key for each in checkpoint.outputs] == [b"\xff", b"\xff"]
    assert (checkpoint.offsets, task.states) == ([("order-paid", 3)], 1)


def refused(*values: Value) -> list[tuple[str, int]]:
    """Return reason and offset of the scans that are refused, in a task that knows order O1."""
    task = new_task()
    offer(task, "order-paid", paid())
    offer(task, "first-scan", *values)
    complete(task, PLACED_AT + HOUR_MS)
    outputs = [json.loads(each.value) for each in step(task).outputs]
    return [(value["reason"], value["source"]["offset"]) for value in outputs]


def test_facts_of_an_order_are_bounded() -> None:
    """A thousand is far above any real order; one known already is no more than before."""
    scans = [scan(scanned_at=PLACED_AT + n) for n in range(1001)]
    assert refused(*scans, scans[0]) == [("invalid", 1000)]


def test_facts_that_wait_for_an_order_are_bounded() -> None:
    """What waits for an order that may never come stays small enough to be written."""
    scans = [scan("O9", scanned_at=PLACED_AT + n) for n in range(1001)]
    assert refused(*scans, scans[0]) == [("no-order", 1000)]


def test_bytes_that_wait_for_an_order_are_bounded() -> None:
    """A few huge records are as bad as many small ones; a small one still fits in."""
    huge = [scan("O9", scanned_at=PLACED_AT + n, note="x" * 900_000) for n in range(3)]
    assert refused(*huge, scan("O9", scanned_at=PLACED_AT + 3)) == [("no-order", 2)]


def test_live_record_of_the_future_fires_no_timer() -> None:
    """A producer's wrong clock stays its own trouble; in a replay the timestamp is taken as is."""
    fired = {}
    for live in (True, False):
        task = OrdersTask(0, POLICY, live)
        task.restored()
        now = PLACED_AT + HOUR_MS
        task.offer("order-paid", columns([record("order-paid", paid())]), now)
        for topic in INPUT_TOPICS[1:]:
            task.offer(topic, columns([InRecord(0, LATER, None, b"")]), now)
        task.offer("order-paid", columns([InRecord(1, LATER, None, b"")]), now)
        fired[live] = "timeout" in topics_of(step(task))
    assert fired == {True: False, False: True}


# Timers


def test_grace_delays_what_fires_but_not_its_time() -> None:
    """With a grace of an hour a timer waits an hour longer, and says its own due time."""
    task = OrdersTask(0, policy_with(('grace = "0s"', 'grace = "1h"')), live=False)
    task.restored()
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + HOUR_MS)
    assert "timeout" not in topics_of(step(task))
    complete(task, DEADLINE + HOUR_MS + 1)
    checkpoint = step(task)
    assert topics_of(checkpoint) == ["timeout"]
    assert json.loads(checkpoint.outputs[0].value)["determined_at"] == DEADLINE
    assert marks_of(checkpoint) == [DEADLINE + 1]


def test_drain_fires_all_but_retention() -> None:
    """Every determination and the closure come; the state stays."""
    task = new_task()
    offer(task, "order-paid", paid())
    task.drain()
    expected = ["deadline-warning"] * 2 + ["timeout"] * 3 + ["order-closure"]
    assert topics_of(step(task)) == expected
    assert task.states == 1


def test_forgotten_order_leaves_a_tombstone_and_a_word_to_the_shop() -> None:
    """An order past its horizon is gone from state, changelog and count."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, LATER)
    step(task)
    complete(task, PLACED_AT + 500 * DAY_MS)
    checkpoint = step(task)
    assert checkpoint.changelog[b"O1"] is None
    items = [each.value for each in checkpoint.outputs if each.topic == SHOP_VIOLATIONS]
    assert b'"type":"released"' in items[0]
    assert task.states == 0


# Marks


def test_mark_is_written_once() -> None:
    """One record for all shops; not again without progress, and not unless asked for."""
    task = OrdersTask(3, POLICY, live=False, app_id="shipclock")
    task.restored()
    complete(task, 1000)
    assert task.step(MANY, mark=False) is None
    assert (task.mark_ms, task.marked_ms) == (1000, -1)
    (mark,) = step(task, mark=True).outputs
    assert mark[:3] == (
        "frontier-marks",
        b"shipclock:orders:3",
        b'{"type":"mark","app_id":"shipclock","frontier_ms":1000,"source":3}',
    )
    assert task.marked_ms == 1000
    assert task.step(MANY, mark=True) is None


def test_mark_promises_the_frontier_that_the_checkpoint_keeps() -> None:
    """Whoever restores it goes on where shops were told that nothing follows below."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + 1)
    checkpoint = step(task)
    assert marks_of(checkpoint) == [DEADLINE + 1]
    assert restarted(new_task(), checkpoint).mark_ms == DEADLINE + 1


def test_task_says_what_it_waits_for() -> None:
    """A held record, else its first timer: before that nothing can be done."""
    task = new_task()
    assert task.waits_for_ms == END_OF_TIME_MS
    offer(task, "order-paid", paid())
    assert task.waits_for_ms == PLACED_AT
    complete(task, PLACED_AT + 1)
    step(task)
    assert task.waits_for_ms <= DEADLINE - DAY_MS
    complete(task, task.waits_for_ms + 60_000)
    task.step(MANY, mark=False)
    assert DEADLINE - DAY_MS < task.waits_for_ms <= DEADLINE - 4 * HOUR_MS


def test_violation_is_followed_by_a_mark() -> None:
    """Shops need not wait for the next mark to take what was sent."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + 1)
    sent = [each for each in step(task).outputs if each.topic in BETWEEN_STAGES]
    assert [(each.topic, each.partition) for each in sent] == [
        (SHOP_VIOLATIONS, None),
        (FRONTIER_MARKS, 0),
    ]


@pytest.mark.usefixtures("halting")
def test_mark_of_a_partial_step_promises_no_more_than_was_reached() -> None:
    """No violation with a log time below a mark follows it."""
    task = new_task()
    offer(task, "order-paid", *(paid(f"O{n}", placed_at=PLACED_AT - n) for n in range(5)))
    complete(task, LATER)
    promised = 0
    while checkpoint := task.step(1, mark=True):
        for each in checkpoint.outputs:
            if each.topic == SHOP_VIOLATIONS:
                assert json.loads(each.value)["log_time_ms"] >= promised
        promised = max([promised, *marks_of(checkpoint)])
    assert promised == LATER


# Restore


def worked() -> list[tuple[bytes, bytes | None]]:
    """Return the changelog of a partition with two orders and an exemption."""
    task = new_task()
    offer(task, "order-paid", paid("O1"), paid("O2"))
    offer(task, "exemption-granted", exemption(scope={"order_ids": ["O2", "O3"]}))
    complete(task, PLACED_AT + 1)
    return [*step(task).changelog.items()]


def test_restored_task_goes_on_where_the_first_stopped() -> None:
    """Orders, timers, exemptions, offsets and frontier come back."""
    task = restored(worked())
    assert task.frontier_ms == PLACED_AT + 1
    assert task.states == 2
    task.offer("order-paid", columns([record("order-paid", paid("O3"), offset=2)]), LATER)
    complete(task, LATER)
    timeouts = [json.loads(each.value) for each in step(task).outputs if each.topic == "timeout"]
    assert {value["order_id"] for value in timeouts} == {"O1"}


@pytest.mark.parametrize("before", [[], worked()], ids=["fresh", "restored"])
def test_what_was_committed_last_may_be_committed_again(
    before: list[tuple[bytes, bytes | None]],
) -> None:
    """It changes nothing: a task restored from both is the one restored from the first."""
    task = restored(before)
    again = task.again()
    assert (again.outputs, again.offsets, [*again.changelog]) == ([], [], [META_KEY])
    both = restored([*before, *again.changelog.items()])
    assert both.again() == again
    assert both.frontier_ms == task.frontier_ms


def test_changelog_may_come_in_chunks_and_with_old_states() -> None:
    """The last record of a key counts, a tombstone takes it away."""
    changelog = worked()
    task = OrdersTask(3, POLICY, live=False)
    for entry in ((b"O1", b"an old state"), (b"O0", b"gone"), (b"O0", None), *changelog):
        task.restore([entry])
    task.restored()
    assert task.states == 2


@pytest.mark.parametrize("lost", [b"O1", b"\x00exemption:X1", META_KEY])
def test_changelog_that_lost_a_record_is_corrupt(lost: bytes) -> None:
    """A partition never goes on from a part of its state."""
    task = OrdersTask(3, POLICY, live=False)
    task.restore([entry for entry in worked() if entry[0] != lost])
    with pytest.raises(CorruptChangelog, match=r"orders-changelog\[3\] does not hold what"):
        task.restored()


def test_changelog_with_a_record_too_many_is_corrupt() -> None:
    """A state that no checkpoint counts was not written in a transaction."""
    changelog = worked()
    task = OrdersTask(3, POLICY, live=False)
    task.restore([*changelog, (b"O9", dict(changelog)[b"O1"])])
    with pytest.raises(CorruptChangelog, match="does not hold what") as refused:
        task.restored()
    assert refused.value.at.startswith("3 orders and 1 exemptions in partition 3, 2 and 1 ")


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        (b"O1", b"", CorruptChangelog, "'O1': what is kept there cannot be read"),
        (b"O1", b"\x01\x02", CorruptChangelog, "'O1': what is kept there cannot be read"),
        (b"O1", b"\x63" * 100, StateVersionError, "'O1': order state of version 99"),
        (META_KEY, b"", CorruptChangelog, "meta': what is kept there cannot be read"),
        (META_KEY, b"\xff\x00garbage", CorruptChangelog, "meta': what is kept there cannot"),
        (META_KEY, b"\x97\x01\xa1a\x01\x90\x90\x02\x01", CorruptChangelog, "counts 0 input topics"),
        (b"\x00exemption:X1", b"{}", CorruptChangelog, "X1': what is kept there cannot be read"),
        (b"\x00other", b"garbage", CorruptChangelog, "other': what is kept there cannot be read"),
    ],
)
def test_garbage_in_a_changelog_is_refused_by_name(
    key: bytes, value: bytes, error: type[Exception], message: str
) -> None:
    """What no program wrote is found before the first step, whatever it stands for."""
    task = OrdersTask(3, POLICY, live=False)
    task.restore([*worked(), (key, value)])
    with pytest.raises(error, match=r"orders-changelog\[3\]") as refused:
        task.restored()
    assert message in str(refused.value)


@pytest.mark.parametrize("damage", [b"garbage", b"\x91\xc1", b""])
def test_state_damaged_within_stops_its_partition_by_name(damage: bytes) -> None:
    """A state with a sound head is read at its order's next event: then its key is told."""
    changelog = dict(worked())
    state = changelog[b"O1"]
    assert state is not None
    changelog[b"O1"] = state[:PARTS_AT] + damage
    task = OrdersTask(3, POLICY, live=False)
    task.restore(changelog.items())
    task.restored()
    complete(task, LATER)
    with pytest.raises(CorruptChangelog, match=r"orders-changelog\[3\], key 'O1': what is kept"):
        task.step(1_000_000, mark=False)


def test_empty_changelog_is_a_start() -> None:
    """A partition never worked on has no checkpoint and begins at offset 0."""
    task = restored([])
    assert task.next_offsets == dict.fromkeys(INPUT_TOPICS, 0)


def test_restore_may_be_finished_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller has its turn after every few states, and what comes of it is the same."""
    monkeypatch.setattr(orders_changelog, "_PART", 1)
    task = OrdersTask(3, POLICY, live=False)
    changelog = worked()
    task.restore(changelog)
    assert len(list(task.restored_in_parts())) >= len(changelog)
    whole = restored(changelog)
    assert (task.states, task.frontier_ms) == (whole.states, whole.frontier_ms)
    for each in (task, whole):
        complete(each, LATER + 10 * DAY_MS)
    assert step(task) == step(whole)


def test_dropped_task_is_gone_at_once() -> None:
    """Nothing in it refers back to it: a frozen one would stay in memory for good."""
    task = restored(worked())
    complete(task, LATER)
    step(task)
    kept = weakref.ref(task._store)
    gc.disable()
    try:
        del task
        assert kept() is None
    finally:
        gc.enable()


def restarted(task: OrdersTask, *checkpoints: Checkpoint) -> OrdersTask:
    """Return the partition's next task, restored from what was committed."""
    for checkpoint in checkpoints:
        task.restore(checkpoint.changelog.items())
    task.restored()
    return task


def test_sweeping_exemption_is_applied_over_several_steps() -> None:
    """Its offset is committed, and the mark passes its log time, with the last order only."""
    names = [f"O{number:04}" for number in range(500)]
    task = new_task()
    offer(task, "order-paid", *(paid(name) for name in names))
    complete(task, LATER)
    made = step(task)
    waived_at = LATER + HOUR_MS
    waiver = record("exemption-granted", exemption(), waived_at)
    task.offer("exemption-granted", columns([waiver]), LATER)
    complete(task, LATER + DAY_MS)
    undisturbed = restarted(new_task(), made)
    undisturbed.offer("exemption-granted", columns([waiver]), LATER)
    complete(undisturbed, LATER + DAY_MS)
    whole = step(undisturbed, mark=True)

    parts = [step(task, max_outputs=1, mark=True)]
    while parts[-1].more:
        if len(parts) == 2:
            # A crash amid the sweep: the record is read again.
            task = restarted(new_task(), made, *parts)
            task.offer("exemption-granted", columns([waiver]), LATER)
            complete(task, LATER + DAY_MS)
        parts.append(step(task, max_outputs=1, mark=True))
    assert len(parts) > 4
    written = by_topic([output for part in parts for output in part.outputs])
    assert written == by_topic(whole.outputs)
    revoking = [part for part in parts if "timeout" in topics_of(part)]
    for part in revoking:
        assert all(mark <= waived_at for mark in marks_of(part)) or not part.more
    assert [part.offsets for part in revoking[:-1]] == [[]] * (len(revoking) - 1)
    assert [entry for part in parts for entry in part.offsets] == [("exemption-granted", 1)]
    assert whole.offsets == [("exemption-granted", 1)]


@pytest.mark.parametrize("label_changes", [True, False])
def test_changed_policy_judges_an_order_anew_at_its_next_event(label_changes: bool) -> None:
    """A scan in time by the old rules is late by the new ones, whatever the policy is called."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, PLACED_AT + HOUR_MS)
    checkpoint = step(task)
    changes = [('limit = "72h"', 'limit = "10h"')]
    if label_changes:
        changes.append(("version = 1", "version = 2"))
    stricter = restarted(OrdersTask(3, policy_with(*changes), live=False), checkpoint)
    offer(stricter, "first-scan", scan(scanned_at=PLACED_AT + 12 * HOUR_MS))
    complete(stricter, PLACED_AT + DAY_MS)
    assert topics_of(step(stricter)) == ["timeout"]


FREE = rulebook_with(accounts=(), sanctions=())


def items_of(checkpoint: Checkpoint) -> list[str]:
    """Return the types of what the shops stage is told, marks left out."""
    return [
        json.loads(each.value)["type"]
        for each in checkpoint.outputs
        if each.topic == SHOP_VIOLATIONS
    ]


def test_shops_hear_of_no_violation_that_costs_nothing() -> None:
    """Without points, deposit and ban there is no account; the timeouts are the same."""
    task, charging = OrdersTask(3, FREE, live=False), new_task()
    found = []
    for each in (task, charging):
        offer(each, "order-paid", paid())
        offer(each, "first-scan", scan(scanned_at=DEADLINE + DAY_MS))
        complete(each, DEADLINE + 200 * DAY_MS)
        found.append(step(each))
    assert items_of(found[0]) == []
    assert items_of(found[1]) == ["determined"] * 2 + ["released"]
    assert topics_of(found[0]) == topics_of(found[1])


def test_account_begins_with_the_rules_that_have_one() -> None:
    """What was determined before them was never charged."""
    task = OrdersTask(3, FREE, live=False)
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + HOUR_MS)
    first = step(task)
    charging = restarted(OrdersTask(3, POLICY, live=False), first)
    complete(charging, DEADLINE + 2 * DAY_MS)
    assert items_of(first) == []
    assert items_of(step(charging)) == ["determined"]


def test_shops_hear_nothing_of_orders_they_were_not_told_of() -> None:
    """Neither that a violation fell nor that its order is forgotten."""
    task = OrdersTask(3, FREE, live=False)
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + HOUR_MS)
    charging = restarted(OrdersTask(3, POLICY, live=False), step(task))
    offer(charging, "first-scan", scan(scanned_at=DEADLINE - 1))
    complete(charging, DEADLINE + 200 * DAY_MS)
    checkpoint = step(charging)
    assert topics_of(checkpoint).count("timeout") == 1
    assert items_of(checkpoint) == []
    assert checkpoint.changelog[b"O1"] is None


def test_nothing_is_told_between_two_rules_that_charge() -> None:
    """What was determined while nothing was charged is not charged later, whatever came before."""
    task = new_task()
    offer(task, "order-paid", paid())
    told = []
    changelog: dict[bytes, bytes | None] = {}
    for day, rules in enumerate((POLICY, FREE, POLICY)):
        if day:
            task = OrdersTask(3, rules, live=False)
            task.restore(changelog.items())
            task.restored()
        complete(task, DEADLINE + day * DAY_MS + HOUR_MS)
        checkpoint = step(task)
        changelog |= checkpoint.changelog
        told += [(day, item) for item in items_of(checkpoint)]
    assert told == [(0, "determined"), (2, "determined")]


def test_account_goes_on_under_rules_that_have_none() -> None:
    """A violation that was charged for is still taken back, and forgotten, after two restarts."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + HOUR_MS)
    checkpoint = step(task)
    changelog = dict(checkpoint.changelog)
    for _ in range(2):
        task = OrdersTask(3, FREE, live=False)
        task.restore(changelog.items())
        task.restored()
        complete(task, task.frontier_ms + HOUR_MS)
        changelog |= step(task, mark=True).changelog
    offer(task, "first-scan", scan(scanned_at=DEADLINE - 1))
    complete(task, DEADLINE + 200 * DAY_MS)
    assert items_of(step(task)) == ["revoked", "released"]


def test_changelog_of_another_number_of_partitions_is_refused() -> None:
    """Added partitions take keys away from their state; an older program did not note the count."""
    task = OrdersTask(3, POLICY, live=False, partitions=12)
    task.restored()
    offer(task, "order-paid", paid())
    complete(task, PLACED_AT + 1)
    changelog = [*step(task).changelog.items()]
    for partitions in (0, 12):
        same = OrdersTask(3, POLICY, live=False, partitions=partitions)
        same.restore(changelog)
        same.restored()
    grown = OrdersTask(3, POLICY, live=False, partitions=13)
    grown.restore(changelog)
    with pytest.raises(CorruptChangelog, match="there were 12 partitions, now there are 13"):
        grown.restored()


def test_determination_beyond_what_the_rules_allow_is_taken_back() -> None:
    """Fewer repeats than before the restart: the next fact revokes those that are too many."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + 3 * DAY_MS)
    checkpoint = step(task)
    fewer = policy_with(("occurrences_max = 3", "occurrences_max = 2"))
    changed = restarted(OrdersTask(3, fewer, live=False), checkpoint)
    offer(changed, "first-scan", scan(scanned_at=DEADLINE + 3 * DAY_MS))
    complete(changed, DEADLINE + 4 * DAY_MS)
    values = [json.loads(each.value) for each in step(changed).outputs if each.topic == "timeout"]
    assert [(each["type"], each["occurrence"]) for each in values] == [("timeout.revoked", 3)]


@pytest.mark.parametrize(
    "changes",
    [
        [('limit = "72h"', 'limit = "80h"')],
        [("[violations.late-scan]", "[violations.renamed]"),
         ("[violations.late-scan.deadline]", "[violations.renamed.deadline]")],
    ],
)  # fmt: skip
def test_timer_takes_back_what_other_rules_determined(changes: list[tuple[str, str]]) -> None:
    """A changed limit or a kind that is gone: the next timer revokes, and names the policy."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + HOUR_MS)
    checkpoint = step(task)
    assert topics_of(checkpoint)[-1] == "timeout"
    changed = restarted(OrdersTask(3, policy_with(*changes), live=False), checkpoint)
    complete(changed, DEADLINE + 2 * DAY_MS)
    (value, *_) = [
        json.loads(each.value) for each in step(changed).outputs if each.topic == "timeout"
    ]
    assert (value["type"], value["reason"]) == ("timeout.revoked", "late-evidence")
    assert value["cause"] == "douyin-first-scan@1"


@pytest.mark.parametrize("outcome", ["granted", "rejected"])
def test_appeal_is_blamed_for_what_it_grants_alone(outcome: str) -> None:
    """What falls with it because the rules have changed, falls by the rules."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, DEADLINE + 2 * DAY_MS + 1)
    later = restarted(
        OrdersTask(3, policy_with(('limit = "72h"', 'limit = "200h"')), live=False), step(task)
    )
    decision = appeal("O1:late-scan:2", outcome=outcome, decided_at=DEADLINE + 2 * DAY_MS)
    offer(later, "appeal-decided", decision, timestamp=DEADLINE + 2 * DAY_MS + 2)
    complete(later, DEADLINE + 2 * DAY_MS + 3)
    values = [json.loads(each.value) for each in step(later).outputs if each.topic == "timeout"]
    by_rules = ("late-evidence", "douyin-first-scan@1")
    assert [(each["occurrence"], each["reason"], each["cause"]) for each in values] == [
        (1, *by_rules),
        (2, *(("appeal", "A1") if outcome == "granted" else by_rules)),
        (3, *by_rules),
    ]


def test_order_that_comes_to_rest_at_the_instant_of_its_timer_is_forgotten() -> None:
    """Closed so that its retention ends when the order would have been closed as unshipped."""
    task = new_task()
    offer(task, "order-paid", paid(shipping_mode="express"))
    complete(task, PLACED_AT + 1)
    step(task)
    closed_at = PLACED_AT + 143 * DAY_MS
    offer(task, "order-closed", closed(closed_at=closed_at), timestamp=closed_at)
    complete(task, closed_at + 1)
    step(task)
    assert task.states == 1
    complete(task, PLACED_AT + 151 * DAY_MS)
    step(task)
    assert task.states == 0


def test_damaged_state_of_another_policy_is_named() -> None:
    """Who judged it last is found out by unpacking it."""
    task = new_task()
    offer(task, "order-paid", paid())
    complete(task, PLACED_AT + 1)
    changelog = step(task).changelog
    damaged = (changelog[b"O1"] or b"")[:PARTS_AT] + b"garbage"
    changed = OrdersTask(3, policy_with(('limit = "72h"', 'limit = "80h"')), live=False)
    changed.restore((changelog | {b"O1": damaged}).items())
    changed.restored()
    offer(changed, "tracking-number-uploaded", upload(uploaded_at=PLACED_AT + HOUR_MS))
    complete(changed, PLACED_AT + 2 * HOUR_MS)
    with pytest.raises(CorruptChangelog, match="key 'O1'"):
        step(changed)


@pytest.mark.usefixtures("halting")
def test_step_that_goes_on_tells_that_more_is_to_be_done() -> None:
    """What was offered meanwhile has not been looked at."""
    task = new_task()
    offer(task, "order-paid", *(paid(f"O{n}") for n in range(3)), timestamp=PLACED_AT)
    complete(task, PLACED_AT + HOUR_MS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders_task, "_STATES_MAX", 1)
        assert task.work(MANY)
    task.offer("order-paid", columns([record("order-paid", paid("O9"), LATER, 3)]), LATER)
    complete(task, LATER + 1)
    assert task.work(MANY)
    assert not step(task).more
    assert task.next_offsets["order-paid"] == 4
