"""The timer queue: order, limits, moved and removed timers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core.facts.instants import END_OF_TIME_MS, NEVER_MS
from streams.core.time.key_buckets import MINUTE_MS, split
from streams.core.time.timers import Timers


class Owner:
    """Says when each key is due, as the state of orders does."""

    def __init__(self) -> None:
        self.due: dict[bytes, int] = {}
        self.timers = Timers(self.timed)

    def timed(self, run: bytes, begin_ms: int, end_ms: int) -> list[tuple[int, bytes]]:
        due = self.due
        known = [(due[key], key) for key in split(run) if key in due]
        return [timer for timer in known if begin_ms <= timer[0] < end_ms]

    def set(self, key: bytes, due_ms: int) -> None:
        self.due[key] = due_ms
        self.timers.add(due_ms, key)

    def fire(self, limit_ms: int) -> list[tuple[int, bytes]]:
        """Pop all that is due; a timer that fired is gone."""
        fired = []
        while timer := self.timers.pop(limit_ms):
            del self.due[timer[1]]
            fired.append(timer)
        return fired


def test_timers_fire_by_due_time_then_key() -> None:
    """The order in which timers were set does not matter."""
    owner = Owner()
    for key, due in ((b"c", 90_000), (b"b", 5), (b"a", 90_000), (b"d", 4), (b"e", MINUTE_MS)):
        owner.set(key, due)
    expected = [(4, b"d"), (5, b"b"), (MINUTE_MS, b"e"), (90_000, b"a"), (90_000, b"c")]
    assert owner.fire(90_000) == expected


def test_keys_sort_by_code_point() -> None:
    """A key beyond the basic plane comes after all within it, unlike in UTF-16."""
    owner = Owner()
    for name in ("\U0001f4e6", "\uffee", "z"):
        owner.set(name.encode(), 1)
    assert [key.decode() for _, key in owner.fire(1)] == ["z", "\uffee", "\U0001f4e6"]


def test_limit_is_inclusive() -> None:
    """A timer fires at its instant, not a millisecond before."""
    owner = Owner()
    owner.set(b"a", 1000)
    assert owner.fire(999) == []
    assert owner.fire(1000) == [(1000, b"a")]


def test_moved_timer_fires_once_at_its_new_time() -> None:
    """Moving a timer later or earlier needs no cancel."""
    owner = Owner()
    for key, first, then in ((b"later", 1000, 200_000), (b"earlier", 300_000, 2000)):
        owner.set(key, first)
        owner.set(key, then)
    assert owner.fire(150_000) == [(2000, b"earlier")]
    assert owner.fire(400_000) == [(200_000, b"later")]


def test_removed_timer_does_not_fire() -> None:
    """A key whose owner knows no due time any more is passed over."""
    owner = Owner()
    owner.set(b"a", 1000)
    del owner.due[b"a"]
    assert owner.fire(END_OF_TIME_MS) == []
    assert owner.timers.earliest_ms == END_OF_TIME_MS


def test_timer_set_into_the_past_is_next() -> None:
    """A timer overdue when it is set fires before all that is pending."""
    owner = Owner()
    owner.set(b"a", 500_000)
    owner.set(b"b", 500_001)
    assert owner.timers.pop(500_000) == (500_000, b"a")
    owner.set(b"c", 7)
    assert owner.timers.earliest_ms == 7
    assert owner.timers.pop(500_001) == (7, b"c")


def test_never_is_never() -> None:
    """No timer is kept for an instant beyond the calendar."""
    owner = Owner()
    owner.set(b"never", NEVER_MS)
    owner.set(b"last", NEVER_MS - 1)
    assert owner.fire(END_OF_TIME_MS) == [(NEVER_MS - 1, b"last")]


KEYS = st.binary(max_size=2).filter(lambda key: b"\n" not in key)
TIMERS = st.dictionaries(KEYS, st.integers(0, 300_000) | st.just(NEVER_MS))


@given(waiting=TIMERS, reached=st.integers(0, 200_000), more=TIMERS)
def test_timers_set_at_once_are_timers_set_one_by_one(
    waiting: dict[bytes, int], reached: int, more: dict[bytes, int]
) -> None:
    """Whatever waits, and whichever minute is at hand."""
    single, bulk = Owner(), Owner()
    for owner in (single, bulk):
        for key, due in waiting.items():
            owner.set(key, due)
        owner.fire(reached)
    for key, due in more.items():
        single.set(key, due)
    bulk.due |= more
    bulk.timers.add_all((due, key) for key, due in more.items())
    assert bulk.timers.earliest_ms == single.timers.earliest_ms
    assert bulk.fire(END_OF_TIME_MS) == single.fire(END_OF_TIME_MS)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("set"), st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 400_000)
        ),
        st.tuples(st.just("remove"), st.sampled_from([b"a", b"b", b"c"]), st.just(0)),
        st.tuples(st.just("fire"), st.just(b""), st.integers(0, 400_000)),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_timers_agree_with_a_sorted_list(steps: list[tuple[str, bytes, int]]) -> None:
    """Whatever is set, moved and removed, what fires is what a plain search finds."""
    owner = Owner()
    for verb, key, instant in steps:
        if verb == "set":
            if owner.due.get(key) != instant:
                owner.set(key, instant)
        elif verb == "remove":
            owner.due.pop(key, None)
        else:
            expected = sorted((due, key) for key, due in owner.due.items() if due <= instant)
            assert owner.fire(instant) == expected
        assert owner.timers.earliest_ms <= min(owner.due.values(), default=END_OF_TIME_MS)


def test_few_timers_stand_before_the_instant() -> None:
    """Counted by the minute; an open minute ends before its first timer."""
    owner = Owner()
    for key, due in ((b"a", 10), (b"b", 20), (b"c", 61_000), (b"d", 200_000)):
        owner.set(key, due)
    timers = owner.timers
    assert timers.few_before(300_000, 4) == 300_000
    assert timers.few_before(300_000, 3) == 180_000
    assert timers.few_before(300_000, 2) == MINUTE_MS
    assert timers.few_before(300_000, 1) == 0
    assert timers.few_before(50_000, 2) == 50_000
    assert owner.fire(10) == [(10, b"a")]
    assert timers.few_before(300_000, 0) == 20
    assert timers.few_before(15, 0) == 15


def test_stale_timers_of_a_dense_minute_do_not_count() -> None:
    """Orders that were scanned in time must not make a minute look like a sale's."""
    owner = Owner()
    for number in range(10):
        owner.set(b"%d" % number, MINUTE_MS + number)
    assert owner.timers.few_before(2 * MINUTE_MS, 5) == MINUTE_MS
    owner = Owner()
    for number in range(10):
        owner.set(b"%d" % number, MINUTE_MS + number)
    for number in range(6):
        del owner.due[b"%d" % number]
    assert owner.timers.few_before(2 * MINUTE_MS, 5) == 2 * MINUTE_MS
    owner.set(b"new", MINUTE_MS)
    left = [(MINUTE_MS, b"new"), *((MINUTE_MS + number, b"%d" % number) for number in range(6, 10))]
    assert owner.fire(2 * MINUTE_MS) == left
