"""How to reach a Kafka cluster, and the only place that makes clients of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # When a client is made, and not before: a command that only checks its usage needs none.
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster's address and what it asks of a client.

    What depends on the use of a client (its group, its timeouts, what it may read) is given by the
    caller, by aiokafka's names.
    """

    bootstrap: str = DEFAULT_BOOTSTRAP
    """Addresses HOST:PORT, separated by commas."""

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """Make a consumer, not started yet."""
        from aiokafka import AIOKafkaConsumer

        return AIOKafkaConsumer(*topics, **self._options(), **options)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """Make a producer, not started yet."""
        from aiokafka import AIOKafkaProducer

        return AIOKafkaProducer(**self._options(), **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        """Make a client that administrates, not started yet."""
        from aiokafka.admin import AIOKafkaAdminClient

        return AIOKafkaAdminClient(**self._options(), **options)

    def _options(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap}
