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
        ("ce_source", b"/shipclock/" + output.topic.encode()),
        ("ce_subject", output.subject.encode()),
        ("ce_time", format_instant(output.time_ms).encode()),
        ("ce_type", output.type.encode()),
        _CONTENT_TYPE,
    )


@lru_cache(maxsize=4096)
def format_instant(instant_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=instant_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{instant_ms % 1000:03}Z"
