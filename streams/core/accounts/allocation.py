"""What each standing violation of a shop costs: points and deposit under their caps.

What lives here: the caps of the shop's account, as one walk over its standing violations in
(determined_at, violation_id) order. What must not: what has been booked already, and when a
booking takes effect (`shops`).

A charge that would exceed a cap is not made at all, is not carried over, and uses none of its
order's charges.
"""

from __future__ import annotations

from typing import TypeVar

from streams.core.rules.policy import Policy
from streams.core.time.calendar import LocalDay

_Key = TypeVar("_Key", int, str)


class Allocation:
    """Running totals of one shop's walk; feed it standing violations in order."""

    __slots__ = ("_charges", "_deposit", "_deposit_day", "_points", "_points_day", "_points_week")

    def __init__(self, policy: Policy) -> None:
        self._points = policy.points
        self._deposit = policy.deposit
        self._points_day: dict[int, int] = {}
        self._points_week: dict[int, int] = {}
        self._deposit_day: dict[int, int] = {}
        self._charges: dict[str, int] = {}

    def take(self, order_id: str, day: LocalDay) -> tuple[int, int]:
        """Allocate the next violation, determined on a day.

        Returns:
            Points in the policy's unit, and deposit in minor units; 0 where a cap is reached.
        """
        points, deposit = self._points_left(day), self._deposit_left(order_id, day)
        self.count(order_id, day, points, deposit)
        return points, deposit

    def count(
        self, order_id: str, day: LocalDay, points: int, deposit: int, times: int = 1
    ) -> None:
        """Count what an earlier walk allocated; `times` -1 takes it back."""
        if points:
            _add(self._points_day, day.start, points * times)
            _add(self._points_week, day.week_start, points * times)
        if deposit:
            _add(self._deposit_day, day.start, deposit * times)
            _add(self._charges, order_id, times)

    def _points_left(self, day: LocalDay) -> int:
        rules = self._points
        if (
            rules is None
            or _exceeds(self._points_day.get(day.start, 0), rules.per_violation, rules.daily_max)
            or _exceeds(
                self._points_week.get(day.week_start, 0), rules.per_violation, rules.weekly_max
            )
        ):
            return 0
        return rules.per_violation

    def _deposit_left(self, order_id: str, day: LocalDay) -> int:
        rules = self._deposit
        if (
            rules is None
            or _exceeds(self._charges.get(order_id, 0), 1, rules.charges_per_order_max)
            or _exceeds(self._deposit_day.get(day.start, 0), rules.per_violation, rules.daily_max)
        ):
            return 0
        return rules.per_violation


def _add(totals: dict[_Key, int], key: _Key, amount: int) -> None:
    totals[key] = totals.get(key, 0) + amount


def _exceeds(used: int, more: int, limit: int | None) -> bool:
    return limit is not None and used + more > limit
