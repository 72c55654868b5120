"""Kafka's access rights: what a client needs, and which of it a refusal says is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from aiokafka import errors as kafka
from aiokafka.protocol.metadata import MetadataRequest

from streams.kafka.diagnosis import Finding
from streams.kafka.topic_ids import TopicIdsRequest

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient

Resource = Literal["topic", "group", "transactional-id", "cluster"]
Operation = Literal["Read", "Write", "Describe", "DescribeConfigs", "Create", "Delete"]

_REFUSALS: dict[type[BaseException], Resource] = {
    kafka.TopicAuthorizationFailedError: "topic",
    kafka.GroupAuthorizationFailedError: "group",
    kafka.TransactionalIdAuthorizationFailed: "transactional-id",
    kafka.ClusterAuthorizationFailedError: "cluster",
}
HINT = "add the ACL; `shipclock topics acls` lists all that are needed"


OPERATION_CODES: dict[Operation, int] = {
    "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10,
}  # fmt: skip
"""Kafka's numbers, which are also those of the bits that tell what a user may do."""


# By Kafka's number of their coordinator's kind.
_COORDINATED: tuple[tuple[Resource, type[kafka.KafkaError]], ...] = (
    ("group", kafka.GroupAuthorizationFailedError),
    ("transactional-id", kafka.TransactionalIdAuthorizationFailed),
)


class Acl(NamedTuple):
    """One right on a resource, by its name in Kafka."""

    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False
    """Whether it holds for all names that begin with this one."""

    def covers(self, resource: Resource, name: str) -> bool:
        """Tell whether it is about this resource."""
        same = name.startswith(self.name) if self.prefixed else name == self.name
        return self.resource == resource and same


def missing(exc: BaseException, needs: Sequence[Acl]) -> Finding | None:
    """Say which rights the cluster misses; None if an exception is not about rights."""
    resource = next((of for kind, of in _REFUSALS.items() if isinstance(exc, kind)), None)
    return None if resource is None else lacking(resource, _names(exc), needs)


def lacking(resource: Resource, names: Iterable[str], needs: Sequence[Acl]) -> Finding:
    """Say that the needed rights on these resources are missing.

    Where a refusal names none, all that are needed of their kind are named: one of them is missing.
    """
    named = sorted(names) or sorted({acl.name for acl in needs if acl.resource == resource})
    wanted = {acl.operation for acl in needs for name in named if acl.covers(resource, name)}
    rights = f"right{'s' if len(wanted) > 1 else ''} {' and '.join(sorted(wanted))}".strip()
    kind = resource.replace("-", " ")
    what = f" {', '.join(named)}" if named else ""
    return Finding(f"this user lacks the {rights} on {kind}{what}", HINT, True)


class Rights(NamedTuple):
    """What this user may not do of what is needed."""

    lacks: list[Acl]
    unknown: list[str]
    """Topics of which nothing can be said: they do not exist."""


async def lacking_rights(admin: AIOKafkaAdminClient, needs: Sequence[Acl]) -> Rights:
    """Compare the rights this user has with those needed.

    Of groups and transactional ids Kafka tells only whether this user may know of them, which any
    right on them implies.

    Raises:
        KafkaError: The cluster did not answer.
    """
    lacks, unknown = await _lacking_on_topics(admin, needs)
    for kind, (resource, refusal) in enumerate(_COORDINATED):
        for acl in needs:
            if acl.resource == resource:
                try:
                    await admin.find_coordinator(acl.name, kind)
                except refusal:
                    lacks.append(acl)
                except kafka.GroupCoordinatorNotAvailableError:
                    # On a new cluster; it would have refused first.
                    pass
    return Rights(lacks, unknown)


async def _lacking_on_topics(
    admin: AIOKafkaAdminClient, needs: Sequence[Acl]
) -> tuple[list[Acl], list[str]]:
    wanted = [acl for acl in needs if acl.resource == "topic"]
    names = sorted({acl.name for acl in wanted})
    try:
        answer = await admin._send_request(TopicIdsRequest(names))
    except kafka.IncompatibleBrokerVersion:
        # It does not tell rights.
        return [], names
    denied = kafka.TopicAuthorizationFailedError.errno
    allowed = {
        topic["name"]: 0 if topic["error_code"] == denied else topic["authorized_operations"]
        for topic in answer.to_object()["topics"]
        if topic["error_code"] in (0, denied)
    }
    lacks = [
        acl
        for acl in wanted
        if acl.name in allowed and not allowed[acl.name] >> OPERATION_CODES[acl.operation] & 1
    ]
    return lacks, [name for name in names if name not in allowed]


async def hidden_topics(admin: AIOKafkaAdminClient, names: Iterable[str]) -> set[str]:
    """Return which of these topics, by their names in Kafka, this user may not even see.

    In a list of all topics they are just not there, as topics are that do not exist.
    """
    asked = sorted(names)
    if not asked:
        return set()
    # By name, but so that a topic which does not exist is not created by it.
    request = MetadataRequest(asked, allow_auto_topic_creation=False)
    answer = await admin._send_request(request)
    denied = kafka.TopicAuthorizationFailedError.errno
    return {topic[1] for topic in answer.topics if topic[0] == denied}


def _names(exc: BaseException) -> list[str]:
    found = exc.args[0] if exc.args else ()
    if isinstance(found, str):
        # The name alone, or at the end of a sentence: "Unable to get coordinator id for NAME".
        return found.split()[-1:]
    return [str(name) for name in found] if isinstance(found, (set, frozenset, list, tuple)) else []
