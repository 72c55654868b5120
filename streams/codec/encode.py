"""Outputs to Kafka records: canonical JSON values and CloudEvents binary-mode headers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from streams.core.outputs import Output

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION = ("ce_specversion", b"1.0")
_CONTENT_TYPE = ("content-type", b"application/json")

Headers = tuple[tuple[str, bytes], ...]

# Output structs keep their fields in alphabetical order, so this is canonical JSON.
encode_value = msgspec.json.Encoder().encode


def encode_headers(output: Output) -> Headers:
    """CloudEvents attributes of an output; the same log gives the same bytes."""
    return (
        _VERSION,
        ("ce_id", output.id.encode()),
        _attribute("ce_source", "/shipclock/" + output.topic),
        ("ce_subject", output.subject.encode()),
        _time_attribute(output.time_ms),
        _attribute("ce_type", output.type),
        _CONTENT_TYPE,
    )


@lru_cache(maxsize=64)
def _attribute(name: str, value: str) -> tuple[str, bytes]:
    return name, value.encode()


@lru_cache(maxsize=4096)
def _time_attribute(instant_ms: int) -> tuple[str, bytes]:
    return "ce_time", format_instant(instant_ms).encode()


def format_instant(instant_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=instant_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{instant_ms % 1000:03}Z"
