"""Local days and weeks, where clocks are turned and days are missing."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.time.calendar import Calendar
from tests.unit.samples import HOUR_MS

ZONES = (
    "Asia/Shanghai",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "UTC",
)


def at(text: str) -> int:
    """Return the epoch milliseconds of an ISO 8601 instant."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "instant", "name", "start", "end"),
    [
        ("Asia/Shanghai", "2022-12-06T15:59:59.999Z", "2022-12-06", "2022-12-05T16:00Z", 24),
        ("Asia/Shanghai", "2022-12-06T16:00:00Z", "2022-12-07", "2022-12-06T16:00Z", 24),
        ("Asia/Shanghai", "2024-02-29T12:00:00Z", "2024-02-29", "2024-02-28T16:00Z", 24),
        ("America/New_York", "2023-03-12T12:00:00Z", "2023-03-12", "2023-03-12T05:00Z", 23),
        ("America/New_York", "2023-11-05T12:00:00Z", "2023-11-05", "2023-11-05T04:00Z", 25),
        # Clocks go from 00:00 to 01:00: the day begins at one o'clock.
        ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04", "2018-11-04T03:00Z", 23),
        # Clocks go from 01:00 back to 00:00: the day begins at the first midnight.
        ("America/Havana", "2022-11-06T12:00:00Z", "2022-11-06", "2022-11-06T04:00Z", 25),
        # Clocks go from 24:00 back to 23:00: the day ends at the second midnight.
        ("America/Sao_Paulo", "2019-02-17T02:30:00Z", "2019-02-16", "2019-02-16T02:00Z", 25),
        # The 30th of December was left out.
        ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29", "2011-12-29T10:00Z", 24),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31", "2011-12-30T10:00Z", 24),
        ("Asia/Kathmandu", "2022-12-06T18:15:00Z", "2022-12-07", "2022-12-06T18:15Z", 24),
    ],
)
def test_local_day_is_what_the_zone_says(
    zone: str, instant: str, name: str, start: str, end: int
) -> None:
    """A day has its local date, begins at its first instant and lasts its own hours."""
    calendar = Calendar(zone)
    day = calendar.local_day(at(instant))
    assert (day.name, day.start) == (name, at(start))
    assert calendar.next_day_at(at(instant), 0) == day.start + end * HOUR_MS


@pytest.mark.parametrize(
    ("instant", "monday"),
    [
        ("2022-12-04T15:59:59.999Z", "2022-11-27T16:00Z"),
        ("2022-12-04T16:00:00Z", "2022-12-04T16:00Z"),
        ("2023-01-01T00:00:00Z", "2022-12-25T16:00Z"),
    ],
)
def test_week_begins_on_monday(instant: str, monday: str) -> None:
    """Sunday's last millisecond belongs to the old week, also over New Year."""
    assert Calendar("Asia/Shanghai").local_day(at(instant)).week_start == at(monday)


def test_week_begins_on_monday_when_clocks_were_turned_since() -> None:
    """The Sunday of 23 hours belongs to a week that began in winter time."""
    sunday = Calendar("America/New_York").local_day(at("2023-03-12T20:00:00Z"))
    assert sunday.week_start == at("2023-03-06T05:00:00Z")


@pytest.mark.parametrize(
    ("time_of_day", "expected"),
    [
        (0, "2023-03-12T05:00:00Z"),
        (90, "2023-03-12T06:30:00Z"),
        (150, "2023-03-12T07:30:00Z"),  # 02:30 does not exist; the clock shows 03:30
        (210, "2023-03-12T07:30:00Z"),
    ],
)
def test_time_of_day_is_wall_time(time_of_day: int, expected: str) -> None:
    """The next day's time of day is read off the wall, and a skipped one comes an hour on."""
    calendar = Calendar("America/New_York")
    noon = at("2023-03-11T17:00:00Z")
    assert calendar.next_day_at(noon, time_of_day * 60_000) == at(expected)


@given(zone=st.sampled_from(ZONES), instants=st.lists(st.integers(at("2010-01-01T00:00Z"),
       at("2040-01-01T00:00Z")), min_size=1, max_size=20))  # fmt: skip
def test_any_instant_lies_in_its_day(zone: str, instants: list[int]) -> None:
    """Days have no gap and no overlap, whatever was asked before."""
    calendar = Calendar(zone)
    for instant in instants:
        day, end = calendar.local_day(instant), calendar.next_day_at(instant, 0)
        local = datetime.fromtimestamp(instant // 1000, UTC).astimezone(ZoneInfo(zone))
        assert day.name == local.date().isoformat()
        assert day.week_start <= day.start <= instant < end
        assert calendar.local_day(day.start).name == calendar.local_day(end - 1).name == day.name
        assert calendar.local_day(day.start - 1).name < day.name < calendar.local_day(end).name
        monday = calendar.local_day(day.week_start)
        assert datetime.fromisoformat(monday.name).weekday() == 0
