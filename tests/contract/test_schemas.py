"""Event schemas come from the types, and agree with the decoder about every example."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from streams.codec.decode import Decoder, Refused
from streams.codec.encode import encode_value
from streams.core.facts import outputs
from streams.core.facts.inputs import INPUT_TOPICS, INPUTS
from streams.rulebook import load_rulebook
from streams.topics import schemas_dir
from streams.topics.schemas import TYPE_OF_TOPIC, generated_files
from tests.contract import guards

SCHEMAS = {
    topic: json.loads((schemas_dir() / f"events/{topic}.schema.json").read_text())
    for topic in TYPE_OF_TOPIC
}


def examples(kind: str) -> list[Any]:
    """All examples of a kind, as parameters (topic, content)."""
    paths = sorted((schemas_dir() / "examples").glob(f"*/{kind}/*.json"))
    return [
        pytest.param(
            path.parts[-3], json.loads(path.read_text()), id=f"{path.parts[-3]}/{path.stem}"
        )
        for path in paths
    ]


def decode(topic: str, value: dict[str, Any]) -> object:
    """Decode a value as the program would, its record's time being its own time."""
    rank = INPUT_TOPICS.index(topic)
    own_time = value.get(INPUTS[rank].own_time)
    timestamp = own_time if isinstance(own_time, int) else 1_700_000_000_000
    decoder = Decoder(load_rulebook(["douyin-first-scan"]))
    key = str(value.get("order_id")).encode()
    return decoder.decode(rank, key, json.dumps(value).encode(), timestamp)


def refusal(topic: str, value: object) -> Any:
    """Return the schema's most telling error, or None."""
    return best_match(Draft202012Validator(SCHEMAS[topic]).iter_errors(value))


def test_schemas_are_what_the_types_give() -> None:
    """The generated files are up to date."""
    assert guards.stale(generated_files(), schemas_dir()) == []


def test_a_stale_schema_is_seen(tmp_path: Path) -> None:
    """The guard complains about a changed and about a missing file."""
    copy = Path(shutil.copytree(schemas_dir(), tmp_path / "schemas"))
    (copy / "events/timeout.schema.json").write_text("{}")
    (copy / "events/penalty.schema.json").unlink()
    assert len(guards.stale(generated_files(), copy)) == 2


def test_every_output_type_has_a_topic() -> None:
    """No record type is left without a schema."""
    assert set(get_args(outputs.Value)) <= set(TYPE_OF_TOPIC.values())


@pytest.mark.parametrize("topic", TYPE_OF_TOPIC)
def test_schemas_are_valid_and_say_what_they_are(topic: str) -> None:
    """A schema has its dialect, a host-free id, a title, a description, and only what it uses."""
    schema = SCHEMAS[topic]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:shipclock:event:{topic}"
    assert schema["title"]
    assert len(schema["description"]) > 20
    text = json.dumps(schema)
    assert all(f'"#/$defs/{name}"' in text for name in schema["$defs"])


@pytest.mark.parametrize(("topic", "value"), examples("valid"))
def test_valid_examples_are_taken(topic: str, value: dict[str, Any]) -> None:
    """A valid example fits its schema, and the decoder or the type takes it."""
    assert refusal(topic, value) is None
    if topic in INPUT_TOPICS:
        decode(topic, value)
    else:
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        record = msgspec.convert(value, TYPE_OF_TOPIC[topic])
        assert encode_value(record) == canonical.encode()


@pytest.mark.parametrize(("topic", "example"), examples("invalid"))
def test_invalid_examples_are_refused(topic: str, example: dict[str, Any]) -> None:
    """An invalid example is refused where and why it says, by schema and decoder alike."""
    error = refusal(topic, example["value"])
    assert error is not None
    assert error.json_path == example["path"]
    assert example["reason"] == "schema"
    if topic in INPUT_TOPICS:
        with pytest.raises(Refused) as refused:
            decode(topic, example["value"])
        assert refused.value.reason == example["reason"]
        if example["path"] != "$":
            assert f"`{example['path']}`" in refused.value.detail


def test_an_example_in_the_wrong_folder_is_seen() -> None:
    """The checks tell valid from invalid: a valid value is no refusal, a broken one is."""
    value = json.loads((schemas_dir() / "examples/first-scan/valid/an-hour-late.json").read_text())
    assert refusal("first-scan", value) is None
    assert refusal("first-scan", value | {"scanned_at": "now"}).json_path == "$.scanned_at"
