"""What msgspec's messages leave out: the valid values of an enum, and how times are written.

Here, because events and policies are checked in different rooms and complain in one way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from msgspec import inspect

from streams.core.facts.events import TIME_MS_MAX
from streams.core.facts.instants import both_ways

_STEP = re.compile(r"\.([^.\[`]+)|\[(\d+)\]")


def spelled_out(message: str, wanted: type, value: Any) -> str:
    """Complete a validation message, which ends with the path of what is wrong.

    Args:
        wanted: The type that the value was to have.
        value: The value as JSON or TOML has it.
    """
    what, at, path = message.partition(" - at `$")
    steps = [name or int(index) for name, index in _STEP.findall(path)]
    return f"{what}{addition(what, wanted, steps, value)}{at}{path}"


def addition(message: str, wanted: type, steps: Sequence[str | int], value: Any) -> str:
    """Say more of what is wrong at a path; nothing where the message says it all."""
    leaf = _leaf(_type_info(wanted), steps)
    if message.startswith("Invalid enum value") and isinstance(leaf, inspect.LiteralType):
        return f", valid: {', '.join(map(_written, leaf.values))}"
    if not (isinstance(leaf, inspect.IntType) and (leaf.ge, leaf.le) == (0, TIME_MS_MAX)):
        return ""
    found = _found(value, steps)
    if type(found) is int and found > TIME_MS_MAX:
        return f", got {both_ways(found)}"
    return "" if type(found) is int else "; times are epoch milliseconds"


@lru_cache(maxsize=32)
def _type_info(wanted: type) -> inspect.Type:
    return inspect.type_info(wanted)


def _leaf(info: inspect.Type, steps: Sequence[str | int]) -> inspect.Type | None:
    """Follow a path through a type; of a union, through what is not null."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        members = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        return _leaf(members[0], steps) if len(members) == 1 else None
    if not steps:
        return info
    step, rest = steps[0], steps[1:]
    if isinstance(info, inspect.StructType):
        fields = {field.encode_name: field.type for field in info.fields}
        return _leaf(fields[step], rest) if step in fields else None
    if isinstance(info, inspect.ListType):
        return _leaf(info.item_type, rest)
    if isinstance(info, inspect.DictType):
        return _leaf(info.value_type, rest)
    return None


def _found(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
