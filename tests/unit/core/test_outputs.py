"""Output structs encode to canonical JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import orjson
import pytest
from msgspec import Struct

from streams.codec.encode import encode_value
from streams.core.facts import outputs

EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"
TYPES: dict[str, type[Struct]] = {
    "timeout": outputs.Timeout,
    "penalty": outputs.Penalty,
    "product-ban": outputs.ProductBan,
    "shop-action": outputs.ShopAction,
    "deadline-changed": outputs.DeadlineChanged,
    "deadline-warning": outputs.DeadlineWarning,
    "notification": outputs.Notification,
    "order-closure": outputs.OrderClosure,
    "dead-letter": outputs.DeadLetter,
}


def examples() -> Iterator[Any]:
    """Yield the valid examples of all output topics as structs."""
    for topic, type_ in TYPES.items():
        for path in sorted((EXAMPLES / topic / "valid").glob("*.json")):
            value = json.loads(path.read_text(encoding="utf-8"))
            yield pytest.param(msgspec.convert(value, type_), id=f"{topic}/{path.stem}")


def canonical(value: Any) -> bytes:
    """Encode with sorted keys by another library."""
    return orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_SORT_KEYS)


@pytest.mark.parametrize("value", list(examples()))
def test_encoded_value_is_canonical_json(value: Struct) -> None:
    """Keys are sorted at every level, without white space."""
    assert encode_value(value) == canonical(value)


def test_every_output_type_is_looked_at() -> None:
    """No type of output value is left out of the check, and each has an example."""
    assert set(TYPES.values()) == set(get_args(outputs.Value))
    assert {type(param.values[0]) for param in examples()} == set(TYPES.values())


def test_a_field_out_of_order_is_seen() -> None:
    """The comparison tells a struct whose fields are not in alphabetical order."""

    class Shuffled(Struct):
        b: int
        a: int

    assert encode_value(Shuffled(b=1, a=2)) != canonical(Shuffled(b=1, a=2))
