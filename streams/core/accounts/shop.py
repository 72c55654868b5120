"""One shop's violations: keyed state, and the indexes that follow from it.

What lives here: which violations stand, in walk order, what they are allocated, and which products
they ban. What must not: the journal (`journal`), time and settlement (`shops`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from streams.core.accounts.allocation import Allocation
from streams.core.facts.outputs import Determined
from streams.core.rules.policy import Policy
from streams.core.time.calendar import Calendar


class Booking(Struct, array_like=True):
    """What the journal holds of one violation on one account."""

    amount: int = 0
    day: str = ""
    entries: int = 0
    unit: str = ""
    """Of the amount; the rules that named it may be gone when it is reversed."""


class Violation(Struct, array_like=True):
    """Keyed state: one violation of a shop. `points` and `deposit` are its allocation."""

    shop_id: str
    violation_id: str
    order_id: str
    kind: str
    occurrence: int
    product_ids: list[str]
    determined_at: int
    revision: int
    standing: bool
    points: int
    deposit: int
    points_booked: Booking
    deposit_booked: Booking
    released: bool = False


class Crossing(NamedTuple):
    """The change of a violation that bans a product, or frees it."""

    violation: Violation
    revision: int
    stands: bool


# Product to what may change its ban, by order and in order of time: the first one does.
Crossings = dict[str, dict[str, Crossing]]


WALK_ORDER = attrgetter("determined_at", "violation_id")
_JUDGING_ORDER = attrgetter("determined_at", "occurrence")


class Shop:
    """Indexes over one shop's violations.

    Attributes:
        standing: Standing violations in walk order.
        banning: Product to the orders beyond the ban's threshold, by the rules of today.
        banned: Products that were told to be banned, by whatever rules.
        last_taken: The largest place in the walk ever taken.
    """

    def __init__(self, policy: Policy, calendar: Calendar) -> None:
        self._policy = policy
        self._calendar = calendar
        self._allocation = Allocation(policy)
        self.violations: dict[str, Violation] = {}
        self.standing: list[Violation] = []
        self.orders: dict[str, list[Violation]] = {}
        self.banning: dict[str, dict[str, None]] = {}
        self.banned: dict[str, None] = {}
        self.last_taken: tuple[int, str] = (0, "")
        # week -> violations whose order can still be corrected
        self._correctable: dict[int, int] = {}

    def restore(self, violation: Violation) -> None:
        """Put back a violation; to be called in walk order."""
        self._add(violation)
        if not violation.standing:
            return
        self.standing.append(violation)
        self._count(violation)
        self._index_order(violation)

    def stand(self, item: Determined) -> Violation:
        """Let a violation stand, not allocated yet."""
        violation = self.violations.get(item.violation_id)
        if violation is None:
            violation = Violation(
                item.shop_id, item.violation_id, item.order_id, item.kind, item.occurrence,
                item.product_ids, item.determined_at, item.revision, True, 0, 0,
                Booking(), Booking(),
            )  # fmt: skip
            self._add(violation)
        else:
            self._count_correctable(violation, -1)
            violation.determined_at = item.determined_at
            violation.revision = item.revision
            violation.standing = True
            violation.points = violation.deposit = 0
            self._count_correctable(violation, 1)
        insort(self.standing, violation, key=WALK_ORDER)
        self.last_taken = max(self.last_taken, WALK_ORDER(violation))
        return violation

    def stand_down(self, violation: Violation) -> Violation:
        """Let a violation stand no longer."""
        self._count(violation, -1)
        violation.standing = False
        violation.points = violation.deposit = 0
        del self.standing[self.place(WALK_ORDER(violation))]
        return violation

    def place(self, walk_order: tuple[int, str]) -> int:
        """Index in `standing` of the first violation at or after a place in the walk."""
        return bisect_left(self.standing, walk_order, key=WALK_ORDER)

    # Allocation

    def allocate(self, violation: Violation) -> None:
        """Allocate the last violation of the walk."""
        day = self._calendar.local_day(violation.determined_at)
        violation.points, violation.deposit = self._allocation.take(violation.order_id, day)

    def allocate_from(self, instant: int) -> list[Violation]:
        """Allocate again from the week of an instant on; returns what changed.

        Caps reach no further back than a week, and an order's earlier charges stay counted.
        """
        first = self.place((self._calendar.local_day(instant).week_start, ""))
        again = self.standing[first:]
        for violation in again:
            self._count(violation, -1)
        changed = []
        for violation in again:
            before = violation.points, violation.deposit
            self.allocate(violation)
            if before != (violation.points, violation.deposit):
                changed.append(violation)
        return changed

    def _count(self, violation: Violation, times: int = 1) -> None:
        day = self._calendar.local_day(violation.determined_at)
        self._allocation.count(violation.order_id, day, violation.points, violation.deposit, times)

    # Bans

    def beyond(self, order_id: str, kind: str | None = None) -> list[Violation]:
        """List an order's standing violations of a kind that is beyond the threshold, in order.

        Args:
            kind: Ask for this kind alone; `None` takes the first that is beyond.
        """
        rules = self._policy.ban
        if rules is None:
            return []
        kinds: dict[str, list[Violation]] = {}
        for violation in self.orders.get(order_id, ()):
            if violation.standing and kind in (None, violation.kind):
                kinds.setdefault(violation.kind, []).append(violation)
        for name in sorted(kinds):
            if len(kinds[name]) > rules.standing_more_than:
                return sorted(kinds[name], key=_JUDGING_ORDER)
        return []

    def note_crossing(self, violation: Violation, crossings: Crossings) -> None:
        """Note the change of a violation if it makes a product's ban differ from what was told.

        Only what differs after the last change of an instant remains. An order that is not beyond
        the threshold imposes nothing; it leaves a ban to the orders that are.
        """
        beyond = self._index_order(violation)
        crossing = Crossing(violation, violation.revision, violation.standing)
        for product_id in violation.product_ids:
            noted = crossings.setdefault(product_id, {})
            if product_id not in self.banned:
                if beyond:
                    noted.setdefault(violation.order_id, crossing)
                else:
                    noted.pop(violation.order_id, None)
            elif product_id in self.banning:
                noted.clear()
            else:
                noted.setdefault(violation.order_id, crossing)

    def _index_order(self, violation: Violation) -> bool:
        """Bring `banning` up to date with a violation's order; tell whether it is beyond."""
        order_id = violation.order_id
        beyond = bool(self.beyond(order_id))
        for product_id in violation.product_ids:
            orders = self.banning.setdefault(product_id, {})
            if beyond:
                orders[order_id] = None
            else:
                orders.pop(order_id, None)
            if not orders:
                del self.banning[product_id]
        return beyond

    # Release

    def release(self, order_id: str, old_before: int) -> tuple[list[Violation], list[Violation]]:
        """Note that an order can no longer be corrected.

        Violations are dropped week by week, oldest first, once no violation of the week or before
        can be corrected; those of an order that bans a product or reaches into later weeks stay.

        Args:
            old_before: No order still known can be judged for an instant before this.

        Returns:
            The order's violations, and those dropped.
        """
        released = list(self.orders.get(order_id, ()))
        for violation in released:
            self._count_correctable(violation, -1)
            violation.released = True
        correctable = [week for week, count in self._correctable.items() if count]
        final = min([self._calendar.local_day(old_before).week_start, *correctable])
        if min(self._correctable, default=final) >= final:
            return released, []
        self._correctable = {w: count for w, count in self._correctable.items() if w >= final}
        dropped = [
            violation
            for of_order in self.orders.values()
            if all(self._week(each) < final for each in of_order)
            and not self.beyond(of_order[0].order_id)
            for violation in of_order
        ]
        for violation in dropped:
            self._drop(violation)
        # A restored shop counts what is kept, so this one must too.
        self._allocation = Allocation(self._policy)
        for violation in self.standing:
            self._count(violation)
        return released, dropped

    def _drop(self, violation: Violation) -> None:
        if violation.standing:
            del self.standing[self.place(WALK_ORDER(violation))]
        self.orders.pop(violation.order_id, None)
        del self.violations[violation.violation_id]

    def _add(self, violation: Violation) -> None:
        self.violations[violation.violation_id] = violation
        self.orders.setdefault(violation.order_id, []).append(violation)
        self.last_taken = max(self.last_taken, WALK_ORDER(violation))
        self._count_correctable(violation, 1)

    def _count_correctable(self, violation: Violation, step: int) -> None:
        week = self._week(violation)
        self._correctable[week] = self._correctable.get(week, 0) + step * (not violation.released)

    def _week(self, violation: Violation) -> int:
        return self._calendar.local_day(violation.determined_at).week_start
