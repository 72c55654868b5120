"""One shop's violations: keyed state, and the indexes that follow from it.

What lives here: which violations stand, in walk order, what they are allocated, and which products
they ban. What must not: the journal (`journal`), time and settlement (`shops`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from msgspec import Struct

from streams.core.accounts.allocation import Allocation
from streams.core.accounts.sanctions import Force, exceeding, shop_actions
from streams.core.accounts.violation import WALK_ORDER, Violation, violation_of
from streams.core.facts.outputs import Determined
from streams.core.rules.book import Rulebook, Version
from streams.core.rules.policy import BAN, DAY_MS
from streams.core.time.calendar import Calendar


class ActionTold(Struct, array_like=True):
    """Keyed state: what was put out last about an action on a shop."""

    shop_id: str
    platform: str
    action: str
    in_force: bool
    times: int
    """How often it was imposed."""
    violation_id: str
    """That imposed it last, and its order."""
    order_id: str


class Crossing(NamedTuple):
    """The change of a violation that bans a product, or frees it."""

    violation: Violation
    mark: str
    counts: bool


# Product to what may change its ban, by order and in order of time: the first one does.
Crossings = dict[str, dict[str, Crossing]]


class Shop:
    """Indexes over one shop's violations.

    Attributes:
        standing: Standing violations in walk order.
        banning: Product to the orders that ban it, by the rules of today.
        banned: Products that were told to be banned, by whatever rules.
        actions: What was told of actions on the shop, by platform and name.
        last_taken: The largest place in the walk ever taken.
    """

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook
        self._allocation = Allocation()
        self.violations: dict[str, Violation] = {}
        self.standing: list[Violation] = []
        self.orders: dict[str, list[Violation]] = {}
        self.banning: dict[str, dict[str, None]] = {}
        self.banned: dict[str, None] = {}
        self.actions: dict[tuple[str, str], ActionTold] = {}
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
        violation = violation_of(item)
        known = self.violations.get(item.violation_id)
        if known is None:
            self._add(violation)
        else:
            self._count_correctable(known, -1)
            violation.charges, violation.released = known.charges, known.released
            self._clear_charges(violation)
            self._replace(known, violation)
            self._count_correctable(violation, 1)
        insort(self.standing, violation, key=WALK_ORDER)
        self.last_taken = max(self.last_taken, WALK_ORDER(violation))
        return violation

    def stand_down(self, violation: Violation) -> Violation:
        """Let a violation stand no longer."""
        self._count(violation, -1)
        violation.standing = False
        self._clear_charges(violation)
        del self.standing[self.place(WALK_ORDER(violation))]
        return violation

    def place(self, walk_order: tuple[int, str]) -> int:
        """Index in `standing` of the first violation at or after a place in the walk."""
        return bisect_left(self.standing, walk_order, key=WALK_ORDER)

    def version_of(self, violation: Violation) -> Version | None:
        """Return the version that a violation is judged by; `None` if no rules are left for it."""
        return self._rulebook.version_of(violation.platform, violation.placed_at, violation.paid_at)

    # Allocation

    def allocate(self, violation: Violation) -> None:
        """Allocate the last violation of the walk; without rules it keeps what it has."""
        version = self.version_of(violation)
        if version is not None:
            self._allocation.take(violation, version)

    def allocate_from(self, instant: int) -> list[Violation]:
        """Allocate again all that was determined at an instant or later; returns what changed."""
        again = self.standing[self.place((instant, "")) :]
        for violation in again:
            self._count(violation, -1)
        changed = []
        for violation in again:
            before = _allocated(violation)
            self.allocate(violation)
            if before != _allocated(violation):
                changed.append(violation)
        return changed

    def _count(self, violation: Violation, times: int = 1) -> None:
        version = self.version_of(violation)
        if version is not None:
            self._allocation.count(violation, version, times)

    def _clear_charges(self, violation: Violation) -> None:
        for charge in violation.charges.values():
            charge.allocated = 0

    # Sanctions

    def exceeding(self, violation: Violation) -> Violation | None:
        """Return the violation with which an order has more than leaves its products free.

        Args:
            violation: Of the order; a ban that counts its kind comes before others.
        """
        version = self.version_of(violation)
        if version is None:
            return None
        of_order = self.orders.get(violation.order_id, ())
        others: Violation | None = None
        for sanction in version.policy.sanctions:
            if sanction.action != BAN:
                continue
            found = exceeding(sanction, of_order)
            if found is not None and violation.kind in sanction.counts:
                return found
            others = others or found
        return others

    def note_crossing(self, violation: Violation, crossings: Crossings) -> None:
        """Note the change of a violation if it makes a product's ban differ from what was told.

        Only what differs after the last change of an instant remains. An order that is not beyond
        the threshold imposes nothing; it leaves a ban to the orders that are.
        """
        beyond = self._index_order(violation)
        crossing = Crossing(violation, violation.mark, violation.counts)
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
        beyond = self.exceeding(violation) is not None
        for product_id in violation.product_ids:
            orders = self.banning.setdefault(product_id, {})
            if beyond:
                orders[order_id] = None
            else:
                orders.pop(order_id, None)
            if not orders:
                del self.banning[product_id]
        return beyond

    def actions_in_force(self, now: int) -> dict[tuple[str, str], Force]:
        """Find the actions on the shop that what stands calls for, by platform and name."""
        judged = [(each, self.version_of(each)) for each in self.standing]
        return shop_actions([(each, version) for each, version in judged if version], now)

    # Release

    def release(self, order_id: str, old_before: int) -> tuple[list[Violation], list[Violation]]:
        """Note that an order can no longer be corrected.

        Violations are dropped week by week, oldest first, once no violation of the week or before
        can be corrected and no cap or sanction of later weeks looks back at it; those of an order
        that is sanctioned or reaches into later weeks stay.

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
        old_week = self._rulebook.calendar.local_day(old_before).week_start
        final = min([old_week, *correctable]) - self._rulebook.looks_back_days * DAY_MS
        if min(self._correctable, default=final) >= final:
            return released, []
        self._correctable = {w: count for w, count in self._correctable.items() if w >= final}
        dropped = [
            violation
            for of_order in self.orders.values()
            if all(self._week(each) < final for each in of_order) and not self._sanctioned(of_order)
            for violation in of_order
        ]
        for violation in dropped:
            self._drop(violation)
        # A restored shop counts what is kept, so this one must too.
        self._allocation = Allocation()
        for violation in self.standing:
            self._count(violation)
        return released, dropped

    def _sanctioned(self, of_order: list[Violation]) -> bool:
        """Tell whether a sanction is in force for as long as an order is beyond what is allowed."""
        version = self.version_of(of_order[0])
        return version is not None and any(
            sanction.of == "order"
            and sanction.lasts is None
            and exceeding(sanction, of_order) is not None
            for sanction in version.policy.sanctions
        )

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

    def _replace(self, known: Violation, violation: Violation) -> None:
        self.violations[violation.violation_id] = violation
        of_order = self.orders[violation.order_id]
        of_order[of_order.index(known)] = violation

    def _count_correctable(self, violation: Violation, step: int) -> None:
        week = self._week(violation)
        self._correctable[week] = self._correctable.get(week, 0) + step * (not violation.released)

    def _week(self, violation: Violation) -> int:
        return self.calendar_of(violation).local_day(violation.determined_at).week_start

    def calendar_of(self, violation: Violation) -> Calendar:
        """Return the calendar of the rules that a violation is judged by."""
        version = self.version_of(violation)
        return self._rulebook.calendar if version is None else version.clock.calendar


def _allocated(violation: Violation) -> list[tuple[str, int]]:
    return [(name, each.allocated) for name, each in violation.charges.items() if each.allocated]
