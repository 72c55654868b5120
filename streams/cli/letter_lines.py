"""A dead letter as a line: for people, as JSON, and as an event to be repaired."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from streams.cli.options import input_topic
from streams.cli.printable import printable, printable_json
from streams.core.errors import UserError
from streams.core.facts.instants import NEVER_MS, format_instant
from streams.core.text import json_mistake
from streams.core.words import shortened
from streams.engine.resent import Origin

if TYPE_CHECKING:
    from streams.runtime.dead_letters import Letter


class Repair(msgspec.Struct):
    """A line of `export` with its value repaired."""

    topic: str
    origin: Origin
    value: msgspec.Raw = msgspec.Raw(b"")


def as_text(found: Letter) -> bytes:
    """Write when, why, from where, key and detail, and when it was sent again if it was."""
    letter, source = found.letter, found.letter.source
    key = shortened(_text(found.key) or "-")
    text = (
        f"{format_instant(found.at_ms)}  {letter.reason:<14}  "
        f"{source.topic}[{source.partition}]@{source.offset}  {key}  {letter.detail}"
    )
    if found.resent_at_ms is not None:
        text += f"  resent {format_instant(found.resent_at_ms)}"
    return printable(text).encode()


def as_json(found: Letter) -> bytes:
    """Write all of it; the refused value as text in `raw`, or `raw_base64` where it is none."""
    letter = found.letter
    line: dict[str, Any] = {
        "at": found.at_ms,
        "reason": letter.reason,
        "detail": letter.detail,
        "source": letter.source,
        "key": _text(found.key),
        "resent_at": found.resent_at_ms,
    }
    try:
        line["raw"] = found.raw.decode()
    except UnicodeDecodeError:
        line["raw_base64"] = base64.b64encode(found.raw).decode()
    return printable_json(msgspec.json.encode(line))


def as_event(found: Letter) -> bytes:
    """Write the refused event as `simulate` takes it, and beside it why and whence.

    The key is part of whence: the one it has from now on follows from its value.
    """
    letter, source = found.letter, found.letter.source
    line: dict[str, Any] = {
        "origin": {
            "topic": source.topic,
            "partition": source.partition,
            "offset": source.offset,
            "timestamp": source.timestamp,
            "key": _text(found.key),
        },
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": source.topic,
        "timestamp": min(max(source.timestamp, 0), NEVER_MS - 1),
    }
    if found.resent_at_ms is not None:
        line["resent_at"] = found.resent_at_ms
    if _is_json(found.raw):
        # Line breaks stand between the parts of JSON only.
        line["value"] = msgspec.Raw(found.raw.replace(b"\n", b" ").replace(b"\r", b" "))
    else:
        line["raw"] = found.raw.decode(errors="replace")
    return printable_json(msgspec.json.encode(line))


def repair(text: bytes) -> Repair:
    """Read a repaired line.

    Raises:
        UserError: It is no line of `export`, or has no value yet.
    """
    try:
        line = msgspec.json.decode(text, type=Repair)
    except msgspec.ValidationError as error:
        raise UserError(f"not an event line of `export`: {error}") from None
    except (ValueError, RecursionError) as error:
        mistake = json_mistake(text, error)
        raise UserError(f"not an event line of `export`: {mistake}") from None
    input_topic(line.topic)
    if not bytes(line.value):
        raise UserError("there is no `value`: write the event into it")
    return line


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="replace")


def _is_json(raw: bytes) -> bool:
    try:
        raw.decode()
        msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return False
    return True
