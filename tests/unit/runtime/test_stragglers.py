"""A past that is loaded into live topics is noticed: counted, and said once a minute."""

import pytest
from aiokafka import TopicPartition

from streams.runtime.stragglers import Stragglers
from streams.telemetry.metrics import BEHIND_FRONTIER

HOUR = 3_600_000
FRONTIER = 1_700_000_000_000


def counted(topic: str) -> float:
    """Return what the metric says of a topic."""
    return BEHIND_FRONTIER.labels(topic).value


def test_what_lies_at_or_ahead_of_the_frontier_is_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """The usual record costs one comparison of its batch, and no word."""
    stragglers = Stragglers("orders", slack_ms=500)
    stragglers.note(TopicPartition("in-time", 0), [FRONTIER, FRONTIER + 5], FRONTIER)
    stragglers.note(TopicPartition("in-time", 0), [1, 2], 0)
    assert (counted("in-time"), caplog.text) == (0, "")


def test_a_little_late_is_counted_and_not_said(caplog: pytest.LogCaptureFixture) -> None:
    """A producer that waited for a slow broker is nobody's mistake."""
    stragglers = Stragglers("orders", slack_ms=HOUR)
    late = [FRONTIER - HOUR, FRONTIER - 1, FRONTIER]
    stragglers.note(TopicPartition("a-little", 0), late, FRONTIER)
    assert (counted("a-little"), caplog.text) == (2, "")


def test_far_behind_is_said_at_once_and_then_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With topic, partitions, how many and how far; and nothing is left unsaid in the end."""
    now_s = 1_000.0
    monkeypatch.setattr("streams.runtime.logs.time.monotonic", lambda: now_s)
    stragglers = Stragglers("orders", slack_ms=500)
    for partition in (0, 1, 2):
        past = [FRONTIER - 700 * HOUR, FRONTIER - 699 * HOUR, FRONTIER + 5]
        stragglers.note(TopicPartition("far", partition), past, FRONTIER)
    (told,) = caplog.records
    assert told.getMessage() == (
        "behind-frontier stage=orders topic=far partitions=0 records=2 furthest=29d4h "
        'detail="they came after their time was judged, and count as late evidence" '
        'hint="to load a past, see Loading the past in docs/operations.md"'
    )
    now_s += 59
    stragglers.tell()
    assert len(caplog.records) == 1
    now_s += 2
    stragglers.tell()
    stragglers.tell()
    assert len(caplog.records) == 2
    assert "partitions=1-2 records=4 " in caplog.records[1].getMessage()
    assert counted("far") == 6
