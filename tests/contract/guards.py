"""What must hold between topic files, schemas and examples: functions to complaints."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from streams.topics import TopicFile


def wrong_names(files: Iterable[TopicFile], expected: Mapping[str, Iterable[str]]) -> list[str]:
    """Compare the topics of each direction with those the code knows."""
    described = {(file.direction, file.topic) for file in files}
    known = {(direction, topic) for direction, topics in expected.items() for topic in topics}
    return [f"{topic}: no {direction} topic of ours" for direction, topic in described - known] + [
        f"{topic}: no file for this {direction} topic" for direction, topic in known - described
    ]


def orphans(files: Iterable[TopicFile], directory: Path) -> list[str]:
    """Find schemas and examples that no topic file names, and names of nothing."""
    there = {f"events/{path.name}" for path in (directory / "events").iterdir()}
    there |= {f"examples/{path.parent.name}/{path.name}" for path in directory.glob("examples/*/*")}
    named = {name for file in files for name in (file.schema, *file.examples) if name}
    empty = {
        name
        for name in there & named
        if (directory / name).is_dir() and not any((directory / name).glob("*.json"))
    }
    return (
        [f"{name}: named by no topic file" for name in sorted(there - named)]
        + [f"{name}: does not exist" for name in sorted(named - there)]
        + [f"{name}: has no example" for name in sorted(empty)]
    )


def incomplete(files: Iterable[TopicFile]) -> list[str]:
    """Find public topics without a schema and examples of both kinds, and internal ones with."""
    found = []
    for file in files:
        contract = (file.schema, *file.examples)
        wanted: tuple[str | None, ...] = (
            f"events/{file.topic}.schema.json",
            f"examples/{file.topic}/valid",
            f"examples/{file.topic}/invalid",
        )
        if file.direction == "internal":
            wanted = (None,)
        if contract != wanted:
            found.append(f"{file.topic}: has {contract}, not {wanted}")
    return found


def lossy_retention(files: Iterable[TopicFile]) -> list[str]:
    """Find topics whose records a broker would delete too early."""
    found = []
    for file in files:
        if file.retention == "unlimited":
            continue
        if file.cleanup == "compact":
            found.append(f"{file.topic}: compaction keeps the last value: say unlimited")
        if file.timestamps == "producer":
            found.append(f"{file.topic}: old event times would be deleted unread: say unlimited")
    return found


def ungrouped(files: Iterable[TopicFile]) -> list[str]:
    """Find topics that are not in the group, or with the partition count, of their peers."""
    found = []
    counts: dict[str, int] = {}
    for file in files:
        group = file.co_partitioned
        internal = {"orders-changelog": "orders", "frontier-marks": None, "resent-letters": None}
        wanted = {
            "input": "orders",
            "output": None if file.topic == "dead-letter" else "shop-outputs",
            "internal": internal.get(file.topic, "shops"),
        }[file.direction]
        if group != wanted:
            found.append(f"{file.topic}: is co-partitioned with {group}, not {wanted}")
        if group and counts.setdefault(group, file.partitions) != file.partitions:
            found.append(
                f"{file.topic}: has {file.partitions} partitions, {group} have {counts[group]}"
            )
    return found


def narrow_dead_letter(files: Iterable[TopicFile]) -> list[str]:
    """Find out whether an input may be too large to be a dead letter, whole and in base64."""
    sizes = {file.topic: int(file.config["max.message.bytes"]) for file in files}
    inputs = [sizes[file.topic] for file in files if file.direction == "input"]
    needed = max(inputs) * 4 // 3 + 64 * 1024
    if sizes["dead-letter"] < needed:
        return [f"dead-letter: takes {sizes['dead-letter']} bytes, needs {needed}"]
    return []


def stale(generated: Mapping[str, str], directory: Path) -> list[str]:
    """Find generated schemas that are not what the types give now."""
    return [
        f"{name}: run `python -m streams.topics`"
        for name, text in generated.items()
        if not (directory / name).exists() or (directory / name).read_text() != text
    ]
