"""The topic `frontier-marks`: how far order partitions have come, and who waits for them.

What lives here: the form of its records, and what they say together. What must not: how they are
read; a mark counts for a shop partition only once `shop-violations` has been read to an end that
was asked for after the mark had been read.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from streams.codec.encode import encode_value
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.outputs import FrontierMark, MarkMessage, MarkRequest
from streams.engine.records import FRONTIER_MARKS, OutRecord

# All marks stand in one partition: their number is that of the order partitions, and whoever reads
# them reads them all.
MARKS_PARTITION = 0

_decode = msgspec.json.Decoder(MarkMessage).decode


def mark_record(app_id: str, source: int, frontier_ms: int) -> OutRecord:
    """Make an order partition's mark: it sends no more items with a log time below an instant."""
    mark = FrontierMark(app_id=app_id, frontier_ms=frontier_ms, source=source)
    return _record(f"{app_id}:orders:{source}", mark)


def request_record(app_id: str, who: str, beyond_ms: int) -> OutRecord:
    """Make a request for marks beyond an instant; it replaces the last one of the same name."""
    return _record(f"{app_id}:{who}", MarkRequest(app_id=app_id, beyond_ms=beyond_ms))


def _record(key: str, message: MarkMessage) -> OutRecord:
    return OutRecord(FRONTIER_MARKS, key.encode(), encode_value(message), (), MARKS_PARTITION)


class Marks:
    """The last mark of each order partition, and the instants for which marks are requested.

    Records of other app ids are passed over. So is what cannot be read: a mark that is not taken
    only delays.
    """

    def __init__(self, app_id: str) -> None:
        self._app_id = app_id
        self._frontiers: dict[int, int] = {}
        self._requests: dict[bytes | None, int] = {}
        self._requested: list[int] = []

    def take(self, key: bytes | None, value: bytes | None) -> bool:
        """Take the next record; False if it cannot be read."""
        try:
            message = _decode(value or b"")
        except (ValueError, RecursionError):
            return False
        if message.app_id != self._app_id:
            return True
        if isinstance(message, FrontierMark):
            known = self._frontiers.get(message.source, 0)
            self._frontiers[message.source] = max(known, message.frontier_ms)
        else:
            self._requests[key] = message.beyond_ms
            self._requested = sorted(self._requests.values())
        return True

    def frontier_ms(self, sources: int) -> int:
        """Return the least of the order partitions' marks; 0 before each has marked."""
        return min(self._frontiers.get(source, 0) for source in range(sources))

    def behind(self, instant_ms: int, sources: int) -> dict[int, int]:
        """Return the order partitions whose marks do not lie beyond an instant, and the marks."""
        known = {source: self._frontiers.get(source, 0) for source in range(sources)}
        return {source: mark_ms for source, mark_ms in known.items() if mark_ms <= instant_ms}

    def requested_ms(self, told_ms: int) -> int:
        """Return the first requested instant that a frontier told does not lie beyond.

        `END_OF_TIME_MS` if nobody waits.
        """
        place = bisect_left(self._requested, told_ms)
        return self._requested[place] if place < len(self._requested) else END_OF_TIME_MS
