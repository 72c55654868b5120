"""Readers of single values of a policy file, each with what it allows in words.

What lives here: from a TOML value to a plain one. What must not: which key takes which
(`grammar`), and what values come to together (`reader`).

A reader raises ValueError with the predicate of a sentence whose subject is the value: "is not …".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from streams.core.rules.phrases import (
    deadline_forms,
    instant_deadline,
    instant_ms,
    parse_deadline,
    parse_duration,
)
from streams.core.rules.policy import RESERVED_KINDS, Deadline

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_NAME_LENGTH_MAX = 64
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_SETTLE = re.compile(rf"next day at {_TIME_OF_DAY.pattern}")
_CLOSE = re.compile(r"(\S+) after placed")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MINUTE_MS = 60_000
_SECOND_MS = 1_000
AT_ONCE = "at once"


class Value(NamedTuple):
    """How a value is read, and what it may be."""

    read: Callable[[Any, str], Any]
    """From a TOML value and the policy's time zone."""
    allowed: str


def shown(value: Any) -> str:
    """Write a value as TOML does, shortened."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, datetime | date | time):
        text = value.isoformat()
    elif isinstance(value, dict):
        text = "{ " + ", ".join(f"{key} = {shown(each)}" for key, each in value.items()) + " }"
    elif isinstance(value, list):
        text = "[" + ", ".join(map(shown, value)) + "]"
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is not {what}. Write it in quotes")  # noqa: TRY004
    return value


def name(value: Any, _zone: str) -> str:
    """Read lower-case words joined by `-`."""
    if not isinstance(value, str) or NAME.fullmatch(value) is None or len(value) > _NAME_LENGTH_MAX:
        raise ValueError('is not a name. Write lower-case words joined by "-": "late-scan"')
    return value


def kind_name(value: str) -> str:
    """Read the name of a kind of violation."""
    if value in RESERVED_KINDS:
        raise ValueError(
            f"is the name of a timer. Any other name but {_or(RESERVED_KINDS)} is free"
        )
    return name(value, "")


def text(value: Any, _zone: str) -> str:
    """Read any text that can be an identifier."""
    read = _text(value, "text")
    if not 1 <= len(read) <= 128 or ":" in read or not read.isprintable():
        raise ValueError('is not an identifier: 1 to 128 characters, none of them ":"')
    return read


def number(first: int, last: int) -> Value:
    """Return the reader of whole numbers within bounds."""

    def read(value: Any, _zone: str) -> int:
        if type(value) is not int or not first <= value <= last:
            raise ValueError(f"is not a whole number from {first} to {last}")
        return value

    return Value(read, f"a whole number from {first} to {last}")


def flag(value: Any, _zone: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("is not true or false")  # noqa: TRY004
    return value


def yes(value: Any, _zone: str) -> bool:
    """Read true, of what is left out otherwise."""
    if value is not True:
        raise ValueError("is not true. Leave it out where it does not hold")
    return True


def choice(*choices: str) -> Value:
    """Return the reader of one word of some."""

    def read(value: Any, _zone: str) -> str:
        if value not in choices or not isinstance(value, str):
            raise ValueError(f"is not {_or([json.dumps(each) for each in choices])}")
        return value

    return Value(read, _or([f'`"{each}"`' for each in choices]))


def duration(value: Any, _zone: str) -> int:
    """Read a duration."""
    return parse_duration(_text(value, 'a duration, such as "72h"'))


def positive_duration(value: Any, zone: str) -> int:
    """Read a duration above 0."""
    length = duration(value, zone)
    if not length:
        raise ValueError("is not above 0")
    return length


def list_of(one: Value, *, distinct: bool = True) -> Value:
    """Return the reader of a list."""

    def read(value: Any, zone: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"is not a list. Write [{shown(value)}]")  # noqa: TRY004
        items = []
        for each in value:
            try:
                items.append(one.read(each, zone))
            except ValueError as error:
                raise ValueError(f"has {shown(each)}, which {error}") from None
        if distinct and len(dict.fromkeys(items)) < len(items):
            raise ValueError("names something twice")
        return tuple(items)

    return Value(read, f"a list of {one.allowed}")


def zone(value: Any, _zone: str) -> str:
    """Read the name of a time zone."""
    try:
        ZoneInfo(value)
    except (ValueError, OSError, TypeError, KeyError):
        raise ValueError('is not a time zone. Write an IANA name such as "Asia/Shanghai"') from None
    return str(value)


def moment(value: Any, zone_name: str) -> int:
    """Read an instant; without an offset it is local."""
    if type(value) is date or isinstance(value, str):
        raise ValueError("is not a date-time. Write it without quotes: 2024-02-01T00:00:00")
    if not isinstance(value, datetime):
        raise ValueError("is not a date-time. Write one such as 2024-02-01T00:00:00")  # noqa: TRY004
    if value.tzinfo is None:
        value = value.replace(tzinfo=ZoneInfo(zone_name))
    return instant_ms(value)


def last_moment(value: Any, zone_name: str) -> int:
    """Read an instant up to which something holds: a whole second is included to its end."""
    instant = moment(value, zone_name)
    return instant if instant % _SECOND_MS else instant + _SECOND_MS - 1


def deadline(value: Any, zone_name: str) -> Deadline:
    """Read a deadline: a phrase, or an instant."""
    if isinstance(value, datetime):
        return instant_deadline(moment(value, zone_name))
    if not isinstance(value, str):
        raise ValueError(f"is not a deadline. {deadline_forms()}")  # noqa: TRY004
    return parse_deadline(value)


def closure(value: Any, zone_name: str) -> int:
    """Read when an order closes: `150d after placed`."""
    match = _CLOSE.fullmatch(_text(value, "text"))
    if match is None:
        raise ValueError('is not a closure. Write "150d after placed"')
    return positive_duration(match[1], zone_name)


def day(value: Any, _zone: str) -> int:
    """Read a date; return its ordinal."""
    if type(value) is not date:
        raise ValueError("is not a date. Write it without quotes: 2026-01-02")
    return value.toordinal()


def weekday(value: Any, _zone: str) -> int:
    """Read a day of the week, Monday is 0."""
    if value not in WEEKDAYS:
        raise ValueError(f"is not a day of the week: {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(value)


def time_of_day(value: Any, _zone: str) -> int:
    """Read `14:00`; return milliseconds after midnight."""
    if isinstance(value, time):
        value = value.isoformat("minutes")
    match = _TIME_OF_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('is not a time of day. Write "14:00"')
    return (int(match[1]) * 60 + int(match[2])) * _MINUTE_MS


def time_of_day_text(after_midnight: int) -> str:
    """Write a time of day as `time_of_day` reads it."""
    hours, minutes = divmod(after_midnight // _MINUTE_MS, 60)
    return f"{hours:02}:{minutes:02}"


def settlement(value: Any, zone_name: str) -> int | None:
    """Read when charges are made: `at once`, or `next day at 00:00`."""
    if value == AT_ONCE:
        return None
    match = _SETTLE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'is not a settlement. Write "{AT_ONCE}" or "next day at 00:00"')
    return time_of_day(value[-len("00:00") :], zone_name)


def _or(words: Sequence[str]) -> str:
    return " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} or {words[-1]}"


TEXT = Value(text, "an identifier")
NAME_VALUE = Value(name, "lower-case words joined by `-`")
DURATION = Value(duration, "a duration: a number and `ms`, `s`, `m`, `h` or `d`")
POSITIVE_DURATION = Value(positive_duration, "a duration above 0")
MOMENT = Value(moment, "a date-time; without an offset it is local")
LAST_MOMENT = Value(last_moment, "a date-time; a whole second counts to its end")
DAY = Value(day, "a date")
WEEKDAY = Value(weekday, "a day of the week")
FLAG = Value(flag, "`true` or `false`")
YES = Value(yes, "`true`")
ZONE = Value(zone, "an IANA time zone")
DEADLINE = Value(deadline, "a deadline")
CLOSURE = Value(closure, "a duration `after placed`")
TIME_OF_DAY = Value(time_of_day, "a time of day")
SETTLEMENT = Value(settlement, '`"at once"` or `"next day at HH:MM"`')
