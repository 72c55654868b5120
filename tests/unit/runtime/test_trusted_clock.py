"""A clock that steps is not believed at once, and one that is ahead of the broker's not at all."""

import logging

import pytest

from streams.runtime.clock import ScaledClock, TrustedClock
from streams.telemetry import metrics

START = 1_700_000_000_000
S, MINUTE, HOUR = 1_000, 60_000, 3_600_000
YEAR = 365 * 24 * HOUR


class Machine:
    """A wall clock that can be set, beside a steady one, and a worker's reading of both."""

    def __init__(self, wrong: int = 0, played: ScaledClock | None = None) -> None:
        self.steady, self.wrong = 5_000_000, wrong
        self.clock = TrustedClock(played, self.wall, lambda: self.steady)

    def wall(self) -> int:
        return START + self.steady - 5_000_000 + self.wrong

    def run(self, ms: int, every_ms: int = 150) -> int:
        """Let time pass, read as often as a worker does; return the last reading."""
        for _ in range(0, ms, every_ms):
            self.steady += every_ms
            now_ms = self.clock.now_ms()
        return now_ms

    def true_ms(self) -> int:
        """Return what a right clock shows."""
        return START + self.steady - 5_000_000

    def commit(self, broker_wrong: int = 0) -> None:
        """Have a commit stamped by the broker."""
        self.clock.heard(self.true_ms() + broker_wrong, self.steady)


@pytest.fixture
def machine() -> Machine:
    """Give a machine whose clock has been right so far."""
    made = Machine()
    made.clock.now_ms()
    return made


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the first words of what was logged."""
    return [record.getMessage().split()[0] for record in caplog.records]


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="streams.runtime.clock")


def test_a_clock_that_goes_on_is_the_machines(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it is slewed, and where the worker slept for an hour and the clock did not."""
    for _ in range(100):
        machine.wrong += 10
        machine.run(S)
    machine.run(HOUR, every_ms=HOUR)
    assert machine.clock.now_ms() == machine.wall()
    assert (machine.clock.trusted, said(caplog)) == (True, [])


@pytest.mark.parametrize("by", [100 * S, YEAR, -100 * S, -YEAR, 2_001, -2_001])
def test_a_step_that_is_taken_back_is_never_seen(
    machine: Machine, by: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The reading stands meanwhile, at most where the clock was just before."""
    before = machine.clock.now_ms()
    machine.wrong = by
    assert machine.run(3 * S) == before
    assert (machine.clock.trusted, metrics.CLOCK_TRUSTED.labels().value) == (False, 0)
    machine.wrong = 0
    assert machine.run(150) == machine.true_ms()
    assert (machine.clock.trusted, metrics.CLOCK_TRUSTED.labels().value) == (True, 1)
    assert said(caplog) == ["clock-stepped", "clock-back"]
    assert ("by=+" in caplog.text) == (by > 0)


def test_a_step_that_stands_is_believed_with_the_broker(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine stood still for eight hours: neither of its clocks counted them."""
    machine.commit()
    before = machine.clock.now_ms()
    machine.wrong = 8 * HOUR
    machine.run(S)
    machine.commit(broker_wrong=8 * HOUR)
    assert machine.run(8 * S) == before
    assert machine.run(2 * S) == machine.wall()
    assert said(caplog) == ["clock-stepped", "clock-confirmed"]
    assert "by=+8h0m" in caplog.text
    assert 'by="itself and the broker"' in caplog.text


@pytest.mark.parametrize("by", [10 * S, -10 * S])
def test_without_the_brokers_clock_a_step_is_believed_later(
    machine: Machine, by: int, caplog: pytest.LogCaptureFixture
) -> None:
    """NTP sets a clock right for good; that must not stop a worker."""
    machine.wrong = by
    machine.run(29 * S)
    assert not machine.clock.trusted
    assert machine.run(2 * S) == machine.wall()
    assert said(caplog) == ["clock-stepped", "clock-confirmed"]


def test_each_step_begins_the_wait_again(machine: Machine) -> None:
    """A clock that goes to and fro is never believed."""
    before = machine.clock.now_ms()
    for step in range(10):
        machine.wrong = (step + 1) * HOUR
        machine.run(9 * S)
        machine.commit(broker_wrong=machine.wrong)
    assert (machine.clock.now_ms(), machine.clock.trusted) == (before, False)


def test_a_year_ahead_is_not_believed_against_the_broker(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it stands, and it is said; set right, the worker goes on by itself."""
    before = machine.clock.now_ms()
    machine.wrong = YEAR
    for _ in range(60):
        machine.run(2 * S)
        machine.commit()
    assert machine.clock.now_ms() == before
    assert said(caplog)[:2] == ["clock-stepped", "clock-differs"]
    assert "ahead_of_broker=+365d0h" in caplog.text
    machine.wrong = 0
    assert machine.run(150) == machine.true_ms()


def test_a_worker_started_a_year_ahead_reads_nothing_until_the_broker_agrees(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is no step to be seen: only the broker knows."""
    machine = Machine(wrong=YEAR)
    machine.run(S)
    machine.commit()
    began = machine.true_ms()
    assert machine.run(MINUTE) <= began + S
    assert (machine.clock.trusted, said(caplog)) == (False, ["clock-differs"])
    machine.wrong = 0
    machine.run(S)
    machine.commit()
    machine.run(10 * S)
    assert machine.clock.now_ms() == machine.true_ms()


def test_behind_the_broker_is_said_and_judged_by(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Later than it could be, but nothing too early."""
    machine.commit(broker_wrong=HOUR)
    assert machine.run(S) == machine.wall()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "ahead_of_broker=-1h0m" in record.getMessage()


def test_the_broker_whose_clock_is_furthest_on_counts(machine: Machine) -> None:
    """One of several that lags does not stop the worker, and is not remembered for ever either."""
    machine.commit()
    machine.commit(broker_wrong=-HOUR)
    machine.run(S)
    assert machine.clock.trusted
    machine.run(31 * S)
    machine.commit(broker_wrong=-HOUR)
    machine.run(S)
    assert not machine.clock.trusted


def test_the_broker_is_asked_while_in_doubt(machine: Machine) -> None:
    """Every two seconds: each asking is a transaction."""
    assert not machine.clock.asks()
    machine.wrong = HOUR
    asked = 0
    for _ in range(40):
        machine.run(150)
        asked += machine.clock.asks()
    assert asked == 3


def test_a_reading_that_was_interrupted_is_no_step() -> None:
    """The process may be stopped between the readings of the two clocks."""
    steady = iter([0, 1, 2, 60_000, 60_001, 60_002])
    walls = iter([START, START + 60_001])
    clock = TrustedClock(None, lambda: next(walls), lambda: next(steady))
    clock.now_ms()
    clock.now_ms()
    assert clock.trusted


def test_a_story_stands_too() -> None:
    """However fast it plays: it is played by the machine's clock."""
    story = ScaledClock(origin_ms=START, epoch_ms=50_000, speed=60, end_ms=10**12)
    machine = Machine(played=story)
    assert machine.run(1_500) == 50_000 + 1_500 * 60
    machine.wrong = 100 * S
    assert machine.run(3 * S) == 50_000 + 1_500 * 60
