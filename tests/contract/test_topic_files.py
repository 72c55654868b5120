"""Topic files say what they must; every guard is also seen to fail."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from streams.core.facts.inputs import INPUT_TOPICS
from streams.topics import TopicFile, TopicsError, catalog, load_topics, schemas_dir
from streams.topics.schemas import TYPE_OF_TOPIC
from tests.contract import guards

FILES = list(load_topics().values())
NAMES = {
    "input": INPUT_TOPICS,
    "output": set(TYPE_OF_TOPIC) - set(INPUT_TOPICS),
    "internal": (
        "shop-violations",
        "frontier-marks",
        "orders-changelog",
        "shops-changelog",
        "resent-letters",
    ),
}


def changed(name: str, **fields: object) -> list[TopicFile]:
    """All topic files, one of them changed."""
    return [msgspec.structs.replace(f, **fields) if f.topic == name else f for f in FILES]


def test_topics_are_those_of_the_code() -> None:
    """Every topic has one file, with the direction the code gives it."""
    assert guards.wrong_names(FILES, NAMES) == []


def test_a_missing_or_strange_topic_is_seen() -> None:
    """The guard complains about a topic without file and about a file without topic."""
    assert guards.wrong_names(FILES[1:], NAMES)
    assert guards.wrong_names(changed("timeout", topic="time-out"), NAMES)
    assert guards.wrong_names(changed("timeout", direction="input"), NAMES)


def test_nothing_is_orphaned() -> None:
    """Each schema and example directory belongs to a topic, and each one named is there."""
    assert guards.orphans(FILES, schemas_dir()) == []


def test_an_orphan_is_seen(tmp_path: Path) -> None:
    """The guard complains about strays, about names of nothing and about empty directories."""
    copy = Path(shutil.copytree(schemas_dir(), tmp_path / "schemas"))
    (copy / "events/order-lost.schema.json").touch()
    (copy / "examples/order-lost/valid").mkdir(parents=True)
    shutil.rmtree(copy / "examples/penalty/invalid")
    for example in (copy / "examples/timeout/valid").iterdir():
        example.unlink()
    complaints = guards.orphans(FILES, copy)
    assert [complaint.split(":")[0] for complaint in complaints] == [
        "events/order-lost.schema.json",
        "examples/order-lost/valid",
        "examples/penalty/invalid",
        "examples/timeout/valid",
    ]


def test_topics_for_others_have_schema_and_examples() -> None:
    """Inputs and outputs have a schema and examples of both kinds, internal topics none."""
    assert guards.incomplete(FILES) == []


def test_a_topic_without_schema_is_seen() -> None:
    """The guard complains about a missing schema, a missing example and a needless schema."""
    assert guards.incomplete(changed("timeout", schema=None))
    assert guards.incomplete(changed("timeout", examples=["examples/timeout/valid"]))
    assert guards.incomplete(changed("orders-changelog", schema="events/timeout.schema.json"))


def test_no_record_is_deleted_before_it_is_read() -> None:
    """What carries old event times, or is compacted, is never deleted by time."""
    assert guards.lossy_retention(FILES) == []


def test_lossy_retention_is_seen() -> None:
    """The guard complains about an input or a changelog with a time limit."""
    assert guards.lossy_retention(changed("first-scan", retention="7d"))
    assert guards.lossy_retention(changed("orders-changelog", retention="365d"))
    assert guards.lossy_retention(changed("shop-violations", timestamps="producer"))


def test_co_partitioned_topics_have_equal_counts() -> None:
    """Inputs and their changelog, the shops stage's topics, and outputs form even groups."""
    assert guards.ungrouped(FILES) == []


def test_uneven_groups_are_seen() -> None:
    """The guard complains about another count and about a topic outside its group."""
    assert guards.ungrouped(changed("first-scan", partitions=6))
    assert guards.ungrouped(changed("shops-changelog", co_partitioned=None))
    assert guards.ungrouped(changed("orders-changelog", co_partitioned="shops"))


def test_a_dead_letter_holds_the_largest_input() -> None:
    """A refused record fits into the dead-letter topic, whole and in base64."""
    assert guards.narrow_dead_letter(FILES) == []


def test_a_narrow_dead_letter_topic_is_seen() -> None:
    """The guard complains when an input grows and the dead-letter topic does not."""
    assert guards.narrow_dead_letter(changed("exemption-granted", max_message="16MiB"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.topic)
def test_settings_have_kafkas_names_and_units(file: TopicFile) -> None:
    """Retention and size reach the broker in milliseconds and bytes, and are always explicit."""
    config = file.config
    assert config["cleanup.policy"] == file.cleanup
    days = file.retention.removesuffix("d")
    assert config["retention.ms"] == (str(int(days) * 86_400_000) if days.isdigit() else "-1")
    assert config["max.message.bytes"] == str(int(file.max_message[:-3]) * 2**20)
    by_producer = file.direction == "input"
    assert config["message.timestamp.type"] == ("CreateTime" if by_producer else "LogAppendTime")


def topic_schema_complaints(document: object) -> list[str]:
    """Validate a topic file's content."""
    schema = json.loads((schemas_dir() / "topic.schema.json").read_text())
    return [error.message for error in Draft202012Validator(schema).iter_errors(document)]


@pytest.mark.parametrize("topic", [file.topic for file in FILES])
def test_topic_files_fit_their_schema(topic: str) -> None:
    """Every topic file validates, as an editor would check it."""
    text = (schemas_dir() / f"topics/{topic}.yaml").read_text()
    assert topic_schema_complaints(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"retentoin": "7d"},
        {"retention_why": ""},
        {"retention_why": None},
        {"retention": "forever"},
        {"retention": "-1"},
        {"cleanup": "Compact"},
        {"partitions": 0},
        {"max_message": "1MB"},
        {"settings": {"segment.ms": 1}},
        {"topic": "Order_Paid"},
        {"direction": "sideways"},
        {"co_partitioned": "everything"},
    ],
    ids=str,
)
def test_a_wrong_topic_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """A misspelt, missing or senseless field is refused by the schema and by the program."""
    document = yaml.safe_load((schemas_dir() / "topics/order-paid.yaml").read_text()) | change
    document = {key: value for key, value in document.items() if value is not None}
    assert topic_schema_complaints(document)
    path = tmp_path / "order-paid.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(TopicsError, match=r"^order-paid\.yaml: "):
        load_topics(tmp_path)


@pytest.mark.parametrize("text", ["topic: [", "\x00", "- a list", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """Broken YAML is one clear error that names the file."""
    (tmp_path / "order-paid.yaml").write_text(text)
    with pytest.raises(TopicsError, match=r"^order-paid\.yaml: "):
        load_topics(tmp_path)


def test_a_file_has_the_name_of_its_topic(tmp_path: Path) -> None:
    """A copied file with the old topic name in it is refused."""
    shutil.copy(schemas_dir() / "topics/order-paid.yaml", tmp_path / "first-scan.yaml")
    with pytest.raises(TopicsError, match="describes the topic order-paid"):
        load_topics(tmp_path)


def test_no_files_at_all_is_an_error(tmp_path: Path) -> None:
    """An installation without topic files says so."""
    with pytest.raises(TopicsError, match="no topic files"):
        load_topics(tmp_path)


def test_an_installed_package_reads_its_own_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy inside the package is found first, else the checkout's folder."""
    package = tmp_path / "streams"
    monkeypatch.setattr(catalog, "__file__", str(package / "topics" / "catalog.py"))
    assert schemas_dir() == tmp_path / "schemas"
    (package / "_schemas").mkdir(parents=True)
    assert schemas_dir() == package / "_schemas"
