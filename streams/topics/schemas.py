"""JSON Schemas (2020-12) of topic files and event values, made from the Python types.

The types say nearly everything. What they cannot say, that one field depends on another, stands
in `_REFINEMENTS`.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from streams.core.facts import events, outputs
from streams.core.facts.inputs import INPUT_OF_TOPIC, INPUTS
from streams.topics.catalog import TopicFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"

TYPE_OF_TOPIC: dict[str, type[msgspec.Struct]] = {
    **{each.topic: each.event for each in INPUTS},
    "timeout": outputs.Timeout,
    "penalty": outputs.Penalty,
    "product-ban": outputs.ProductBan,
    "shop-action": outputs.ShopAction,
    "deadline-warning": outputs.DeadlineWarning,
    "deadline-changed": outputs.DeadlineChanged,
    "notification": outputs.Notification,
    "order-closure": outputs.OrderClosure,
    "dead-letter": outputs.DeadLetter,
}

# Types that have a name of their own in the schemas, so that a reader sees it and not its limits.
_NAMED: dict[str, dict[str, Any]] = {
    name: msgspec.json.schema(getattr(events, name))
    for name in ("Amount", "Duration", "Identifier", "Instant", "ModeName", "ViolationId")
}


def _given(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": [field], "properties": {field: schema}}


def _when(
    field: str, value: str, then: dict[str, Any], otherwise: dict[str, Any] | None = None
) -> dict[str, Any]:
    chosen = {"if": {"properties": {field: {"const": value}}}, "then": then}
    return chosen if otherwise is None else chosen | {"else": otherwise}


_REVOCATION = ("cause", "reason", "revoked_at")

# By struct: what is merged into its schema, properties field by field.
_REFINEMENTS: dict[str, dict[str, Any]] = {
    "Effect": {
        "oneOf": [
            _given("waive", {"const": True}),
            _given("extend_to", {"type": "integer"}),
            _given("extend_by", {"type": "integer"}),
            _given("set_to", {"type": "integer"}),
            _given("limit", {"type": "string"}),
            _given("waive_penalty", {"const": True}),
        ]
    },
    "Timeout": {
        "properties": {"occurrence": {"minimum": 1}, "revision": {"minimum": 1}},
        **_when(
            "type",
            "timeout.revoked",
            {"required": list(_REVOCATION)},
            {"properties": dict.fromkeys(_REVOCATION, False)},
        ),
    },
    "Penalty": {
        "properties": {"day": {"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}},
        **_when(
            "type",
            "penalty.charged",
            {"properties": {"amount": {"minimum": 1}}},
            {"properties": {"amount": {"maximum": -1}}},
        ),
    },
    "DeadlineWarning": {"properties": {"lead": {"minimum": 1}}},
    "Source": {"properties": {"offset": {"minimum": 0}, "partition": {"minimum": 0}}},
    "DeadLetter": {"properties": {"raw": {"contentEncoding": "base64"}}},
}


def generated_files() -> dict[str, str]:
    """All generated schemas by their path below `schemas/`."""
    files = {
        f"events/{topic}.schema.json": _document(f"event:{topic}", type_, topic)
        for topic, type_ in TYPE_OF_TOPIC.items()
    }
    return files | {"topic.schema.json": _document("topic-file", TopicFile, None)}


def _document(name: str, type_: type[msgspec.Struct], topic: str | None) -> str:
    """One schema as text, its root in place and everything it names under `$defs`."""
    _, structs = msgspec.json.schema_components([type_], ref_template="#/$defs/{name}")
    for struct, refinement in _REFINEMENTS.items():
        if struct in structs:
            _refine(structs[struct], refinement)
    named: dict[str, Any] = {}
    # An output leaves out what it does not have; an input may also say null.
    absent_is_null = topic is None or topic in INPUT_OF_TOPIC
    root = _tidy(structs.pop(type_.__name__), named, absent_is_null)
    definitions = {key: _tidy(value, named, absent_is_null) for key, value in structs.items()}
    definitions |= named
    schema = {"$schema": DIALECT, "$id": f"urn:shipclock:{name}", **root}
    if definitions:
        schema["$defs"] = dict(sorted(definitions.items()))
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _refine(schema: dict[str, Any], refinement: dict[str, Any]) -> None:
    for field, limits in refinement.get("properties", {}).items():
        schema["properties"][field].update(limits)
    schema.update({key: value for key, value in refinement.items() if key != "properties"})


def _tidy(schema: Any, named: dict[str, Any], absent_is_null: bool) -> Any:
    """Refer to named types, unwrap docstrings, and drop null where absence is the only way."""
    if isinstance(schema, list):
        return [_tidy(item, named, absent_is_null) for item in schema]
    if not isinstance(schema, dict):
        return schema
    for name, definition in _NAMED.items():
        if schema == definition:
            named[name] = {"title": name, **definition}
            return {"$ref": f"#/$defs/{name}"}
    if {"type": "null"} in schema.get("anyOf", ()) and not absent_is_null:
        (only,) = (option for option in schema["anyOf"] if option != {"type": "null"})
        return _tidy(only, named, absent_is_null)
    tidied = {key: _tidy(value, named, absent_is_null) for key, value in schema.items()}
    if isinstance(tidied.get("description"), str):
        tidied["description"] = inspect.cleandoc(tidied["description"])
    return tidied
