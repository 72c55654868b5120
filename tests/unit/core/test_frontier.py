"""Effective timestamps and the frontier of one partition."""

from __future__ import annotations

from streams.core.time.frontier import Frontier


def test_effective_timestamp_is_the_running_maximum_of_its_topic() -> None:
    """A record older than one before it takes that one's time; other topics do not matter."""
    frontier = Frontier(2)
    assert frontier.effective(0, [5, 3]) == [5, 5]
    assert frontier.effective(0, [4, 9, -1]) == [5, 9, 9]
    assert frontier.effective(1, [2]) == [2]


def test_live_timestamp_of_the_future_counts_as_now() -> None:
    """A producer with a wrong clock moves log time no further than the machine's clock."""
    frontier = Frontier(1)
    assert frontier.effective_live(0, [50, 9_999, 70], now_ms=100) == [50, 100, 100]
    assert frontier.effective_live(0, [150, 120], now_ms=200) == [150, 150]


def test_machine_clock_set_back_takes_no_time_back() -> None:
    """Log time stays where it was until the clock has caught up."""
    frontier = Frontier(1)
    frontier.effective_live(0, [150], now_ms=200)
    assert frontier.effective_live(0, [160], now_ms=100) == [150]


def test_live_record_below_the_frontier_counts_as_that() -> None:
    """What comes after its time has been worked off is processed at the frontier."""
    frontier = Frontier(1)
    frontier.reached_ms = 500
    assert frontier.effective_live(0, [100, 600, 550], now_ms=900) == [500, 600, 600]
    assert Frontier(1).effective(0, [100]) == [100]


def test_frontier_waits_for_the_slowest_topic() -> None:
    """It is the minimum over the topics of the last effective timestamp."""
    frontier = Frontier(3)
    frontier.effective(0, [10])
    frontier.effective(1, [20])
    assert frontier.value() == 0
    frontier.effective(2, [15])
    assert frontier.value() == 10


def test_topic_read_to_its_end_counts_as_complete_up_to_then() -> None:
    """A quiet topic does not hold back the others, and a later look never takes that back."""
    frontier = Frontier(2)
    frontier.effective(0, [10])
    frontier.complete(1, 30)
    assert frontier.value() == 10
    frontier.complete(0, 40)
    frontier.complete(1, 20)
    assert frontier.value() == 30


def test_frontier_never_goes_back() -> None:
    """What was reached before a restart stays reached, whatever has been read since."""
    frontier = Frontier(2)
    frontier.reached_ms = 100
    frontier.effective(0, [10])
    assert frontier.value() == 100
