"""Times on a command line: one way to write and to read them, for all commands."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from streams.core.errors import UserError
from streams.core.facts.events import TIME_MS_MAX
from streams.core.facts.instants import both_ways, in_another_unit_ms
from streams.core.rules.phrases import parse_duration

TIME_FORMS = (
    "2026-11-30 or '2026-11-30 14:00' in the policy's zone, now, -3h, -2d, ISO 8601 with an "
    "offset, or epoch milliseconds"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> int:
    """Return the machine's time, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def instant(text: str, option: str, time_zone: str) -> int:
    """Read a time in one of `TIME_FORMS`; return epoch milliseconds.

    Args:
        text: What was given.
        option: The option it was given for, for the message.
        time_zone: The IANA zone of a time without an offset.

    Raises:
        UserError: It is not a time, before 1970, or in seconds.
    """
    if re.fullmatch(r"[0-9]{1,19}", text):
        number = int(text)
        meant_ms = in_another_unit_ms(number)
        if meant_ms is not None:
            raise UserError(f"{option}: {both_ways(number)}", f"give {meant_ms}", exit_code=2)
        if number <= TIME_MS_MAX:
            return number
    try:
        at_ms = _moment_ms(text, time_zone)
    except (ValueError, OverflowError):
        at_ms = -1
    if at_ms < 0:
        raise UserError(f"{option}: {text!r} is not a time", f"give {TIME_FORMS}", exit_code=2)
    return at_ms


def _moment_ms(text: str, time_zone: str) -> int:
    if text == "now":
        return now_ms()
    if text.startswith("-"):
        return now_ms() - parse_duration(text[1:])
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(time_zone))
    return (moment - _EPOCH) // timedelta(milliseconds=1)
