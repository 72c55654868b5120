"""What stops a clock: the earliest of the facts that a kind ends at, and when a fact is late.

What lives here: which fact ends a kind, the boundary, and parcels that each need a scan. What must
not: deadlines.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.core.facts.accepted import Fact, ScanFact, UploadFact
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.rules.policy import Kind

SECOND_MS = 1_000


def stop_instant(
    kind: Kind, uploaded_at: int | None, scanned_at: int | None, closed_at: int | None
) -> int:
    """Return the earliest fact that stops a kind; what is due after it does not hold.

    Where all parcels need a scan, scans are left to `all_scanned`.
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


def boundary_ms(kind: Kind, deadline: int) -> int:
    """Return how long after a due time of a kind a fact is late, in milliseconds.

    At the due time itself, unless a fact at the limit is in time: then the limit lasts as long as
    its unit, a whole second or a millisecond.
    """
    if not kind.on_time_at_limit:
        return 0
    return 1 if deadline % SECOND_MS else SECOND_MS


def all_scanned(facts: Sequence[Fact], before: int) -> bool:
    """Tell whether each number uploaded, and not replaced, before an instant was scanned by then.

    False if there is none.
    """
    uploads = [each for each in facts if isinstance(each, UploadFact) and each.uploaded_at < before]
    replaced = {each.replaces for each in uploads}
    scanned = {
        each.tracking_number
        for each in facts
        if isinstance(each, ScanFact) and each.scanned_at < before
    }
    wanted = [each.tracking_number for each in uploads if each.tracking_number not in replaced]
    return bool(wanted) and all(number in scanned for number in wanted)
