"""The topic files: `schemas/topics/*.yaml`, one a topic, read into typed values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from streams.core.errors import UserError

_UNITS_MS = {"h": 3_600_000, "d": 86_400_000}
_UNITS_BYTES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_LONGEST_MS = str(2**63 - 1)

TopicName = Annotated[
    str, Meta(pattern="^[a-z]+(-[a-z]+)*$", max_length=100, description="Kafka's topic name.")
]
Sentence = Annotated[str, Meta(min_length=20)]


class TopicsError(UserError):
    """Topics that cannot be used: which, why, and what to do."""


class TopicFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A topic as the broker must have it, and what its records are.

    The replication factor is no property of a topic but of a cluster: the command takes it.
    """

    topic: TopicName
    description: Sentence
    owner: Annotated[str, Meta(min_length=2, description="Who answers for its content.")]
    direction: Literal["input", "output", "internal"]
    key: Annotated[str, Meta(min_length=2, description="What a record's key holds.")]
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 12
    co_partitioned: Annotated[
        Literal["orders", "shops", "shop-outputs"] | None,
        Meta(description="Topics of one group need one partition count: equal keys meet."),
    ] = None
    timestamps: Annotated[
        Literal["producer", "broker"],
        Meta(
            description="Whose time a record carries: the producer's (event or sending time, "
            "however old) or that of the broker's append. Retention counts from it."
        ),
    ]
    cleanup: Literal["delete", "compact"]
    retention: Annotated[
        str,
        Meta(pattern="^(unlimited|[1-9][0-9]{0,4}[hd])$", description="Such as 30d or unlimited."),
    ]
    retention_why: Sentence
    max_message: Annotated[
        str,
        Meta(pattern="^[1-9][0-9]{0,3}(KiB|MiB)$", description="The largest record batch."),
    ] = "1MiB"
    settings: Annotated[
        dict[str, str], Meta(description="Further broker settings, as Kafka names them.")
    ] = {}
    schema: Annotated[
        str | None, Meta(description="Its values' JSON Schema; none for an internal topic.")
    ] = None
    examples: Annotated[
        list[str], Meta(description="Directories of values, those taken and those refused.")
    ] = []

    @property
    def config(self) -> dict[str, str]:
        """The topic's settings as Kafka names them, those equal to its defaults included."""
        config = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(_scaled(self.max_message, _UNITS_BYTES)),
            "retention.bytes": "-1",  # by time only: a busy day must not push out a quiet one
            "retention.ms": "-1",
        }
        if self.retention != "unlimited":
            config["retention.ms"] = str(_scaled(self.retention, _UNITS_MS))
        if self.timestamps == "producer":
            config["message.timestamp.type"] = "CreateTime"
            # Kafka refuses timestamps an hour ahead unless told; ours has a rule for them.
            config["message.timestamp.after.max.ms"] = _LONGEST_MS
            config["message.timestamp.before.max.ms"] = _LONGEST_MS
        else:
            config["message.timestamp.type"] = "LogAppendTime"
        return config | self.settings


def _scaled(text: str, units: dict[str, int]) -> int:
    number = text.rstrip("".join(units))
    return int(number) * units[text[len(number) :]]


def schemas_dir() -> Path:
    """Find `schemas/`: inside the installed package, else at the top of the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def load_topics(directory: Path | None = None) -> dict[str, TopicFile]:
    """Read all topic files by topic name, inputs first, then outputs, then internal ones.

    Raises:
        TopicsError: A file is wrong, or there are none.
    """
    directory = directory or schemas_dir() / "topics"
    topics = [_load(path) for path in sorted(directory.glob("*.yaml"))]
    if not topics:
        raise TopicsError(f"no topic files in {directory}", "install shipclock again")
    order = ("input", "output", "internal")
    return {t.topic: t for t in sorted(topics, key=lambda t: order.index(t.direction))}


def _load(path: Path) -> TopicFile:
    try:
        topic = msgspec.yaml.decode(path.read_bytes(), type=TopicFile)
    except msgspec.MsgspecError as error:
        raise TopicsError(f"{path.name}: {error}", "see schemas/topic.schema.json") from None
    if topic.topic != path.stem:
        raise TopicsError(f"{path.name}: describes the topic {topic.topic}", "rename the file")
    return topic
