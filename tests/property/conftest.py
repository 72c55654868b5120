"""Small logs must meet what only millions of orders would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.engine import orders_task


@pytest.fixture(scope="package", autouse=True)
def sweeps_in_small_steps() -> Iterator[None]:
    """Apply an exemption to one order at a time, so that a step may end amid it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders_task, "_SWEEP_ORDERS", 1)
        yield
