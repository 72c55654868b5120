"""What a stage's partitions have in common to say."""

import logging
from types import SimpleNamespace

import pytest

from streams.runtime import logs
from streams.runtime.reports import Reports


def test_what_many_partitions_say_is_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, for those that come later too, and then once a minute for all of them."""
    now_s = [100.0]
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    reports = Reports(logging.getLogger("streams.test"), "orders")

    def told(*numbers: int, detail: str = "away", shared: bool = False) -> list[str]:
        caplog.clear()
        for number in numbers:
            reports.add(logging.WARNING, "failed", number, detail=detail, shared=shared)
        reports.flush()
        return [record.getMessage() for record in caplog.records]

    assert told(0, 1, 2) == ["failed stage=orders partitions=0-2 detail=away"]
    assert told(0, 1) == []
    assert told(7) == ["failed stage=orders partitions=0-1,7 detail=away"]
    assert told(0, detail="other") == ["failed stage=orders partitions=0 detail=other"]
    assert told(0, 7) == []
    now_s[0] += 61
    assert told(2) == ["failed stage=orders partitions=0,2,7 detail=away"]
    assert told(0, 1, detail="all", shared=True) == [
        "failed stage=orders partitions=0-1 detail=all"
    ]
    assert told(2, detail="all", shared=True) == []
    reports.over()
    assert told(2) == ["failed stage=orders partitions=2 detail=away"]


def test_what_differs_between_partitions_does_not_split_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is listed, for so many as a person reads."""
    caplog.set_level("INFO", "streams")
    reports = Reports(logging.getLogger("streams.test"), "orders")
    for number in (2, 0):
        reports.add(logging.ERROR, "refused", number, at=f"t[{number}]: {number}", detail="why")
    for number in range(20):
        reports.add_once(logging.INFO, "changed", number, at=f"t[{number}]", now="p@2")
    reports.flush()
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith('changed stage=orders partitions=0-19 at="t[0]; t[1]; ')
    assert first.endswith('; t[15]; …" now=p@2')
    assert second == 'refused stage=orders partitions=0,2 at="t[0]: 0; t[2]: 2" detail=why'


def test_what_has_happened_is_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """Unlike what lasts; also if all is well by then."""
    reports = Reports(logging.getLogger("streams.test"), "orders")
    for _ in range(2):
        reports.add_once(logging.WARNING, "accepted", 3, topic="t")
        reports.over()
    assert [one.getMessage() for one in caplog.records] == [
        "accepted stage=orders partitions=3 topic=t"
    ] * 2


def test_a_partition_that_names_itself_does_not_split_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its number stands in `partitions`; another's stays where it is."""
    reports = Reports(logging.getLogger("streams.test"), "orders")
    for number in range(12):
        reports.add(logging.ERROR, "refused", number, detail=f"log[{number}] is of another app id")
    reports.add(logging.ERROR, "refused", 12, detail="log[0] is of another app id")
    reports.flush()
    assert [one.getMessage() for one in caplog.records] == [
        'refused stage=orders partitions=0-11 detail="log is of another app id"',
        'refused stage=orders partitions=12 detail="log[0] is of another app id"',
    ]


def test_numbers_of_many_partitions_are_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    """Times are the longest, as they pass together; what a partition says twice counts once."""
    caplog.set_level("INFO", "streams")
    reports = Reports(logging.getLogger("streams.test"), "orders")
    for number, states, seconds in ((0, 5, 9.0), (0, 7, 1.5), (1, 3, 2.5)):
        reports.add_once(
            logging.INFO, "restored", number, sums={"states": states}, longest={"seconds": seconds}
        )
    reports.flush()
    assert [one.getMessage() for one in caplog.records] == [
        "restored stage=orders partitions=0-1 states=10 seconds=2.5"
    ]
