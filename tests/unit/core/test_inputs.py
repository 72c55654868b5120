"""The table of input topics, and what orders keep of their events."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import fields

from streams.core.facts.accepted import Fact, UploadFact
from streams.core.facts.inputs import INPUTS, Input, fact_of, own_time
from tests.unit.samples import VALUES

KEPT = [each for each in INPUTS if each.fact is not None]


def test_storage_ids_stay() -> None:
    """They stand in stored states: an input keeps its own whatever comes before or after it."""
    assert {each.topic: each.id for each in INPUTS} == {
        "order-paid": 0,
        "tracking-number-uploaded": 1,
        "first-scan": 2,
        "order-closed": 3,
        "exemption-granted": 4,
        "appeal-decided": 5,
        "refund-failed": 6,
    }


@pytest.mark.parametrize("each", INPUTS, ids=lambda each: each.topic)
def test_key_and_own_time_are_fields_of_the_event(each: Input) -> None:
    """The table names them, and nothing else says so."""
    names = [field.name for field in fields(each.event)]
    assert each.key in names
    assert each.own_time in names


@pytest.mark.parametrize("each", KEPT, ids=lambda each: each.topic)
def test_fact_has_the_fields_of_its_event_in_their_order(each: Input) -> None:
    """All but the order_id, which is the state's key, and with the same defaults."""
    assert each.fact is not None
    assert each.fact.__struct_config__.tag == each.id
    of_event = [(field.name, field.default) for field in fields(each.event)]
    of_event.remove(("order_id", msgspec.NODEFAULT))
    assert [(field.name, field.default) for field in fields(each.fact)] == of_event


@pytest.mark.parametrize("each", KEPT, ids=lambda each: each.topic)
def test_fact_keeps_what_its_event_says(each: Input) -> None:
    """Written and read again it is the same, and happened when the event says."""
    value: dict[str, Any] = VALUES[INPUTS.index(each)]
    event: Any = msgspec.convert(value, each.event)
    fact = fact_of(event)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fact), type=Fact) == fact
    assert own_time(fact) == own_time(event) == value[each.own_time]


@pytest.mark.parametrize("stored", [[1, "T1", "SF", 7], [1, "T1", "SF", 7, None, "new"]])
def test_fact_of_fewer_or_more_fields_reads_as_its_own(stored: list[Any]) -> None:
    """A field that was added since reads as its default; one of a newer program is passed over."""
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Fact)
    assert read == UploadFact("T1", "SF", 7)
