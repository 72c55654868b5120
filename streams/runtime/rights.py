"""The rights (ACLs) that each part of the product needs on a cluster that asks for them.

They follow from the stages and the topic files, so that a new topic is listed by itself. Kafka
takes Describe as granted with Read or Write, so it stands only where it is all that is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streams.core.facts.inputs import INPUT_TOPICS
from streams.engine.evidence import DEAD_LETTERS, SHOP_OUTPUTS
from streams.engine.records import (
    FRONTIER_MARKS,
    ORDERS_CHANGELOG,
    SHOP_VIOLATIONS,
    SHOPS_CHANGELOG,
)
from streams.engine.resent import RESENT_LETTERS
from streams.kafka.acls import Acl
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import CREATE_RIGHTS
from streams.runtime.stage import Stage
from streams.runtime.stages import product_stages
from streams.runtime.unreadable import skips_group
from streams.topics.catalog import load_topics

READ = (ORDERS_CHANGELOG, SHOPS_CHANGELOG, DEAD_LETTERS, *SHOP_OUTPUTS)
"""The topics that hold what can be said of an order, besides `resent-letters`."""
PUBLISHER_ID = "shipclock-publish-"
"""What the transactional ids of the publishing commands begin with."""


def worker_rights(connection: Connection, app_id: str, stages: Sequence[Stage]) -> list[Acl]:
    """List what a worker needs: its stages' topics, their groups and transactions."""
    found: list[Acl] = []
    for stage in stages:
        name = f"{app_id}-{stage.name}"
        read, written = (*stage.inputs, stage.changelog), (*stage.outputs, stage.changelog)
        found += [Acl("topic", connection.topic_prefix + topic, "Read") for topic in read]
        found += [Acl("topic", connection.topic_prefix + topic, "Write") for topic in written]
        found.append(Acl("group", name, "Read"))
        # One for each partition.
        found.append(Acl("transactional-id", f"{name}-", "Write", prefixed=True))
    found.append(Acl("group", skips_group(app_id), "Describe"))
    if any(FRONTIER_MARKS in stage.outputs for stage in stages):
        # Both stages write to it, and a reader of its own reads it for both.
        found.append(Acl("topic", connection.topic_prefix + FRONTIER_MARKS, "Read"))
    seen = {acl.name for acl in found}
    counted = (connection.topic_prefix + stage.marked_by for stage in stages if stage.marked_by)
    found += [Acl("topic", topic, "Describe") for topic in counted if topic not in seen]
    return list(dict.fromkeys(found))


def publishing_rights(connection: Connection) -> list[Acl]:
    """List what `send`, `exempt` and `appeal` need."""
    topics = [Acl("topic", connection.topic_prefix + topic, "Write") for topic in INPUT_TOPICS]
    return [*topics, Acl("transactional-id", PUBLISHER_ID, "Write", prefixed=True)]


def resending_rights(connection: Connection) -> list[Acl]:
    """List what `dead-letters resend` needs besides reading what was sent again."""
    mark = Acl("topic", connection.topic_prefix + RESENT_LETTERS, "Write")
    return [*publishing_rights(connection), mark]


def reading_rights(connection: Connection, topics: Iterable[str]) -> list[Acl]:
    """List what reading these topics without a group needs."""
    return [Acl("topic", connection.topic_prefix + topic, "Read") for topic in topics]


def command_rights(connection: Connection, app_id: str) -> list[Acl]:
    """List what explain, dead-letters, send, exempt and appeal need together."""
    return [
        *reading_rights(connection, [*READ, RESENT_LETTERS]),
        *resending_rights(connection),
        # `send` asks whether workers live, `dead-letters skip` says what they may skip.
        Acl("group", f"{app_id}-orders", "Describe"),
        *skipping_rights(connection, app_id),
    ]


def skipping_rights(connection: Connection, app_id: str) -> list[Acl]:
    """List what `dead-letters skip` needs."""
    read = reading_rights(connection, [*INPUT_TOPICS, SHOP_VIOLATIONS])
    return [*read, Acl("group", skips_group(app_id), "Read")]


def rights_of(part: str, connection: Connection, app_id: str, group: str) -> list[Acl]:
    """List what a part of the product needs, by the name it has in `shipclock topics acls`.

    Args:
        group: The consumer group of who reads the outputs.
    """
    files = load_topics().values()
    if part == "worker":
        # Not at the top: a worker gets its rules from who starts it.
        from streams.rulebook import load_rulebook

        # Which topics the stages have does not depend on the rules.
        stages = product_stages(load_rulebook(["douyin-first-scan"]), app_id)
        return worker_rights(connection, app_id, stages)
    if part == "commands":
        return command_rights(connection, app_id)
    if part == "topics":
        names = [connection.topic_prefix + file.topic for file in files]
        return [Acl("topic", name, operation) for name in names for operation in CREATE_RIGHTS]
    if part == "producer":
        return [acl for acl in publishing_rights(connection) if acl.resource == "topic"]
    of_topics = [file.topic for file in files if file.direction == "output"]
    return [*reading_rights(connection, of_topics), Acl("group", group, "Read")]
