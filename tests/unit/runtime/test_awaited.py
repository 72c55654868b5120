"""Which order partitions hold the shops back: said once a minute, measured, and nobody blamed."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.core.facts.instants import END_OF_TIME_MS
from streams.engine.marks import Marks, mark_record
from streams.runtime import awaited, logs
from streams.runtime.settings import Settings
from streams.telemetry import metrics

APP_ID, SOURCES = "shipclock", 3
WAITS_MS = 1_000_000


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the monotonic clock's time, to be set, and let nothing be measured yet."""
    now = [10_000.0]
    monkeypatch.setattr(metrics, "SHOPS_HELD", metrics.Gauge("held", "", ["partition"]))
    for module in (awaited, logs):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def marks() -> Marks:
    """Give marks of which one order partition's lies before what the shops wait for."""
    known = Marks(APP_ID)
    for source, mark_ms in enumerate((WAITS_MS + 1, WAITS_MS, WAITS_MS + 500)):
        mark(known, source, mark_ms)
    return known


def mark(marks: Marks, source: int, mark_ms: int) -> None:
    """Let an order partition mark."""
    marks.take(*mark_record(APP_ID, source, mark_ms)[1:3])


def shops(*waits_ms: int, ready: bool = True) -> list[Any]:
    """Give shop partitions that wait for instants."""
    return [SimpleNamespace(ready=ready, waits_for_ms=wait_ms) for wait_ms in waits_ms]


def held_s(source: int) -> float:
    """Return what is measured of an order partition."""
    return metrics.SHOPS_HELD.labels(str(source)).value


def test_the_order_partition_that_stands_still_is_named_once_a_minute(
    now_s: list[float], marks: Marks, caplog: pytest.LogCaptureFixture
) -> None:
    """While it lasts, with how long; and no more once it has come beyond what is waited for."""
    watched = awaited.AwaitedMarks(Settings(), "shops", marks)
    for _ in range(200):
        watched.look(shops(WAITS_MS, END_OF_TIME_MS), SOURCES)
        now_s[0] += 1
    lines = [message for message in caplog.messages if message.startswith("shops-held")]
    assert [line.split(" detail=")[0] for line in lines] == [
        f"shops-held stage=shops order_partitions=1 for_s={s:.1f}" for s in (91, 151)
    ]
    assert (held_s(0), held_s(1), held_s(2)) == (0, 199, 0)
    mark(marks, 1, WAITS_MS + 1)
    watched.look(shops(WAITS_MS), SOURCES)
    assert held_s(1) == 0
    now_s[0] += 200
    watched.look(shops(WAITS_MS), SOURCES)
    assert len(caplog.messages) == len(lines)


def test_an_order_partition_that_comes_further_holds_nobody(
    now_s: list[float], marks: Marks, caplog: pytest.LogCaptureFixture
) -> None:
    """One that catches up marks once a minute, far behind what the shops wait for."""
    watched = awaited.AwaitedMarks(Settings(), "shops", marks)
    mark(marks, 0, 2 * WAITS_MS)
    mark(marks, 2, 2 * WAITS_MS)
    for second in range(300):
        mark(marks, 1, WAITS_MS + second // 60)
        watched.look(shops(WAITS_MS + 1_000), SOURCES)
        now_s[0] += 1
    assert not caplog.messages
    assert 0 < held_s(1) <= 60


@pytest.mark.parametrize(
    "parts", [shops(END_OF_TIME_MS), shops(WAITS_MS, ready=False), []], ids=["idle", "unready", "-"]
)
def test_nobody_is_blamed_while_nobody_waits(
    now_s: list[float], marks: Marks, caplog: pytest.LogCaptureFixture, parts: list[Any]
) -> None:
    """A mark that is old because nobody wants a newer one is no fault."""
    watched = awaited.AwaitedMarks(Settings(), "shops", marks)
    for _ in range(200):
        watched.look(parts, SOURCES)
        now_s[0] += 1
    assert not caplog.messages
    assert held_s(1) == 0


def test_who_cannot_trust_the_clock_blames_nobody(
    now_s: list[float], marks: Marks, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody judges then, and that is reported by itself."""
    clock: Any = SimpleNamespace(now_ms=lambda: 10 * WAITS_MS, trusted=False)
    watched = awaited.AwaitedMarks(Settings(clock=clock), "shops", marks)
    for _ in range(200):
        watched.look(shops(WAITS_MS), SOURCES)
        now_s[0] += 1
    assert not caplog.messages
