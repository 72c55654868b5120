from collections.abc import Callable

from streams.codec.state import PackedOrders
from streams.engine.held import Lane
from streams.engine.usual import Blocked, Usual

# Places of the records that are left, keys of those taken, their next instants where they change,
# and how many values could not be read.
_Taken = tuple[list[int], list[bytes], list[int], int]

TAKE: dict[int, Callable[[Lane, Usual, PackedOrders, Blocked], _Taken]]
