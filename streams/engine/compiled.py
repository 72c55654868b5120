"""What is compiled of the engine, where anything is: see `hatch_build.py`.

All of it has a plain way that does the same: `usual.TAKE`, and `PackedOrders`.
"""

from __future__ import annotations

from collections.abc import Callable

from streams.codec.state import PackedOrders
from streams.engine.held import Lane
from streams.engine.usual import Blocked, Taken, Usual

try:
    from streams.engine import native
except ImportError as why:
    _found, NOT_COMPILED_WHY = {}, str(why)
else:
    _found, NOT_COMPILED_WHY = native.TAKE, ""

# What was taken, and how many values are for the plain way to read.
Take = Callable[[Lane, Usual, PackedOrders, Blocked], tuple[Taken, int]]
TAKE: dict[int, Take] = _found
"""Functions of `usual.TAKE` that are compiled: all of them, or none."""


class CompiledOrders(PackedOrders):
    """A store whose long loops are compiled."""

    def forget(self, keys: list[bytes], limit_ms: int) -> None:
        """As `PackedOrders.forget`."""
        native.forget(self.packed, self.changed, keys, limit_ms)

    def timed(self, run: bytes, begin_ms: int, end_ms: int) -> list[tuple[int, bytes]]:
        """As `PackedOrders.timed`."""
        return native.timed(self.packed, run, begin_ms, end_ms)


def new_store() -> PackedOrders:
    """Make an empty store of the quicker kind there is."""
    return CompiledOrders() if TAKE else PackedOrders()
