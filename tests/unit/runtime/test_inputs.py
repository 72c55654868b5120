"""Fetching by a client of which only its public parts are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata

from streams.engine.records import Columns
from streams.runtime import inputs
from streams.runtime.lean import Unread
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage

GOOD, BAD = TopicPartition("in", 0), TopicPartition("in", 1)
RECORD = SimpleNamespace(offset=4, timestamp=1, key=b"k", value=b"v")


class Client:
    """Stumbles over one partition whenever that is read, and hands out nothing then."""

    error: Exception = UnicodeDecodeError("utf-8", b"\xf6", 0, 1, "why")

    def __init__(self, **_: Any) -> None: ...

    def assignment(self) -> set[TopicPartition]:
        return {GOOD, BAD}

    async def position(self, tp: TopicPartition) -> int:
        return 7

    async def getmany(self, *places: TopicPartition, timeout_ms: int) -> dict[Any, list[Any]]:
        if BAD in (places or (GOOD, BAD)):
            raise self.error
        return {GOOD: [RECORD]}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> inputs.Inputs:
    """Give a stage's inputs over a client whose version is not known."""
    monkeypatch.setattr(inputs, "lean", lambda: False)

    class Connection:
        bootstrap = "nowhere:1"
        consumer = admin = Client

    settings = Settings(connection=Connection())  # type: ignore[arg-type]
    return inputs.Inputs(settings, Stage("bench", ("in",), (), "changelog", (), lambda *_: None))  # type: ignore[arg-type, return-value]


async def test_client_that_stumbles_is_asked_partition_by_partition(plain: inputs.Inputs) -> None:
    """The others go on; which bytes it was is not known, so nothing can be skipped."""
    fetched = await plain.fetch()
    assert fetched.records == {GOOD: Columns([4], [1], [b"k"], [b"v"])}
    assert fetched.unread == {BAD: Unread(7, 7, 0, b"", fetched.unread[BAD].detail)}
    assert "UnicodeDecodeError" in fetched.unread[BAD].detail


async def test_what_was_taken_out_of_others_is_not_lost(
    plain: inputs.Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the client moves a position when it takes records out, whatever it raises then."""
    waiting = {GOOD: [RECORD]}

    async def getmany(_: object, *places: TopicPartition, timeout_ms: int) -> dict[Any, list[Any]]:
        found = {tp: waiting.pop(tp) for tp in places or (GOOD, BAD) if tp in waiting}
        if BAD in (places or (GOOD, BAD)):
            raise Client.error
        return found

    monkeypatch.setattr(Client, "getmany", getmany)
    fetched = await plain.fetch()
    assert fetched.records == {GOOD: Columns([4], [1], [b"k"], [b"v"])}
    assert [*fetched.unread] == [BAD]


async def test_position_that_is_gone_is_not_a_batch_that_cannot_be_read(
    plain: inputs.Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session finds out what was lost."""
    monkeypatch.setattr(Client, "error", OffsetOutOfRangeError({BAD: 7}))
    # First what was taken out of others: their positions have moved.
    assert (await plain.fetch()).records == {GOOD: Columns([4], [1], [b"k"], [b"v"])}
    with pytest.raises(OffsetOutOfRangeError):
        await plain.fetch()


async def test_a_group_that_is_still_loading_has_not_lost_its_offsets(
    plain: inputs.Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client answers with nothing then; a group without offsets answers with -1."""
    monkeypatch.setattr(inputs, "_LOADING_S", 0.0)
    answers = [{}, {GOOD: 3}, {GOOD: 3, BAD: -1}]

    async def listed(group_id: str, partitions: list[TopicPartition]) -> dict[Any, Any]:
        assert set(partitions) == {GOOD, BAD}
        return {tp: OffsetAndMetadata(offset, "") for tp, offset in answers.pop(0).items()}

    monkeypatch.setattr(Client, "list_consumer_group_offsets", staticmethod(listed), raising=False)
    assert await plain.committed([GOOD, BAD]) == {GOOD: 3}
    assert not answers


async def test_a_group_that_never_loads_ends_the_wait(
    plain: inputs.Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error of the client's, after which a life begins again."""

    async def nothing(group_id: str, partitions: list[TopicPartition]) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr(Client, "list_consumer_group_offsets", staticmethod(nothing), raising=False)
    plain._answer_ms = 50
    with pytest.raises(KafkaError, match="the offsets of the group"):
        await plain.committed([GOOD])
