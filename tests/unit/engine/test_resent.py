"""Which dead letters were sent again, by the records of `resent-letters`."""

import msgspec
import pytest

from streams.core.facts.outputs import Source
from streams.engine.resent import Origin, Resent, mark

ORIGIN = Origin("first-scan", 2, 7, 1_000)


def resent(*records: tuple[bytes | None, bytes | None]) -> Resent:
    """Return what some records say together."""
    found = Resent()
    for key, value in records:
        found.take(key, value)
    return found


def test_a_marked_letter_has_the_time_of_its_last_sending() -> None:
    """By the place of the refused record."""
    found = resent(mark(ORIGIN, 5), mark(ORIGIN, 6))
    assert found.at_ms(ORIGIN) == 6
    assert found.at_ms(Source(topic="first-scan", partition=2, offset=7, timestamp=1_000)) == 6


@pytest.mark.parametrize(
    "change", [{"topic": "order-paid"}, {"partition": 3}, {"offset": 8}, {"timestamp": 1_001}]
)
def test_another_record_is_not_marked(change: dict[str, str | int]) -> None:
    """Nor is one at the same place of a topic that was created again."""
    assert resent(mark(ORIGIN, 5)).at_ms(msgspec.structs.replace(ORIGIN, **change)) is None


def test_a_line_without_the_timestamp_marks_by_place() -> None:
    """As an older version exported it."""
    unknown = msgspec.structs.replace(ORIGIN, timestamp=None)
    assert resent(mark(unknown, 5)).at_ms(ORIGIN) == 5
    assert resent(mark(ORIGIN, 5)).at_ms(unknown) == 5


@pytest.mark.parametrize(
    "record",
    [(None, None), (None, b"{}"), (b"first-scan:2:7", None), (b"first-scan:2:7", b"{"),
     (b"\xff", b'{"resent_at":1}'), (b"first-scan:2:7", b'{"resent_at":"1"}')],
)  # fmt: skip
def test_what_cannot_be_read_marks_nothing(record: tuple[bytes | None, bytes | None]) -> None:
    """And takes no mark away."""
    assert resent(record).at_ms(ORIGIN) is None
    assert resent(mark(ORIGIN, 5), record).at_ms(ORIGIN) == 5
