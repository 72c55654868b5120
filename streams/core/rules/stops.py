"""What stops a clock: the earliest of the facts that a kind ends at, and when a fact is late.

What lives here: which fact ends a kind, the boundary, and parcels that each need a scan. What must
not: deadlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streams.core.facts.events import FIRST_SCAN, TRACKING_NUMBER_UPLOADED
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.rules.policy import Kind

_SECOND_MS = 1_000


def stop_instant(
    kind: Kind, uploaded_at: int | None, scanned_at: int | None, closed_at: int | None
) -> int:
    """Earliest fact that stops a kind; what is due after it does not hold.

    Where all parcels need a scan, scans are left to `unscanned`.
    """
    stop = END_OF_TIME_MS
    until = kind.until
    if scanned_at is not None and "scanned" in until and kind.parcels == "any":
        stop = scanned_at
    if closed_at is not None and closed_at < stop and "closed" in until:
        stop = closed_at
    if uploaded_at is not None and uploaded_at < stop and "uploaded" in until:
        stop = uploaded_at
    return stop


def late_from(kind: Kind, due: int) -> int:
    """Return the first instant at which a fact is late for a due time.

    That is the due time itself, or, where a fact at the limit is in time, the end of the second
    that a limit in whole seconds names.
    """
    if not kind.on_time_at_limit:
        return due
    return due + (1 if due % _SECOND_MS else _SECOND_MS)


def all_scanned(facts: Sequence[Any], before: int) -> bool:
    """Tell whether every number uploaded before an instant, and not replaced, was scanned before it.

    False if there is none.
    """
    numbers: dict[str, None] = {}
    replaced: dict[str, None] = {}
    scanned: dict[str, None] = {}
    for fact in facts:
        if fact[0] == TRACKING_NUMBER_UPLOADED and fact[3] < before:
            numbers[fact[1]] = None
            if fact[4] is not None:
                replaced[fact[4]] = None
        elif fact[0] == FIRST_SCAN and fact[3] < before:
            scanned[fact[1]] = None
    wanted = [number for number in numbers if number not in replaced]
    return bool(wanted) and all(number in scanned for number in wanted)
