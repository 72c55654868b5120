"""The rules for the usual orders of one mode, as a table: what an event does to the next due time.

What lives here: a plan's rows, what an upload and a scan call for, and the next instant at which
anything can happen to an order of which nothing was made yet. What must not: determinations,
exemptions, appeals (`judging`, which is the oracle this is tested against), bytes.
"""

from __future__ import annotations

from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.rules.book import Terms
from streams.core.rules.deadlines import Clock, Piece
from streams.core.rules.policy import Deadline, Kind
from streams.core.rules.stops import boundary_ms

NOW = -1
"""Something is due already: the order is judged with all its facts."""

# What an upload or a scan of an order calls for.
KEEP = 0
"""Nothing: the fact is added, the due time stays."""
RETIRE = 1
"""The order ends, if it was scanned before the due time."""
ASK = 2
"""`next_due`."""
LONG = 3
"""Judging with all facts."""

# Starts, by their index among the instants of an order, and stops, by their bit.
PLACED, PAID, UPLOADED = range(3)
STOPPED_BY_UPLOAD, STOPPED_BY_SCAN = 1, 2
_STARTS = {"placed": PLACED, "paid": PAID, "uploaded": UPLOADED}
# Near which starts a row remembers its deadline: orders of a log dwell on few days.
_PIECES_MAX = 4


class Row:
    """One kind's clock.

    Attributes:
        start: Index of the instant it runs from.
        stops: Bits of the facts that stop it.
        leads: How long before the deadline it warns, in milliseconds.
        on_time_at_limit: A fact at the deadline is in time.
    """

    def __init__(self, kind: Kind, deadline: Deadline, clock: Clock) -> None:
        self.start = _STARTS.get(deadline.start, -1)
        each_parcel = kind.parcels == "all"
        self.stops = STOPPED_BY_UPLOAD * ("uploaded" in kind.until) | STOPPED_BY_SCAN * (
            "scanned" in kind.until and not each_parcel
        )
        self.leads = kind.warn_before
        self.on_time_at_limit = kind.on_time_at_limit
        self.each_parcel = each_parcel and "scanned" in kind.until
        self._kind, self._deadline, self._clock = kind, deadline, clock
        self._pieces: list[Piece] = []

    def deadline_at(self, start: int) -> int:
        """Return the deadline for a start."""
        for begin, end, moves, value in self._pieces:
            if begin <= start < end:
                return start + value if moves else value
        piece = self.piece(start)
        self._pieces = [piece, *self._pieces[: _PIECES_MAX - 1]]
        return start + piece.value if piece.moves else piece.value

    def piece(self, start: int) -> Piece:
        """Return the deadline around a start."""
        return self._clock.piece(self._deadline, start)

    def late_at(self, deadline: int) -> int:
        """Return from when on a fact is late."""
        return deadline + boundary_ms(self._kind, deadline) if self.on_time_at_limit else deadline


class Plan:
    """What holds for the orders of one mode, shop level and category of a version.

    Attributes:
        number: As states carry it, `Terms.number`.
        rows: The clocks that run from when an order is placed, paid or uploaded.
        closure: How long after its placing an order closes unshipped; `END_OF_TIME_MS`: never.
        clean: How long an order is kept after its last change.
        on_upload: `KEEP`, `ASK` or `LONG`.
        on_scan: `RETIRE`, `ASK` or `LONG`.
    """

    def __init__(self, terms: Terms) -> None:
        policy = terms.version.policy
        clocked = [each for each in terms.kinds if each.deadline is not None]
        rows = [
            Row(each.kind, each.deadline, terms.version.clock)
            for each in clocked
            if each.deadline is not None
        ]
        # A clock from a promised or agreed time runs for orders that have one: those go LONG.
        given = any(row.start < 0 for row in rows)
        self.number = terms.number
        self.rows = tuple(row for row in rows if row.start >= 0)
        closure = policy.close_unshipped
        self.closure = END_OF_TIME_MS if closure is None else closure
        self.clean = policy.retention.clean
        ask = LONG if given else ASK
        moved = any(row.start == UPLOADED or row.stops & STOPPED_BY_UPLOAD for row in rows)
        self.on_upload = ask if moved else KEEP
        if any(row.each_parcel for row in rows):
            self.on_scan = LONG
        else:
            ends = all(row.stops & STOPPED_BY_SCAN for row in rows)
            self.on_scan = RETIRE if ends else ask
        self.asks = not given
        """Whether `next_due` knows all clocks of an order without promised or agreed time."""

    def next_due(self, placed: int, paid: int, uploaded: int, scanned: int, limit: int) -> int:
        """Return the next instant at which anything can happen to an order, or `NOW`.

        Args:
            uploaded: `END_OF_TIME_MS` as long as it is not known, as for `scanned`.
            limit: What is due at or before it is due now.
        """
        due = placed + self.closure
        best = due if due <= uploaded and due <= scanned else END_OF_TIME_MS
        starts = placed, paid, uploaded
        for row in self.rows:
            start = starts[row.start]
            if start == END_OF_TIME_MS:
                continue
            stop = END_OF_TIME_MS
            if row.stops & STOPPED_BY_UPLOAD:
                stop = uploaded
            if row.stops & STOPPED_BY_SCAN and scanned < stop:
                stop = scanned
            deadline = row.deadline_at(start)
            late = row.late_at(deadline)
            if late <= stop and late < best:
                best = late
            for lead in row.leads:
                at = deadline - lead
                if start < at <= stop and limit < at < best:
                    best = at
        return best if best > limit else NOW
