"""The shops stage of one partition: order of taking, partial steps, restore."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from streams.codec.encode import encode_value
from streams.codec.state import StateVersionError
from streams.core.facts.instants import NEVER_MS
from streams.core.facts.outputs import Determined, Released, Revoked, ShopMessage
from streams.core.rules.book import Rulebook
from streams.engine import shops_task
from streams.engine.records import (
    FRONTIER_MARKS,
    META_KEY,
    SHOP_VIOLATIONS,
    Checkpoint,
    CorruptChangelog,
    InRecord,
    OutRecord,
    columns,
)
from streams.engine.shops_task import ShopsTask
from tests.unit.samples import DAY_MS, HOUR_MS, POLICY, TWO_KINDS, policy_with, rulebook_with

MANY = 1_000_000
NOON = 1_670_299_200_000  # 2022-12-06 12:00:00 +08:00
MIDNIGHT = NOON + 12 * HOUR_MS
Entry = tuple[bytes, bytes | None]


def new_task(sources: int = 1) -> ShopsTask:
    """Return a task that starts from nothing."""
    task = ShopsTask(0, POLICY, sources)
    task.restored()
    return task


def determined(number: int = 1, order_id: str = "O1", at: int = NOON, **fields: Any) -> Determined:
    """Return a determination made on time."""
    given: dict[str, Any] = {
        "determined_at": at,
        "kind": "late-scan",
        "log_time_ms": at,
        "occurrence": number,
        "order_id": order_id,
        "product_ids": ["P1"],
        "revision": 1,
        "shop_id": "S1",
        "violation_id": f"{order_id}:late-scan:{number}",
    }
    return Determined(**given | fields)


def revoked(
    number: int = 1, log_time_ms: int = NOON, at: int = NOON, order_id: str = "O1"
) -> Revoked:
    """Return a revocation of a determination."""
    return Revoked(
        determined_at=at,
        log_time_ms=log_time_ms,
        order_id=order_id,
        revision=1,
        shop_id="S1",
        violation_id=f"{order_id}:late-scan:{number}",
    )


def offer(task: ShopsTask, *messages: ShopMessage, upto: int | None = None) -> None:
    """Offer the next messages; with `upto` all of them have come that lie below that instant."""
    start = task.next_offsets[SHOP_VIOLATIONS] + task.buffered
    records = [
        InRecord(start + n, 0, None, encode_value(message)) for n, message in enumerate(messages)
    ]
    task.offer(SHOP_VIOLATIONS, columns(records), now_ms=0)
    if upto is not None:
        task.complete(SHOP_VIOLATIONS, upto)


def step(task: ShopsTask, max_outputs: int = MANY, mark: bool = False) -> Checkpoint:
    """Take a step that must have something to commit."""
    checkpoint = task.step(max_outputs, mark)
    assert checkpoint is not None
    return checkpoint


def penalties(checkpoint: Checkpoint) -> list[tuple[str, int, int]]:
    """Return entry id, amount and instant of the journal entries."""
    values = [json.loads(each.value) for each in checkpoint.outputs if each.topic == "penalty"]
    return [(value["entry_id"], value["amount"], value["effective_at"]) for value in values]


def bans(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Return type and violation of the bans."""
    values = [json.loads(each.value) for each in checkpoint.outputs if each.topic == "product-ban"]
    return [(value["type"], value["violation_id"]) for value in values]


def restored(changelog: Iterable[Entry], sources: int = 1, policy: Rulebook = POLICY) -> ShopsTask:
    """Return a task restored from a changelog."""
    task = ShopsTask(0, policy, sources)
    task.restore(changelog)
    task.restored()
    return task


def requests(checkpoint: Checkpoint) -> list[int]:
    """Return the instants beyond which marks are requested."""
    return [
        json.loads(each.value)["beyond_ms"]
        for each in checkpoint.outputs
        if each.topic == FRONTIER_MARKS
    ]


def test_item_waits_until_the_frontier_has_passed_it() -> None:
    """An item at the frontier still waits: another of that instant may come."""
    task = new_task()
    offer(task, determined(), upto=NOON)
    assert penalties(step(task)) == []
    offer(task, upto=NOON + 1)
    assert penalties(step(task)) == [("O1:late-scan:1:points:1", 1, NOON)]


def test_late_frontier_does_not_move_it_back() -> None:
    """An answer that comes late says something old."""
    task = new_task()
    offer(task, upto=NOON + 1)
    offer(task, determined(), upto=NOON - 1)
    assert len(penalties(step(task))) == 1


def test_what_waits_is_requested_once() -> None:
    """For the first item, and then for its settlement; not for what the frontier has passed."""
    task = new_task()
    offer(task, determined(), determined(2, at=NOON + 5), upto=NOON)
    assert requests(step(task)) == [NOON]
    assert task.waits_for_ms == NOON
    offer(task, determined(3, at=NOON + 9), upto=NOON)
    assert requests(step(task)) == []
    offer(task, upto=NOON + 10)
    assert requests(step(task)) == [MIDNIGHT]
    assert task.waits_for_ms == MIDNIGHT
    offer(task, upto=MIDNIGHT + 1)
    assert requests(step(task)) == []
    assert task.waits_for_ms == NEVER_MS


def test_what_waits_is_requested_again_after_a_restore() -> None:
    """What an older program left waiting was never requested."""
    task = new_task()
    offer(task, determined())
    task = restored([*step(task).changelog.items()])
    (request,) = step(task).outputs
    assert request[:3] == (
        "frontier-marks", b":shops:0", b'{"type":"request","app_id":"","beyond_ms":%d}' % NOON
    )  # fmt: skip
    assert task.step(MANY, mark=True) is None


def test_frontier_alone_is_kept_only_when_asked_for() -> None:
    """A checkpoint of nothing else costs a transaction."""
    task = new_task()
    offer(task, upto=NOON)
    assert task.step(MANY, mark=False) is None
    assert (task.mark_ms, task.marked_ms) == (NOON, -1)
    checkpoint = step(task, mark=True)
    assert (checkpoint.outputs, checkpoint.offsets) == ([], [])
    assert restored([*checkpoint.changelog.items()]).mark_ms == NOON
    assert task.step(MANY, mark=True) is None


def test_marks_between_the_items_are_passed_over() -> None:
    """Older programs wrote them there; a newer mark says no less."""
    task = new_task()
    old = b'{"type":"mark","frontier_ms":%d,"source":0}' % (NOON + 1)
    task.offer(SHOP_VIOLATIONS, columns([InRecord(0, 0, None, old)]), now_ms=0)
    offer(task, determined())
    checkpoint = step(task)
    assert (penalties(checkpoint), checkpoint.offsets) == ([], [(SHOP_VIOLATIONS, 2)])
    assert len(penalties(step_to(task, NOON + 1))) == 1


def test_day_is_settled_when_the_next_begins() -> None:
    """Charges of a day come together at midnight, after what is taken at that very instant."""
    task = new_task()
    offer(task, determined(1), determined(2, at=MIDNIGHT), upto=MIDNIGHT)
    step(task)
    offer(task, upto=MIDNIGHT + 1)
    assert penalties(step(task)) == [
        ("O1:late-scan:2:points:1", 1, MIDNIGHT),
        ("O1:late-scan:1:deposit:1", 1000, MIDNIGHT),
    ]


def test_revocation_at_the_settlements_instant_comes_before_it() -> None:
    """What is revoked by then is never charged."""
    task = new_task()
    offer(task, determined(), revoked(log_time_ms=MIDNIGHT), upto=MIDNIGHT + 1)
    assert [amount for _, amount, _ in penalties(step(task))] == [1, -1]


def test_revocation_after_the_settlement_reverses_it() -> None:
    """A millisecond later the charge has been made and is taken back."""
    task = new_task()
    offer(task, determined(), revoked(log_time_ms=MIDNIGHT + 1), upto=MIDNIGHT + 2)
    assert [amount for _, amount, _ in penalties(step(task))] == [1, 1000, -1000, -1]


def test_shop_takes_all_of_an_instant_before_it_books() -> None:
    """What is determined and revoked at one log time never stood, in whatever order it came."""
    task = new_task()
    offer(task, revoked(), determined(), upto=NOON + 1)
    checkpoint = step(task)
    assert checkpoint.outputs == []
    assert task.frontier_ms == NOON + 1


def test_shops_of_one_instant_go_by_their_ids() -> None:
    """Each shop's items are worked off together."""
    task = new_task()
    offer(
        task,
        determined(1, "O2", shop_id="S2"),
        determined(1, "O1"),
        determined(1, "O3", shop_id="S2"),
        upto=NOON + 1,
    )
    outputs = [each for each in step(task).outputs if each.topic == "penalty"]
    assert [each.key for each in outputs] == [b"S1", b"S2", b"S2"]


def test_third_violation_imposes_and_its_fall_lifts() -> None:
    """The ban names the violation whose change caused it."""
    task = new_task()
    thirds = [determined(n, at=NOON + n * DAY_MS) for n in (1, 2, 3)]
    later = NOON + 9 * DAY_MS
    offer(task, *thirds, revoked(2, later, at=NOON + 2 * DAY_MS), upto=later)
    assert bans(step(task)) == [("product-ban.imposed", "O1:late-scan:3")]
    offer(task, upto=later + 1)
    assert bans(step(task)) == [("product-ban.lifted", "O1:late-scan:2")]


def ban_beyond(standing_more_than: int | None) -> Rulebook:
    """Return the default policy with another threshold, or without bans."""
    (ban,) = POLICY.policies[0].sanctions
    if standing_more_than is None:
        return rulebook_with(sanctions=())
    return rulebook_with(sanctions=(replace(ban, more_than=standing_more_than),))


@pytest.mark.parametrize("threshold", [3, None])
@pytest.mark.parametrize("older", [False, True])
def test_ban_of_other_rules_is_lifted_by_the_next_change(
    threshold: int | None, older: bool
) -> None:
    """Also where today's rules would never have imposed it, or know no bans."""
    task = new_task()
    offer(task, *(determined(n, at=NOON + n) for n in (1, 2, 3)))
    changelog = dict(step_to(task, NOON + 4).changelog)
    if older:
        # It went by the rules alone, until a program that keeps bans took it up.
        (key,) = [key for key in changelog if key.startswith(b"\x00ban:")]
        del changelog[key]
        meta = msgspec.msgpack.decode(changelog[META_KEY] or b"")
        changelog[META_KEY] = msgspec.msgpack.encode(meta[:9])
        task = restored(changelog.items())
        changelog |= step_to(task, NOON + 5).changelog
    task = restored(changelog.items(), policy=ban_beyond(threshold))
    offer(task, revoked(1, NOON + DAY_MS, at=NOON + 1))
    assert bans(step_to(task, NOON + 2 * DAY_MS)) == [("product-ban.lifted", "O1:late-scan:1")]


def test_lowered_threshold_bans_with_the_next_change_of_an_order_beyond() -> None:
    """A change of another order leaves the product alone, a fall that stays beyond bans it."""
    task = new_task()
    offer(task, *(determined(n, at=NOON + n) for n in (1, 2)))
    changelog = dict(step_to(task, NOON + 3).changelog)
    lowered = restored(changelog.items(), policy=ban_beyond(0))
    offer(lowered, determined(1, "O2", at=NOON + 4, product_ids=["P2"]))
    checkpoint = step_to(lowered, NOON + 5)
    assert bans(checkpoint) == [("product-ban.imposed", "O2:late-scan:1")]
    offer(lowered, revoked(2, NOON + DAY_MS, at=NOON + 2))
    checkpoint = step_to(lowered, NOON + 2 * DAY_MS)
    assert bans(checkpoint) == [("product-ban.imposed", "O1:late-scan:2")]
    (ban,) = [json.loads(each.value) for each in checkpoint.outputs if each.topic == "product-ban"]
    assert ban["effective_at"] == NOON + 1


@pytest.mark.parametrize("seed", range(40))
def test_bans_of_changing_rules_alternate_and_are_named_once(seed: int) -> None:
    """Several orders, products and kinds change at an instant, and the rules between two."""
    rng = random.Random(seed)
    for _ in range(20):
        changelog, told = dict[bytes, bytes | None](), list[OutRecord]()
        revisions = Counter[tuple[str, str, int]]()
        standing: list[tuple[str, str, int]] = []
        at = NOON
        for _ in range(10):
            at += HOUR_MS
            task = restored(changelog.items(), policy=ban_beyond(rng.choice([None, 0, 1, 2])))
            items: list[ShopMessage] = []
            for _ in range(rng.randint(1, 5)):
                place = order_id, kind, number = (
                    rng.choice("ABC"), rng.choice(("late-scan", "late-ship")), rng.choice((1, 2, 3))
                )  # fmt: skip
                violation_id = f"{order_id}:{kind}:{number}"
                if place in standing:
                    standing.remove(place)
                    fall = revoked(number, at, NOON + number, order_id)
                    items.append(
                        replace(fall, revision=revisions[place], violation_id=violation_id)
                    )
                else:
                    standing.append(place)
                    revisions[place] += 1
                    products = ["P1", "P2"] if order_id == "A" else ["P1"]
                    items.append(
                        determined(
                            number, order_id, NOON + number, log_time_ms=at, kind=kind,
                            product_ids=products, revision=revisions[place],
                            violation_id=violation_id,
                        )
                    )  # fmt: skip
            offer(task, *items)
            checkpoint = step_to(task, at + 1)
            changelog |= checkpoint.changelog
            changelog = {key: value for key, value in changelog.items() if value is not None}
            told += [each for each in checkpoint.outputs if each.topic == "product-ban"]
        ids = [dict(each.headers)["ce_id"] for each in told]
        assert len({*ids}) == len(ids)
        values = [json.loads(each.value) for each in told]
        for product in ("P1", "P2"):
            verbs = [each["type"] for each in values if each["product_id"] == product]
            assert verbs[0::2] == ["product-ban.imposed"] * len(verbs[0::2])
            assert verbs[1::2] == ["product-ban.lifted"] * len(verbs[1::2])


def test_ban_is_imposed_by_an_order_that_still_is_beyond() -> None:
    """Not by one that was so amid the instant, while an order that nothing touched is."""
    orders = [determined(n, name, at=NOON + n) for name in ("O1", "O2") for n in (1, 2, 3)]
    task = ShopsTask(0, ban_beyond(None), 1)
    task.restored()
    offer(task, *orders)
    changelog = step_to(task, NOON + 4).changelog
    for falls, expected in ((3, []), (2, []), (1, [("product-ban.imposed", "O1:late-scan:1")])):
        task = restored(changelog.items(), policy=ban_beyond(1))
        offer(task, *(revoked(n, NOON + DAY_MS, at=NOON + n) for n in range(1, falls + 1)))
        assert bans(step_to(task, NOON + 2 * DAY_MS)) == expected


def test_ban_takes_effect_by_the_kind_that_brought_it_about() -> None:
    """Another kind beyond the threshold at the same log time does not date it."""
    overdue = [
        determined(
            n,
            kind=kind,
            at=NOON + n * DAY_MS + later,
            log_time_ms=NOON + 9 * DAY_MS,
            violation_id=f"O1:{kind}:{n}",
        )
        for kind, later in (("no-scan", 0), ("late-scan", HOUR_MS))
        for n in (1, 2, 3)
    ]
    task = ShopsTask(0, TWO_KINDS, 1)
    task.restored()
    offer(task, *overdue, upto=NOON + 10 * DAY_MS)
    (ban,) = [json.loads(each.value) for each in step(task).outputs if each.topic == "product-ban"]
    assert (ban["violation_id"], ban["effective_at"]) == ("O1:no-scan:3", NOON + 3 * DAY_MS)


@pytest.mark.parametrize("copy", [{}, {"product_ids": ["P2"]}, {"log_time_ms": NOON + 5}])
def test_order_that_two_sources_report_counts_once(copy: dict[str, Any]) -> None:
    """Records of one order in two partitions are a producer's mistake, and stop no shop."""
    task = new_task()
    later = MIDNIGHT + HOUR_MS
    offer(task, determined(), determined(**copy), upto=later)
    charged = penalties(step(task))
    assert [amount for _, amount, _ in charged] == [1, 1000]
    again = [revoked(log_time_ms=later), revoked(log_time_ms=later)]
    offer(task, *again, upto=later + 1)
    assert [amount for _, amount, _ in penalties(step(task))] == [-1000, -1]
    offer(task, determined(revision=2, log_time_ms=later + 1), upto=later + 2)
    assert [amount for _, amount, _ in penalties(step(task))] == [1000, 1]


def test_message_names_at_most_a_thousand_entries() -> None:
    """The journal holds all of a large settlement, its message must fit the topic."""
    free = policy_with(("weekly_max = 20", ""), ("daily_max = 50000", ""))
    task = ShopsTask(0, free, 1)
    task.restored()
    offer(task, *(determined(order_id=f"O{n}") for n in range(1001)), upto=MIDNIGHT + 1)
    checkpoint = step(task)
    assert len(penalties(checkpoint)) == 2 * 1001
    messages = [each.value for each in checkpoint.outputs if each.topic == "notification"]
    assert [len(json.loads(message)["subjects"]) for message in messages] == [1000]


def test_step_stops_at_its_limit_and_says_there_is_more() -> None:
    """Partial steps put out what one large step does; only the first moves the offset."""
    task, whole = new_task(), new_task()
    items = [determined(1, f"O{n}", at=NOON + n * HOUR_MS) for n in range(20)]
    for each in (task, whole):
        offer(each, *items, upto=NOON + 3 * DAY_MS)
    expected = step(whole)
    assert not expected.more
    steps = [step(task, max_outputs=1)]
    assert steps[0].offsets == [(SHOP_VIOLATIONS, 20)]
    while steps[-1].more:
        steps.append(step(task, max_outputs=1))
    assert len(steps) > 10
    assert all(not each.offsets for each in steps[1:])
    assert [each for one in steps for each in one.outputs] == expected.outputs
    assert task.step(MANY, mark=False) is None


def test_waiting_items_survive_a_restart() -> None:
    """An item is read once; until its time it lives in the changelog, then a tombstone follows."""
    task = new_task()
    offer(task, determined(), Released(log_time_ms=NOON, order_id="O9", shop_id="S1"))
    checkpoint = step(task)
    assert len(checkpoint.changelog) == 3
    assert requests(checkpoint) == [NOON]
    task = restored([*checkpoint.changelog.items()])
    assert task.next_offsets == {SHOP_VIOLATIONS: 2}
    offer(task, upto=NOON + 1)
    after = step(task)
    assert len(penalties(after)) == 1
    gone = [key for key, value in after.changelog.items() if value is None]
    assert sorted(gone) == sorted(checkpoint.changelog.keys() - {META_KEY})
    assert penalties(
        step_to(restored([*checkpoint.changelog.items(), *after.changelog.items()]))
    ) == [("O1:late-scan:1:deposit:1", 1000, MIDNIGHT)]


def step_to(task: ShopsTask, frontier_ms: int = MIDNIGHT + 1) -> Checkpoint:
    """Let the frontier come and take a step."""
    offer(task, upto=frontier_ms)
    return step(task, mark=True)


@pytest.mark.parametrize("gone", [["points"], ["deposit"], ["points", "deposit"]])
@pytest.mark.parametrize("older", [False, True])
def test_charge_is_taken_back_where_its_rules_are_gone(gone: list[str], older: bool) -> None:
    """In the unit in which it was charged; also where an older program charged it."""
    task = new_task()
    offer(task, determined())
    changelog = dict(step_to(task).changelog)
    if older:
        changelog = _without_units(changelog)
    kept = tuple(each for each in POLICY.policies[0].accounts if each.name not in gone)
    task = ShopsTask(0, rulebook_with(accounts=kept), 1)
    task.restore(changelog.items())
    task.restored()
    offer(task, revoked(log_time_ms=MIDNIGHT + HOUR_MS))
    entries = [
        json.loads(each.value)
        for each in step_to(task, MIDNIGHT + 2 * HOUR_MS).outputs
        if each.topic == "penalty"
    ]
    assert [(each["account"], each["amount"]) for each in entries] == [
        ("deposit", -1000),
        ("points", -1),
    ]
    for each in entries:
        unit = {"deposit": "CNY", "points": "tenth-point:B"}[each["account"]]
        assert each["unit"] == ("unknown" if older and each["account"] in gone else unit)


def _without_units(changelog: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    """Return the changelog of one violation as written before bookings had a unit."""
    (key,) = [key for key, value in changelog.items() if value and b"late-scan" in value]
    one = shops_task.unpack_violation(changelog[key] or b"")
    points, deposit = one.charges["points"], one.charges["deposit"]
    fields = [
        one.shop_id, one.violation_id, one.order_id, one.kind, one.occurrence, one.product_ids,
        one.determined_at, one.revision, one.standing, points.allocated, deposit.allocated,
        [points.booked, points.day, points.entries], [deposit.booked, deposit.day, deposit.entries],
    ]  # fmt: skip
    return changelog | {key: b"\x01" + msgspec.msgpack.encode(fields)}


def test_settled_day_is_not_settled_again_after_a_restart() -> None:
    """What the journal holds is part of the state."""
    task = new_task()
    offer(task, determined())
    checkpoint = step_to(task)
    assert len(penalties(checkpoint)) == 2
    assert (
        penalties(step_to(restored([*checkpoint.changelog.items()]), MIDNIGHT + 9 * DAY_MS)) == []
    )


def worked() -> list[Entry]:
    """Return the changelog of a partition with a violation, a ban and a waiting item."""
    task = ShopsTask(0, ban_beyond(0), 1)
    task.restored()
    offer(task, determined(), determined(2, at=NOON + DAY_MS), upto=NOON + 1)
    return [*step(task).changelog.items()]


@pytest.mark.parametrize("lost", [b"S1:O1:late-scan:1", b"\x00pending:", b"\x00ban:", META_KEY])
def test_changelog_that_lost_a_record_is_corrupt(lost: bytes) -> None:
    """A partition never goes on from a part of its state."""
    entries = [entry for entry in worked() if not entry[0].startswith(lost)]
    with pytest.raises(CorruptChangelog, match=r"shops-changelog\[0\] does not hold what"):
        restored(entries)


def test_changelog_with_a_record_too_many_is_corrupt() -> None:
    """A violation no checkpoint counts was not written in a transaction."""
    with pytest.raises(CorruptChangelog, match="does not hold what") as refused:
        restored([*worked(), (b"S1:O9:late-scan:1", b"\x01")])
    assert refused.value.at.startswith("2 violations, 1 waiting items, ")


@pytest.mark.parametrize(
    ("kind", "value", "error", "message"),
    [
        (b"S1:", b"", StateVersionError, "violation of version 0"),
        (b"S1:", b"\x63garbage", StateVersionError, "violation of version 99"),
        (b"S1:", b"\x01garbage", CorruptChangelog, "cannot be read"),
        (b"\x00pending:", b"{}", CorruptChangelog, "cannot be read"),
        (b"\x00ban:", b"\x63garbage", StateVersionError, "ban of version 99"),
        (b"\x00ban:", b"\x01garbage", CorruptChangelog, "cannot be read"),
        (META_KEY, b"garbage", CorruptChangelog, "cannot be read"),
    ],
)
def test_garbage_in_a_changelog_is_refused_by_name(
    kind: bytes, value: bytes, error: type[Exception], message: str
) -> None:
    """What no program wrote is found before the first step, whatever it stands for."""
    entries = [(key, value if key.startswith(kind) else kept) for key, kept in worked()]
    with pytest.raises(error, match=rf"shops-changelog\[0\], key .*{message}"):
        restored(entries)


def test_changelog_of_another_number_of_order_partitions_is_refused() -> None:
    """Marks of partitions that are gone would hold back the shops for ever."""
    with pytest.raises(CorruptChangelog, match="counts 1 order partitions, there are 2"):
        restored(worked(), sources=2)


def test_violation_of_a_newer_program_is_refused() -> None:
    """A version this program does not know is never guessed at."""
    changelog = dict(worked())
    packed = changelog[b"S1:O1:late-scan:1"]
    assert packed is not None
    changelog[b"S1:O1:late-scan:1"] = b"\x03" + packed[1:]
    with pytest.raises(StateVersionError, match="version 3, known is 2"):
        restored(changelog.items())


def test_corrections_of_a_large_shop_are_cut_into_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each goes over all that stands, and may put out nothing: outputs alone are no bound."""
    monkeypatch.setattr(shops_task, "_VISITS_MAX", 100)
    names = [f"O{number:02}" for number in range(50)]
    task = new_task()
    offer(task, *(determined(order_id=name) for name in names), upto=NOON + 1)
    assert not step(task).more
    corrections = [
        revoked(log_time_ms=NOON + at, order_id=name) for at, name in enumerate(names, 1)
    ]
    offer(task, *corrections, upto=NOON + 100)
    steps = 1
    while task.work(MANY):
        steps += 1
    assert steps > 10
    assert len(penalties(step(task))) == 50 + 30


def test_what_a_stranger_wrote_between_the_stages_is_set_aside() -> None:
    """It becomes one dead letter, and the violations around it count."""
    task = new_task()
    strange = [InRecord(0, NOON, b"S1", b"garbage"), InRecord(1, NOON, None, None)]
    task.offer(SHOP_VIOLATIONS, columns(strange), now_ms=0)
    offer(task, determined(), upto=NOON + 1)
    checkpoint = step(task)
    letters = [json.loads(o.value) for o in checkpoint.outputs if o.topic == "dead-letter"]
    assert [(each["reason"], each["source"]["offset"]) for each in letters] == [
        ("malformed", 0),
        ("malformed", 1),
    ]
    assert len(penalties(checkpoint)) == 1
    assert checkpoint.offsets == [(SHOP_VIOLATIONS, 3)]


@pytest.mark.parametrize("value", [b'{"type":"determined"}', b'{"type":"of-a-newer-program"}'])
def test_unknown_form_of_our_own_message_stops_the_partition(value: bytes) -> None:
    """A fine or its end hangs on it: it is not set aside."""
    task = new_task()
    task.offer(SHOP_VIOLATIONS, columns([InRecord(0, NOON, b"S1", value)]), now_ms=0)
    with pytest.raises(CorruptChangelog, match=r"shop-violations\[0\] offset 0, key b'S1'"):
        task.step(MANY, mark=False)


def test_states_are_counted_and_not_the_records_of_the_changelog() -> None:
    """A key that was written again, or taken away, is not one more of them."""
    task = new_task()
    offer(task, *(determined(n, at=NOON + n) for n in (1, 2, 3)))
    changelog = list(step_to(task, NOON + 4).changelog.items())
    count = task.states
    assert count == len(changelog) - 1
    assert restored([*changelog, *changelog]).states == count
