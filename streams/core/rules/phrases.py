"""Deadlines and durations as people write them: `48h after paid`, and back.

What lives here: the closed set of forms that a deadline may have in a policy file and in an
`exemption-granted` event, one table for the parser, its errors and the reference page. What must
not: other parts of a file (`streams.rulebook`), and what a deadline amounts to (`deadlines`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, cast

from streams.core.facts.events import TIME_MS_MAX
from streams.core.facts.instants import format_instant
from streams.core.rules.policy import DAY_MS, STARTS, Deadline, Start

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
"""The units of a duration; a day is 24 hours."""
# A century: a year of 9999 plus a limit must stay within what states and calendars can hold.
DURATION_MAX_MS = 36_500 * DAY_MS
# Working days are walked one by one; a dispatch rule of three years does not exist.
DAYS_MAX = 1000

_DURATION = r"([0-9]{1,12})(ms|s|m|h|d)"
_START = rf"({'|'.join(STARTS)})"
# Starts that are a deadline themselves.
_GIVEN: tuple[Start, ...] = ("promised", "agreed")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Below a week people count hours.
_HOURS_BELOW_MS = 7 * DAY_MS


def parse_duration(text: str) -> int:
    """Read a duration such as `72h`; return milliseconds.

    Raises:
        ValueError: It is not a number with a unit, or longer than a century; the message is the
            predicate of a sentence whose subject is the text.
    """
    match = re.fullmatch(_DURATION, text)
    if match is None:
        raise ValueError(f'is not a duration. Write a number and {_or(list(UNITS_MS))}: "72h"')
    return _duration_ms(match[1], match[2])


def _duration_ms(number: str, unit: str) -> int:
    duration_ms = int(number) * UNITS_MS[unit]
    if duration_ms > DURATION_MAX_MS:
        raise ValueError(f'is too long. The longest duration is "{duration_text(DURATION_MAX_MS)}"')
    return duration_ms


def duration_text(duration_ms: int) -> str:
    """Write a duration in the largest unit that gives a whole number; below a week in hours."""
    if duration_ms == 0:
        return "0s"
    return next(
        f"{duration_ms // unit_ms}{unit}"
        for unit, unit_ms in reversed(UNITS_MS.items())
        if duration_ms % unit_ms == 0 and (unit != "d" or duration_ms >= _HOURS_BELOW_MS)
    )


def instant_ms(moment: datetime) -> int:
    """Return the epoch milliseconds of a date-time with an offset.

    Raises:
        ValueError: It lies before 1970 or after 9999 in UTC.
    """
    instant = (moment - _EPOCH) // timedelta(milliseconds=1)
    if not 0 <= instant <= TIME_MS_MAX:
        raise ValueError("is not between 1970 and 9999")
    return instant


def instant_deadline(instant: int) -> Deadline:
    """Return the deadline that is this instant, for every order."""
    return Deadline("instant", "placed", instant)


class Form(NamedTuple):
    """One way to write a deadline."""

    pattern: re.Pattern[str]
    build: Callable[[re.Match[str]], Deadline]
    write: Callable[[Deadline], str | None]
    """The phrase of a deadline; `None` where it takes another form."""
    meaning: str
    example: str


def _elapsed(match: re.Match[str]) -> Deadline:
    return Deadline("elapsed", cast(Start, match[3]), _duration_ms(match[1], match[2]))


def _end_of_day(match: re.Match[str]) -> Deadline:
    return Deadline("end-of-day", cast(Start, match[3]), _duration_ms(match[1], match[2]))


def _days(match: re.Match[str]) -> Deadline:
    days = int(match[1])
    if days > DAYS_MAX:
        raise ValueError(f"has too many days. The most are {DAYS_MAX}")
    start = cast(Start, match[3])
    return Deadline("calendar-days" if match[2] == "calendar" else "working-days", start, days)


def _as_given(match: re.Match[str]) -> Deadline:
    return Deadline("elapsed", cast(Start, match[1]), 0)


def _instant(match: re.Match[str]) -> Deadline:
    try:
        moment = datetime.fromisoformat(match[0])
    except ValueError as error:
        raise ValueError(f"is not a date-time: {error}") from None
    return instant_deadline(instant_ms(moment))


def _given(deadline: Deadline) -> bool:
    return deadline.form == "elapsed" and not deadline.amount and deadline.start in _GIVEN


def _days_text(word: str) -> Callable[[Deadline], str | None]:
    def write(deadline: Deadline) -> str | None:
        if deadline.form != f"{word}-days":
            return None
        plural = "s" * (deadline.amount != 1)
        return f"{deadline.amount} {word} day{plural} after {deadline.start}"

    return write


FORMS = (
    Form(
        re.compile(f"{_DURATION} after {_START}"),
        _elapsed,
        lambda deadline: (
            f"{duration_text(deadline.amount)} after {deadline.start}"
            if deadline.form == "elapsed" and not _given(deadline)
            else None
        ),
        "The start plus elapsed time; `1d` is 24 hours.",
        '"48h after paid"',
    ),
    Form(
        re.compile(f"end of the day {_DURATION} after {_START}"),
        _end_of_day,
        lambda deadline: (
            f"end of the day {duration_text(deadline.amount)} after {deadline.start}"
            if deadline.form == "end-of-day"
            else None
        ),
        "The end of the start's local day, which is the next midnight, plus elapsed time.",
        '"end of the day 48h after paid"',
    ),
    Form(
        re.compile(rf"([0-9]{{1,6}}) (calendar) days? after {_START}"),
        _days,
        _days_text("calendar"),
        "The end of the local day so many days after the start's own, which is day 0.",
        '"3 calendar days after paid"',
    ),
    Form(
        re.compile(rf"([0-9]{{1,6}}) (working) days? after {_START}"),
        _days,
        _days_text("working"),
        "The end of so many working days after the start's own day; 0: of the first from it on.",
        '"2 working days after paid"',
    ),
    Form(
        re.compile(rf"as ({'|'.join(_GIVEN)})"),
        _as_given,
        lambda deadline: f"as {deadline.start}" if _given(deadline) else None,
        "The promised or agreed time of the order itself; an order without it has no clock.",
        '"as promised", "as agreed"',
    ),
    Form(
        re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)"),
        _instant,
        lambda deadline: format_instant(deadline.amount) if deadline.form == "instant" else None,
        "This instant, whatever the start. An event writes its offset from UTC.",
        "2024-02-01T00:00:00+08:00",
    ),
)


@lru_cache(maxsize=1024)
def parse_deadline(text: str) -> Deadline:
    """Read a deadline.

    Raises:
        ValueError: It has none of the forms, or a number out of range; the message is the predicate
            of a sentence whose subject is the text.
    """
    for form in FORMS:
        match = form.pattern.fullmatch(text)
        if match is not None:
            return form.build(match)
    raise ValueError(f"is not a deadline. {deadline_forms()}{_meant(text)}")


def deadline_text(deadline: Deadline) -> str:
    """Write a deadline as `parse_deadline` reads it."""
    phrases = (form.write(deadline) for form in FORMS)
    return next(phrase for phrase in phrases if phrase is not None)


def deadline_forms() -> str:
    """Say how a deadline is written: an example of each form, and the starts."""
    return f"Write {_or([form.example for form in FORMS])}. Starts: {', '.join(STARTS)}"


def _meant(text: str) -> str:
    """Guess which phrase was meant: the nearest with the numbers and the start of the text."""
    words = text.lower().split()
    # Two letters tell the starts apart: "payment" is paid, "upload" uploaded.
    starts = [start for start in STARTS if words and words[-1][:2] == start[:2]]
    if not starts:
        return ""
    start = starts[0]
    number = re.search(r"[0-9]{1,6}", text)
    duration = re.search(f"{_DURATION}(?![a-z])", "".join(words[:-2]))
    count = number[0] if number else "2"
    length = duration[0] if duration else f"{count}h"
    phrases = [
        *([f"as {start}"] if start in _GIVEN else []),
        f"{length} after {start}",
        f"end of the day {length} after {start}",
        f"{count} calendar days after {start}",
        f"{count} working days after {start}",
    ]
    said = " ".join(words)

    def likeness(phrase: str) -> Any:
        return difflib.SequenceMatcher(None, phrase, said).ratio()

    near = max(phrases, key=likeness)
    return f'. Meant "{near}"?' if 2 * likeness(near) >= 1 else ""


def _or(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
