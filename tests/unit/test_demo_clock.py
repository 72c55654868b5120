import pickle

import pytest

from streams.runtime import clock
from streams.runtime.clock import ScaledClock, TrustedClock, wall_ms

STORY = ScaledClock(origin_ms=1_000, epoch_ms=50_000, speed=60, end_ms=110_000)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Hold the machine's clock at the milliseconds in the list."""
    held = [0]
    monkeypatch.setattr(clock.time, "time_ns", lambda: held[0] * 1_000_000 + 999_999)
    return held


@pytest.mark.parametrize(
    ("machine_ms", "story_ms"),
    [(0, 50_000), (1_000, 50_000), (1_001, 50_060), (1_500, 80_000), (2_000, 110_000)],
)
def test_scaled_clock_runs_from_its_origin_on(
    machine: list[int], machine_ms: int, story_ms: int
) -> None:
    """It stands until the origin, then runs `speed` times as fast."""
    machine[0] = machine_ms
    assert TrustedClock(STORY).now_ms() == story_ms


def test_scaled_clock_stands_still_at_its_end(machine: list[int]) -> None:
    """However late it gets, no timer after the end comes due."""
    machine[0] = 1_000_000
    assert TrustedClock(STORY).now_ms() == 110_000


def test_without_a_story_it_is_the_machines(machine: list[int]) -> None:
    """Milliseconds, cut off and not rounded."""
    machine[0] = 1_234
    assert wall_ms() == TrustedClock().now_ms() == 1_234


def test_clocks_reach_worker_processes() -> None:
    """Settings, clock included, are pickled into a spawned worker."""
    assert pickle.loads(pickle.dumps(STORY)) == STORY
    copy = pickle.loads(pickle.dumps(TrustedClock(STORY)))
    assert abs(copy.now_ms() - TrustedClock(STORY).now_ms()) < 60_000
