"""What the publishing commands share: run, and say what a worker would refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import fields

from streams.cli.errors import UserError
from streams.codec.decode import Decoder, Refused
from streams.core.events import EVENT_TYPES, INPUT_TOPICS, OWN_TIME_FIELDS, Instant

if TYPE_CHECKING:
    from streams.runtime.publish import InputEvent

_Result = TypeVar("_Result")


class _Logged(msgspec.Struct):
    """A line of a file of events; partition and key are found anew."""

    topic: str
    value: msgspec.Raw
    timestamp: Instant | None = None


def now_ms() -> int:
    """Tell the machine's time, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run work on a cluster; what a person can put right is told as a UserError."""
    from streams.runtime.client import ClientError

    try:
        return asyncio.run(work)
    except ClientError as error:
        raise UserError(error.message, error.hint, error.exit_code) from None


def logged(text: bytes) -> tuple[str, bytes, int]:
    """Read topic, value and timestamp of a line that `simulate` takes.

    Raises:
        UserError: It is no such line.
    """
    try:
        line = msgspec.json.decode(text, type=_Logged)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"no event line: {error}",
            'a line is {"topic": "order-paid", "timestamp": 1670315400000, "value": {...}}',
            exit_code=2,
        ) from None
    if line.topic not in INPUT_TOPICS:
        raise UserError(
            f"{line.topic} is no input topic",
            f"input topics: {', '.join(INPUT_TOPICS)}",
            exit_code=2,
        )
    if line.timestamp is not None:
        return line.topic, bytes(line.value), line.timestamp
    value = msgspec.json.decode(line.value)
    field = OWN_TIME_FIELDS[INPUT_TOPICS.index(line.topic)]
    own_time = value.get(field) if isinstance(value, dict) else None
    # Without one the event is refused anyway, for that.
    return line.topic, bytes(line.value), own_time if type(own_time) is int else now_ms()


def checked(decoder: Decoder, topic: str, value: bytes, timestamp_ms: int) -> InputEvent:
    """Check an event before it is sent.

    Raises:
        UserError: A worker would refuse it.
    """
    from streams.runtime.publish import prepare

    try:
        return prepare(decoder, topic, value, timestamp_ms)
    except Refused as refused:
        raise UserError(
            f"{topic} is refused as {refused.reason}: {refused.detail}",
            _hint(topic, refused.reason),
            exit_code=2,
        ) from None


def _hint(topic: str, reason: str) -> str:
    if reason == "malformed":
        return "give one JSON object, in single quotes for the shell"
    if reason == "time-in-future":
        return "times are epoch milliseconds; --timestamp sets the record's own"
    if (topic, reason) == ("appeal-decided", "invalid"):
        return "a violation_id is ORDER:KIND:N with a kind of the policy, as O1:late-scan:1"
    names = fields(EVENT_TYPES[INPUT_TOPICS.index(topic)])
    needed = ", ".join(field.name for field in names if field.required)
    optional = ", ".join(field.name for field in names if not field.required)
    return f"{topic} needs {needed}" + (f"; it may have {optional}" if optional else "")
