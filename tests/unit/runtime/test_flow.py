"""Back-pressure: what is held is bounded, and what moves the frontier is never paused for good."""

from streams.engine.records import Columns
from streams.runtime.flow import Flow, weigh

KB = 1024


def records(first: int, count: int, size: int) -> Columns:
    """Make records of a size; their timestamps do not matter here."""
    return Columns(range(first, first + count), [0] * count, [b"k"] * count, [b"v" * size] * count)


def work_off(flow: Flow, **offsets: int) -> None:
    """Let the task take, step and commit."""
    flow.sent()
    flow.taken()
    flow.stepping()
    flow.processed(offsets.items())
    flow.worked_off()


def test_large_records_fill_a_share_that_small_ones_do_not() -> None:
    """Ten records of a megabyte weigh more than a hundred small ones."""
    flow = Flow(["a", "b"])
    flow.start({}, {})
    flow.delivered("a", records(0, 100, 50), newest_ms=10)
    work_off(flow)
    assert flow.resting(1000 * KB) == set()
    flow.delivered("a", records(100, 10, 1000 * KB), newest_ms=20)
    work_off(flow)
    assert flow.resting(1000 * KB) == {"a"}


def test_the_slowest_topic_never_rests_once_the_task_has_caught_up() -> None:
    """Only it moves the frontier, so pausing it would be for ever."""
    flow = Flow(["a", "b"])
    flow.start({}, {})
    flow.delivered("a", records(0, 100, KB), newest_ms=10)
    flow.delivered("b", records(0, 100, KB), newest_ms=20)
    flow.sent()
    assert flow.resting(KB) == {"a", "b"}
    work_off(flow)
    flow.taken()
    flow.stepping()
    flow.worked_off()
    assert flow.resting(KB) == {"b"}


def test_a_batch_still_on_its_way_is_pending() -> None:
    """A step that ended before the batch was taken says nothing about it."""
    flow = Flow(["a"])
    flow.start({}, {})
    flow.delivered("a", records(0, 10, KB), newest_ms=10)
    flow.sent()
    flow.stepping()
    flow.worked_off()
    assert flow.pending
    flow.taken()
    assert flow.pending
    flow.stepping()
    flow.worked_off()
    assert not flow.pending


def test_half_a_chunk_processed_frees_half_of_it() -> None:
    """A commit may stop amid what one fetch brought."""
    flow = Flow(["a", "b"])
    flow.start({}, {})
    flow.delivered("a", records(0, 100, KB), newest_ms=10)
    whole = weigh(records(0, 100, KB))
    work_off(flow, a=50)
    assert flow.resting(whole // 2) == set()
    assert flow.resting(whole // 2 - 1) == {"a"}


def test_a_resting_topic_wakes_when_half_its_share_is_free() -> None:
    """Not at once, or it would be paused and resumed with every commit."""
    flow = Flow(["a", "b"])
    flow.start({}, {})
    flow.delivered("a", records(0, 100, KB), newest_ms=10)
    share = weigh(records(0, 100, KB)) - 1
    work_off(flow)
    assert flow.resting(share) == {"a"}
    work_off(flow, a=40)
    assert flow.resting(share) == {"a"}
    work_off(flow, a=60)
    assert flow.resting(share) == set()


def test_a_restored_task_knows_which_topic_is_slowest() -> None:
    """After a restart records come that are older than what the topic has shown already."""
    flow = Flow(["ahead", "behind"])
    flow.start({}, {"ahead": 100, "behind": 50})
    flow.delivered("ahead", records(0, 100, KB), newest_ms=40)
    flow.delivered("behind", records(0, 100, KB), newest_ms=60)
    work_off(flow)
    assert flow.resting(KB) == {"ahead"}


def test_too_many_records_of_one_instant_are_told() -> None:
    """They are of the slowest topic, which must not rest, and no step frees them."""
    flow = Flow(["a", "b"])
    flow.start({}, {})
    flow.completed("b", 99)
    flow.delivered("a", records(0, 100, KB), newest_ms=10)
    flow.sent()
    assert flow.crowded(KB, 50 * KB) == []
    flow.taken()
    flow.stepping()
    flow.worked_off()
    assert flow.crowded(KB, 500 * KB) == []
    assert flow.crowded(KB, 50 * KB) == [("a", 10)]


def test_what_waits_for_a_slower_topic_is_no_crowd() -> None:
    """A topic that is ahead rests; the slow one will show a later instant."""
    flow = Flow(["a", "slow"])
    flow.start({}, {})
    flow.delivered("a", records(0, 100, KB), newest_ms=10)
    flow.delivered("slow", records(0, 1, 1), newest_ms=5)
    work_off(flow)
    assert flow.crowded(KB, 50 * KB) == []


def test_markers_move_the_place_to_read_on() -> None:
    """A rebalance goes on behind them, and never before what was handed over."""
    flow = Flow(["a"])
    flow.start({"a": 7}, {})
    flow.delivered("a", records(7, 3, 1), newest_ms=10)
    assert flow.read_to == {"a": 10}
    flow.passed("a", 12)
    flow.passed("a", 11)
    assert flow.read_to == {"a": 12}
