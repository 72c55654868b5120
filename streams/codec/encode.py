"""Outputs to Kafka records: canonical JSON values and CloudEvents binary-mode headers."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from streams.core.facts.instants import format_instant
from streams.core.facts.outputs import Output

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
        ("ce_time", format_instant(output.time_ms).encode()),
        _attribute("ce_type", output.type),
        _CONTENT_TYPE,
    )


@lru_cache(maxsize=64)
def _attribute(name: str, value: str) -> tuple[str, bytes]:
    return name, value.encode()
