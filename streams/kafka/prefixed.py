"""Clients for a cluster on which all topic names begin with a prefix.

The one place where a topic's name in the product and its name in Kafka are translated: who holds
such a client uses the product's names throughout. Only an exception that aiokafka raises about
rights keeps Kafka's name, which is the one that an ACL needs; and so does `topic` of a record that
was read, where the partition it was read from has the product's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.errors import OffsetOutOfRangeError

_Value = TypeVar("_Value")


class _Names:
    """Translates names: `out` to Kafka's, `back` to the product's."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def out(self, topic: str) -> str:
        return self._prefix + topic

    def back(self, topic: str) -> str:
        return topic.removeprefix(self._prefix)

    def owns(self, topic: str) -> bool:
        return topic.startswith(self._prefix)

    def tp_out(self, tp: TopicPartition) -> TopicPartition:
        return TopicPartition(self.out(tp.topic), tp.partition)

    def tp_back(self, tp: TopicPartition) -> TopicPartition:
        return TopicPartition(self.back(tp.topic), tp.partition)

    def all_out(self, tps: Iterable[TopicPartition]) -> list[TopicPartition]:
        return [self.tp_out(tp) for tp in tps]

    def keys_out(self, of: Mapping[TopicPartition, _Value]) -> dict[TopicPartition, _Value]:
        return {self.tp_out(tp): value for tp, value in of.items()}

    def keys_back(self, of: Mapping[TopicPartition, _Value]) -> dict[TopicPartition, _Value]:
        return {self.tp_back(tp): value for tp, value in of.items()}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, names: _Names, listener: ConsumerRebalanceListener) -> None:
        self._names = names
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._listener.on_partitions_revoked({self._names.tp_back(tp) for tp in revoked})

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._listener.on_partitions_assigned({self._names.tp_back(tp) for tp in assigned})


class PrefixedConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer by the product's names."""

    def __init__(self, prefix: str, *topics: str, **options: Any) -> None:
        self._names = _Names(prefix)
        self._assigned: Collection[TopicPartition] | None = None
        self._assignment: frozenset[TopicPartition] = frozenset()
        super().__init__(*map(self._names.out, topics), **options)

    def subscribe(self, topics: Iterable[str], listener: ConsumerRebalanceListener) -> None:
        super().subscribe(
            [*map(self._names.out, topics)], listener=_Listener(self._names, listener)
        )

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        super().assign(self._names.all_out(partitions))

    def assignment(self) -> frozenset[TopicPartition]:
        # Asked for every batch, and the client makes another set when it has changed.
        assigned = super().assignment()
        if assigned is not self._assigned:
            self._assigned = assigned
            self._assignment = frozenset(map(self._names.tp_back, assigned))
        return self._assignment

    def seek(self, partition: TopicPartition, offset: int) -> None:
        super().seek(self._names.tp_out(partition), offset)

    def pause(self, *partitions: TopicPartition) -> None:
        super().pause(*self._names.all_out(partitions))

    def resume(self, *partitions: TopicPartition) -> None:
        super().resume(*self._names.all_out(partitions))

    def paused(self) -> set[TopicPartition]:
        return set(map(self._names.tp_back, super().paused()))

    async def position(self, partition: TopicPartition) -> int:
        return int(await super().position(self._names.tp_out(partition)))

    def highwater(self, partition: TopicPartition) -> int | None:
        found: int | None = super().highwater(self._names.tp_out(partition))
        return found

    def last_poll_timestamp(self, partition: TopicPartition) -> int | None:
        found: int | None = super().last_poll_timestamp(self._names.tp_out(partition))
        return found

    async def beginning_offsets(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        found = await super().beginning_offsets(self._names.all_out(partitions))
        return self._names.keys_back(found)

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return self._names.keys_back(await super().end_offsets(self._names.all_out(partitions)))

    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, Any]:
        found = await super().offsets_for_times(self._names.keys_out(timestamps))
        return self._names.keys_back(found)

    async def committed(self, partition: TopicPartition) -> int | None:
        found: int | None = await super().committed(self._names.tp_out(partition))
        return found

    async def commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        await super().commit(self._names.keys_out(offsets))

    async def getmany(
        self, *partitions: TopicPartition, **options: Any
    ) -> dict[TopicPartition, Any]:
        try:
            found = await super().getmany(*self._names.all_out(partitions), **options)
        except OffsetOutOfRangeError as error:
            raise OffsetOutOfRangeError(self._names.keys_back(error.args[0])) from error
        return self._names.keys_back(found)


class PrefixedProducer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer by the product's names."""

    def __init__(self, prefix: str, **options: Any) -> None:
        self._names = _Names(prefix)
        super().__init__(**options)

    async def partitions_for(self, topic: str) -> Any:
        return await super().partitions_for(self._names.out(topic))

    async def send(self, topic: str, *arguments: Any, **options: Any) -> asyncio.Future[Any]:
        sent = await super().send(self._names.out(topic), *arguments, **options)
        return self._named(sent)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        return self._named(
            await super().send_batch(batch, self._names.out(topic), partition=partition)
        )

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, Any], group_id: str
    ) -> None:
        await super().send_offsets_to_transaction(self._names.keys_out(offsets), group_id)

    def _named(self, sent: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Give the place of a record by the product's names."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answer(done: asyncio.Future[Any]) -> None:
            if answered.done():
                return
            if done.cancelled():
                answered.cancel()
            elif error := done.exception():
                answered.set_exception(error)
            elif (place := done.result()) is None:
                answered.set_result(None)
            else:
                tp = self._names.tp_back(place.topic_partition)
                answered.set_result(place._replace(topic=tp.topic, topic_partition=tp))

        sent.add_done_callback(answer)
        return answered


class PrefixedAdmin(AIOKafkaAdminClient):  # type: ignore[misc]
    """An administrating client by the product's names; it sees no topics without the prefix."""

    def __init__(self, prefix: str, **options: Any) -> None:
        self._names = _Names(prefix)
        super().__init__(**options)

    async def list_topics(self) -> list[str]:
        return [topic["topic"] for topic in await self.describe_topics()]

    async def describe_topics(self, topics: list[str] | None = None) -> list[dict[str, Any]]:
        asked = None if topics is None else [*map(self._names.out, topics)]
        found: list[dict[str, Any]] = await super().describe_topics(asked)
        return [
            {**topic, "topic": self._names.back(topic["topic"])}
            for topic in found
            if self._names.owns(topic["topic"])
        ]

    async def create_topics(self, new_topics: Iterable[NewTopic], **options: Any) -> Any:
        renamed = [
            NewTopic(
                self._names.out(new.name), new.num_partitions, new.replication_factor,
                new.replica_assignments, new.topic_configs,
            )
            for new in new_topics
        ]  # fmt: skip
        response = await super().create_topics(renamed, **options)
        response.topic_errors = [
            (self._names.back(name), *rest) for name, *rest in response.topic_errors
        ]
        return response

    async def delete_topics(self, topics: Iterable[str], **options: Any) -> Any:
        return await super().delete_topics([*map(self._names.out, topics)], **options)

    async def describe_configs(self, resources: Iterable[ConfigResource], **options: Any) -> Any:
        for resource in (asked := list(resources)):
            resource.name = self._names.out(resource.name)
        responses = await super().describe_configs(asked, **options)
        for response in responses:
            response.resources = [
                (code, message, kind, self._names.back(name), entries)
                for code, message, kind, name, entries in response.resources
            ]
        return responses

    async def list_consumer_group_offsets(
        self, group_id: str, *, partitions: Iterable[TopicPartition] | None = None, **options: Any
    ) -> dict[TopicPartition, Any]:
        asked = None if partitions is None else self._names.all_out(partitions)
        found = await super().list_consumer_group_offsets(group_id, partitions=asked, **options)
        return {
            self._names.tp_back(tp): value
            for tp, value in found.items()
            if self._names.owns(tp.topic)
        }

    async def delete_records(
        self, records_to_delete: Mapping[TopicPartition, Any], **options: Any
    ) -> dict[TopicPartition, int]:
        found = await super().delete_records(self._names.keys_out(records_to_delete), **options)
        return self._names.keys_back(found)
