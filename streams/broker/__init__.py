"""The embedded broker: a real one-node Apache Kafka, without Docker or an installed Java."""

from streams.broker.embedded import BrokerStatus, EmbeddedBroker, broker_status, stop_broker
from streams.broker.errors import BrokerError
from streams.broker.folders import home_folder
from streams.broker.progress import Progress

__all__ = [
    "BrokerError",
    "BrokerStatus",
    "EmbeddedBroker",
    "Progress",
    "broker_status",
    "home_folder",
    "stop_broker",
]
