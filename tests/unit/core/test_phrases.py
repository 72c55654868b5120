from __future__ import annotations

import pytest

from streams.core.rules.phrases import (
    FORMS,
    deadline_text,
    duration_text,
    parse_deadline,
    parse_duration,
)
from streams.core.rules.policy import DAY_MS, Deadline

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "deadline"),
    [
        ("48h after paid", Deadline("elapsed", "paid", 48 * HOUR_MS)),
        ("90m after uploaded", Deadline("elapsed", "uploaded", 5_400_000)),
        ("15d after placed", Deadline("elapsed", "placed", 15 * DAY_MS)),
        ("24h after promised", Deadline("elapsed", "promised", 24 * HOUR_MS)),
        ("end of the day 48h after paid", Deadline("end-of-day", "paid", 48 * HOUR_MS)),
        ("end of the day 0s after agreed", Deadline("end-of-day", "agreed", 0)),
        ("3 calendar days after placed", Deadline("calendar-days", "placed", 3)),
        ("1 working day after placed", Deadline("working-days", "placed", 1)),
        ("0 working days after paid", Deadline("working-days", "paid", 0)),
        ("as promised", Deadline("elapsed", "promised", 0)),
        ("as agreed", Deadline("elapsed", "agreed", 0)),
        ("0s after paid", Deadline("elapsed", "paid", 0)),
        ("2020-02-09T16:00:00.001Z", Deadline("instant", "placed", 1_581_264_000_001)),
    ],
)
def test_a_phrase_is_read_and_written_back(text: str, deadline: Deadline) -> None:
    """Each form is read into its deadline, and printed as it was written."""
    assert parse_deadline(text) == deadline
    assert deadline_text(deadline) == text


@pytest.mark.parametrize(
    ("text", "deadline"),
    [
        ("0h after promised", Deadline("elapsed", "promised", 0)),
        ("3600s after paid", Deadline("elapsed", "paid", HOUR_MS)),
        ("1 calendar days after paid", Deadline("calendar-days", "paid", 1)),
        ("2020-02-10T00:00:00+08:00", Deadline("instant", "placed", 1_581_264_000_000)),
        ("2020-02-10T00:00+08:00", Deadline("instant", "placed", 1_581_264_000_000)),
    ],
)
def test_another_spelling_means_the_same(text: str, deadline: Deadline) -> None:
    """What is read from another spelling is written in the usual one, and read back equal."""
    assert parse_deadline(text) == deadline
    assert parse_deadline(deadline_text(deadline)) == deadline


def test_every_form_reads_its_own_example() -> None:
    """The examples in errors and on the reference page are valid, and each of its own form."""
    for form in FORMS:
        for example in form.example.split(", "):
            text = example.strip('"')
            assert form.pattern.fullmatch(text)
            assert form.write(parse_deadline(text)) is not None
            assert deadline_text(parse_deadline(text)) in (text, "2024-01-31T16:00:00.000Z")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("48h since payment", "48h after paid"),
        ("48 h after paid", "48h after paid"),
        ("48H After Paid", "48h after paid"),
        ("2 workdays after placed", "2 working days after placed"),
        ("end of day 24h after paid", "end of the day 24h after paid"),
        ("as promissed", "as promised"),
        ("72h after upload", "72h after uploaded"),
        ("as payment", None),
        ("72h after delivery", None),
        ("72h", None),
        ("", None),
    ],
)
def test_a_wrong_phrase_names_what_is_allowed_and_meant(text: str, meant: str | None) -> None:
    """The message lists the forms and starts, and guesses the phrase that was meant."""
    with pytest.raises(ValueError, match="is not a deadline") as caught:
        parse_deadline(text)
    message = str(caught.value)
    assert message.startswith(
        'is not a deadline. Write "48h after paid", "end of the day 48h after paid", '
        '"3 calendar days after paid", "2 working days after paid", "as promised", "as agreed" or '
        "2024-02-01T00:00:00+08:00. Starts: placed, paid, uploaded, promised, agreed"
    )
    assert message.partition("Meant ")[2] == (f'"{meant}"?' if meant else "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("36501d after paid", 'is too long. The longest duration is "36500d"'),
        ("1001 working days after paid", "has too many days. The most are 1000"),
        ("2020-02-30T00:00:00Z", "is not a date-time: day is out of range for month"),
        ("1969-12-31T23:59:59Z", "is not between 1970 and 9999"),
    ],
)
def test_numbers_have_bounds(text: str, problem: str) -> None:
    """A deadline that no calendar or state can hold is refused, with the bound."""
    with pytest.raises(ValueError, match=problem):
        parse_deadline(text)


@pytest.mark.parametrize(
    ("text", "duration_ms", "written"),
    [
        ("250ms", 250, "250ms"),
        ("0d", 0, "0s"),
        ("72h", 72 * HOUR_MS, "72h"),
        ("3d", 72 * HOUR_MS, "72h"),
        ("7d", 7 * DAY_MS, "7d"),
        ("150d", 150 * DAY_MS, "150d"),
        ("180h", 180 * HOUR_MS, "180h"),
        ("90m", 5_400_000, "90m"),
    ],
)
def test_durations(text: str, duration_ms: int, written: str) -> None:
    """Durations are read in any unit; hours are printed below a week, days from there."""
    assert parse_duration(text) == duration_ms
    assert duration_text(duration_ms) == written
    assert parse_duration(written) == duration_ms


@pytest.mark.parametrize("text", ["72", "h", "1.5h", "-1h", "72 h", "1w", "٣h", "72h\n"])
def test_a_wrong_duration_names_the_units(text: str) -> None:
    """Only digits and one of the units are a duration."""
    with pytest.raises(ValueError, match="Write a number and ms, s, m, h or d"):
        parse_duration(text)
