import inspect
import re

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streams.kafka.prefixed import PrefixedAdmin, PrefixedConsumer, PrefixedProducer
from tests.tidy.rules import PACKAGE

WITHOUT_TOPICS = {
    "start", "stop", "close", "flush", "create_batch", "begin_transaction", "commit_transaction",
    "abort_transaction", "transaction", "describe_cluster", "describe_consumer_groups",
    "list_consumer_groups", "find_coordinator", "unsubscribe",
    # It calls `send`.
    "send_and_wait",
}  # fmt: skip


@pytest.mark.parametrize(
    ("plain", "prefixed"),
    [
        (AIOKafkaConsumer, PrefixedConsumer),
        (AIOKafkaProducer, PrefixedProducer),
        (AIOKafkaAdminClient, PrefixedAdmin),
    ],
)
def test_what_the_product_calls_is_translated(plain: type, prefixed: type) -> None:
    """A method that names topics and is called somewhere has a translation."""
    methods = {name for name, _ in inspect.getmembers(plain, inspect.isfunction) if name[0] != "_"}
    left = methods - WITHOUT_TOPICS - set(vars(prefixed))
    sources = "".join(
        path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "prefixed.py"
    )
    calls = set(re.findall(r"(?:consumer|producer|admin|_ends)\.(\w+)\(", sources))
    assert left & calls == set()
