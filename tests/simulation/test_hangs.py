"""Calls that hang must do so for as long as they are said to, and only when a seed wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from aiokafka.errors import RequestTimedOutError

from tests.simulation.hangs import HangRates, Hangs
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.plan import make_plan

ALWAYS = HangRates(chance=1.0, longest_s=20.0)
FOR_EVER = HangRates(chance=1.0, endless=1.0)
HOUR_S = 3600.0


def ended_s(
    rates: HangRates, call: Callable[[Hangs], Awaitable[None]], seed: int = 1
) -> tuple[float | None, type[BaseException] | None]:
    """Return when a worker's call came back, if it did within an hour, and with which error."""
    loop = VirtualLoop()
    hangs = Hangs(loop, Random(seed), lambda *_: None)
    hangs.rates = rates
    found: list[tuple[float, type[BaseException] | None]] = []

    async def work() -> None:
        error: type[BaseException] | None = None
        try:
            await call(hangs)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001
            error = type(exc)
        found.append((loop.time(), error))

    loop.start(Process("w1"), work())
    loop.run_until_complete(asyncio.sleep(HOUR_S))
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.wait([task], timeout=1))
        task.cancel()
        loop.run_until_complete(asyncio.wait([task], timeout=1))
    loop.close()
    return found[0] if found and found[0][0] < HOUR_S else (None, None)


def test_nothing_hangs_unless_it_is_to() -> None:
    """The rates of a run at rest strike nobody."""
    assert ended_s(HangRates(), lambda hangs: hangs.wait("x")) == (0.0, None)
    assert ended_s(HangRates(), lambda hangs: hangs.wait_and_raise("x", 1.0)) == (0.0, None)
    assert ended_s(HangRates(), lambda hangs: hangs.stop("x")) == (0.0, None)


def test_a_call_that_is_tried_again_for_ever_does_not_come_back() -> None:
    """Or after a while, where hangs end."""
    assert ended_s(FOR_EVER, lambda hangs: hangs.wait("x")) == (None, None)
    back_s, error = ended_s(ALWAYS, lambda hangs: hangs.wait("x"))
    assert error is None
    assert back_s is not None
    assert 0 < back_s < 20


def test_a_call_that_gives_up_raises_at_last() -> None:
    """Beyond its own timeout, but always."""
    back_s, error = ended_s(FOR_EVER, lambda hangs: hangs.wait_and_raise("x", 5.0))
    assert error is RequestTimedOutError
    assert back_s is not None
    assert back_s >= 5.0


def test_a_stop_waits_or_cancels_its_caller() -> None:
    """As the client does: whoever awaits it may look cancelled though nobody cancelled it."""
    ends = {ended_s(FOR_EVER, lambda hangs: hangs.stop("x"), seed) for seed in range(20)}
    assert ends == {(None, None), (0.0, asyncio.CancelledError)}


def test_a_stop_swallows_a_cancellation() -> None:
    """A time limit around it does not help: it waits on."""

    async def limited(hangs: Hangs) -> None:
        async with asyncio.timeout(1.0):
            await hangs.stop("x")

    ends = {ended_s(FOR_EVER, limited, seed) for seed in range(20)}
    assert ends == {(None, None), (0.0, asyncio.CancelledError)}


@pytest.mark.parametrize("seed", range(5))
def test_connections_that_carry_nothing_strike_half_of_the_calls_for_a_while(seed: int) -> None:
    """And none once they are renewed."""
    loop, process = VirtualLoop(), Process("w1")
    hangs = Hangs(loop, Random(seed), lambda *_: None)
    hangs.rates = HangRates(chance=1e-9, half_open_s=2.0)
    struck: list[list[bool]] = []

    async def work() -> None:
        hangs.half_open(process)
        for _ in range(2):
            struck.append([hangs.strikes("x") is not None for _ in range(200)])
            await asyncio.sleep(2.0)

    loop.start(process, work())
    loop.run_until_complete(asyncio.sleep(5.0))
    loop.close()
    assert 50 < sum(struck[0]) < 150
    assert sum(struck[1]) == 0


def test_every_second_seed_has_calls_that_hang() -> None:
    """The others are the runs they were before, so that nothing else is hidden by hangs."""
    hanging = [bool(make_plan(seed).hangs.chance) for seed in range(200)]
    assert 70 < sum(hanging) < 130
