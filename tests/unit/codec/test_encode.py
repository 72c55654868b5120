"""Outputs to records: CloudEvents headers and instants."""

from __future__ import annotations

import random

import pytest

from streams.codec.encode import encode_headers, encode_value
from streams.core.facts.events import TIME_MS_MAX
from streams.core.facts.instants import format_instant
from streams.core.facts.outputs import Notification, Output
from tests.property.driver import Chaos, play
from tests.property.logs import make_log
from tests.unit.samples import PLACED_AT, POLICY

NOTICE = Notification(
    channel="in-site-message",
    effective_at=PLACED_AT,
    shop_id="店",
    subjects=["订单:late-scan:1"],
    template="timeout.determined",
)
OUTPUT = Output(
    "notification", "店".encode(), NOTICE, PLACED_AT + 5, "订单:1", "notification", PLACED_AT, "店"
)


def test_headers_are_cloudevents_attributes() -> None:
    """Binary mode: all required attributes, in one order, and the content type."""
    assert encode_headers(OUTPUT) == (
        ("ce_specversion", b"1.0"),
        ("ce_id", "订单:1".encode()),
        ("ce_source", b"/shipclock/notification"),
        ("ce_subject", "店".encode()),
        ("ce_time", b"2022-12-06T08:29:00.000Z"),
        ("ce_type", b"notification"),
        ("content-type", b"application/json"),
    )


def test_value_is_compact_utf8() -> None:
    """No white space, no escapes for what UTF-8 can say."""
    assert encode_value(NOTICE).decode() == (
        '{"channel":"in-site-message","effective_at":1670315340000,"shop_id":"店",'
        '"subjects":["订单:late-scan:1"],"template":"timeout.determined"}'
    )


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (PLACED_AT + 999, "2022-12-06T08:29:00.999Z"),
        (TIME_MS_MAX, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_instant_is_rfc3339_with_milliseconds(instant: int, text: str) -> None:
    """Always UTC, always three digits."""
    assert format_instant(instant) == text


def test_ids_are_unique_within_their_topic() -> None:
    """A consumer that drops repeats by `ce_id` loses nothing."""
    seen = 0
    for seed in range(20):
        result = play(make_log(seed), POLICY, Chaos(random.Random(seed)))
        written = [*result.orders.values(), *result.shops.values()]
        ids = [(each.topic, dict(each.headers)["ce_id"]) for records in written for each in records]
        assert len(set(ids)) == len(ids)
        seen += len(ids)
    assert seen > 1000
