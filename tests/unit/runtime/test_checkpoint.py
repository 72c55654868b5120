"""What a transaction's failure is called, against a client that fails in every way it can."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from aiokafka.errors import (
    IllegalOperation,
    InvalidTxnState,
    KafkaError,
    KafkaTimeoutError,
    ProducerFenced,
)

from streams.engine.records import Checkpoint, OutRecord
from streams.kafka.connection import Connection
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage

STAGE = Stage(
    name="bench", inputs=("in",), outputs=("out",), changelog="log", marked_by=None,
    new_task=lambda partition, counts: None,  # type: ignore[arg-type, return-value]
)  # fmt: skip
TWO_BATCHES = Checkpoint(
    [OutRecord("out", None, b"1", (), partition) for partition in (0, 1)], {}, [], more=False
)


def wrapped(cause: Exception) -> KafkaError:
    """Make what the client's sender raises for an answer it does not expect."""
    error = KafkaError("Unexpected error during batch delivery")
    error.__cause__ = cause
    return error


class Client:
    """A producer that refuses the second batch, and tells the first one why."""

    def __init__(self, told: Exception | None, raised: Exception) -> None:
        self._told = told
        self._raised = raised
        self._sent = 0

    async def begin_transaction(self) -> None:
        """Begin."""

    def create_batch(self) -> Any:
        """Return a batch that takes everything."""
        return type("Batch", (), {"append": lambda self, **_: True, "record_count": lambda _: 1})()

    async def send_batch(self, *_: Any, **__: Any) -> asyncio.Future[object]:
        """Take the first batch only."""
        self._sent += 1
        if self._sent == 2:
            raise self._raised
        future = asyncio.get_running_loop().create_future()
        if self._told is not None:
            future.set_exception(self._told)
        return future


async def failing(told: Exception | None, raised: Exception) -> None:
    """Commit with such a client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "producer", lambda _, **__: Client(told, raised))
        transactions = Transactions(Settings(), STAGE, 0, {"out": 2, "log": 1}, KeyPartitioner())
    await transactions.commit(TWO_BATCHES)


def test_the_client_never_sends_a_request_again_for_want_of_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit that waits while its repeat is carried out would end the next transaction."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(Connection, "producer", lambda _, **options: given.update(options))
    Transactions(Settings(), STAGE, 0, {}, KeyPartitioner())
    # The life ends when the transaction has taken that long, and its epoch with it.
    assert given["request_timeout_ms"] >= Settings().transaction_timeout_ms


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        (None, ProducerFenced()),
        (None, InvalidTxnState()),
        (None, IllegalOperation("Not in transaction")),
        (None, wrapped(InvalidTxnState())),
        (wrapped(InvalidTxnState()), copy.copy(KafkaError("Unexpected error"))),
        (InvalidTxnState(), KafkaError("Unexpected error")),
    ],
)
async def test_fenced_is_told_whatever_the_client_calls_it(
    told: Exception | None, raised: Exception
) -> None:
    """The reader of the log must learn that another worker took over."""
    with pytest.raises(ProducerFenced):
        await failing(told, raised)


@pytest.mark.parametrize(
    ("told", "raised"), [(None, KafkaError("away")), (KafkaError("gone"), KafkaTimeoutError())]
)
async def test_other_failures_stay_what_they_are(told: Exception | None, raised: Exception) -> None:
    """Nobody is fenced where the broker only went away."""
    with pytest.raises(type(raised)) as found:
        await failing(told, raised)
    assert not isinstance(found.value, ProducerFenced)
