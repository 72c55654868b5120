"""What an exemption covers of what is known: orders, and what they were fined so far."""

from __future__ import annotations

from collections.abc import Iterable

from streams.codec.state import unpack_order
from streams.core.facts.events import ExemptionGranted
from streams.core.facts.order import OrderState, subject_of
from streams.core.rules.book import Rulebook
from streams.core.rules.exemptions import covers
from streams.core.rules.judging import clock_of
from streams.engine.orders_changelog import FIRST_ORDER_KEY
from streams.engine.shops_task import unpack_violation

Entries = Iterable[tuple[bytes | None, bytes | None]]


class Coverage:
    """The orders with a running clock that an exemption covers, and their standing violations.

    Feed it records in log order: the whole orders changelog, then the whole shops changelog.
    """

    def __init__(self, exemption: ExemptionGranted, rulebook: Rulebook) -> None:
        self._exemption = exemption
        self._rulebook = rulebook
        self._kinds: dict[bytes, tuple[str, ...]] = {}
        """The covered kinds of each covered order."""
        self._fines: dict[bytes, tuple[tuple[str, int], ...]] = {}
        """Unit and amount of what is booked of each standing violation."""

    @property
    def orders(self) -> int:
        """How many orders are covered."""
        return len(self._kinds)

    @property
    def violations(self) -> int:
        """How many violations of the covered orders and kinds stand."""
        return len(self._fines)

    @property
    def totals(self) -> dict[str, int]:
        """What is booked of the standing violations, by unit."""
        totals: dict[str, int] = {}
        for booked in self._fines.values():
            for unit, amount in booked:
                totals[unit] = totals.get(unit, 0) + amount
        return {unit: totals[unit] for unit in sorted(totals) if totals[unit]}

    def orders_changelog(self, entries: Entries) -> None:
        """Take the next records of any partition.

        Raises:
            StateVersionError: A newer program wrote a state.
        """
        for key, value in entries:
            if key is None or key < FIRST_ORDER_KEY:
                continue
            kinds = () if value is None else self._covered(key.decode(), unpack_order(value))
            if kinds:
                self._kinds[key] = kinds
            else:
                self._kinds.pop(key, None)

    def shops_changelog(self, entries: Entries) -> None:
        """Take the next records of any partition.

        Raises:
            StateVersionError: A newer program wrote a state.
        """
        for key, value in entries:
            if key is None or key < FIRST_ORDER_KEY:
                continue
            self._fines.pop(key, None)
            if value is None:
                continue
            one = unpack_violation(value)
            if one.standing and one.kind in self._kinds.get(one.order_id.encode(), ()):
                self._fines[key] = tuple((each.unit, each.booked) for each in one.charges.values())

    def _covered(self, order_id: str, state: OrderState) -> tuple[str, ...]:
        order = state.order
        if order is None:
            return ()
        terms = self._rulebook.terms_of(order)
        if terms is None:
            return ()
        subject = subject_of(order_id, order, terms.version.policy.platform)
        kinds = []
        for kind, _, deadline in terms.kinds:
            running = deadline and clock_of(terms, deadline, order, state.uploaded_at)
            if running and covers(self._exemption, kind, subject, running[1]):
                kinds.append(kind)
        return tuple(kinds)
