"""What a log line says for people."""

import logging

import pytest

from streams.runtime.logs import _ClientNoise, duration, ranges


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (29 * 86_400_000 + 4 * 3_600_000 + 7, "29d4h"),
        (3 * 3_600_000 + 12 * 60_000, "3h12m"),
        (3_600_000, "1h0m"),
        (65_900, "1m5s"),
        (59_900, "59.9s"),
        (250, "0.2s"),
    ],
)
def test_duration_has_its_two_largest_units(ms: int, text: str) -> None:
    """What follows them does not matter to a person."""
    assert duration(ms) == text


def test_ranges_join_what_follows_each_other() -> None:
    """A worker may have hundreds of partitions."""
    assert ranges({5, 0, 2, 1}) == "0-2,5"
    assert ranges(set()) == "none"


def test_the_client_says_each_thing_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away for an hour is sixty lines, and hides nothing else."""
    now_s = 1_000.0
    monkeypatch.setattr("streams.runtime.logs.time.monotonic", lambda: now_s)
    noise = _ClientNoise()

    def said(text: str, *args: object) -> str | None:
        record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, args, None)
        return record.getMessage() if noise.filter(record) else None

    away = "Unable connect to node with id %s: %s"
    assert said(away, 1, "refused") == (
        'kafka-client detail="Unable connect to node with id 1: refused"'
    )
    assert said(away, 2, "refused") is None
    assert said("Something else") == 'kafka-client detail="Something else"'
    now_s += 61
    # An exception without a text says at least what it is.
    assert said(away, 1, TimeoutError()) == (
        'kafka-client detail="Unable connect to node with id 1: TimeoutError"'
    )


def test_what_the_client_says_with_a_traceback_alone_keeps_its_reason() -> None:
    """The traceback is left out, not what it was."""
    for failed, detail in (
        (OSError("disk full"), "Unexpected error in sender: OSError: disk full"),
        (TimeoutError(), "Unexpected error in sender: TimeoutError"),
    ):
        info = (type(failed), failed, None)
        record = logging.LogRecord(
            "aiokafka", logging.ERROR, "", 0, "Unexpected error in sender", (), info
        )
        assert _ClientNoise().filter(record)
        assert record.getMessage() == f'kafka-client detail="{detail}"'
        assert record.exc_info is None
