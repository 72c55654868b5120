"""What rules would do to a log: totals under two rulebooks, and where orders differ.

What lives here: folding what a simulation puts out into what stands. What must not: judging
(`simulate`), and how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from streams.core.rules.book import Rulebook
from streams.engine.simulate import Simulation, simulate_file


class Row(NamedTuple):
    """What is counted: of a shop, a kind of violation, and what.

    `what` is `violations`, an account, `bans` or `actions`; of the last two `kind` is their name.
    """

    shop: str
    kind: str
    what: str
    unit: str


class OrderChange(Struct, frozen=True, kw_only=True):
    """An order that comes out otherwise."""

    after: dict[str, int]
    """Standing violations by kind, and amounts by unit."""
    before: dict[str, int]
    order_id: str
    shop_id: str


class Trial(NamedTuple):
    """What stands of a log under two rulebooks."""

    rows: dict[Row, tuple[int, int]]
    """Before and after, in the order of the rows."""
    orders: list[OrderChange]
    """Those that differ, by order_id."""
    refused: tuple[int, int]
    """Dead letters."""


class _Standing:
    """What stands of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self.rows: dict[Row, int] = {}
        self.orders: dict[str, dict[str, int]] = {}
        self.shops: dict[str, str] = {}
        self.refused = sum(each.records for each in simulation.refusals)
        self._kinds: dict[str, str] = {}
        for line in simulation.lines:
            record = msgspec.json.decode(line)
            self._add(record["topic"], record["value"])
        self.rows = {row: amount for row, amount in self.rows.items() if amount}

    def _add(self, topic: str, value: dict[str, Any]) -> None:
        if topic == "timeout":
            step = 1 if value["type"] == "timeout.determined" else -1
            kind = self._kinds[value["violation_id"]] = value["kind"]
            self._count(Row(value["shop_id"], kind, "violations", ""), value, step, kind)
        elif topic == "penalty":
            kind = self._kinds[value["violation_id"]]
            row = Row(value["shop_id"], kind, value["account"], value["unit"])
            self._count(row, value, value["amount"], value["unit"])
        elif topic == "product-ban":
            step = 1 if value["type"] == "product-ban.imposed" else -1
            self._count(Row(value["shop_id"], "product-ban", "bans", ""), value, step, "bans")
        elif topic == "shop-action":
            step = 1 if value["type"] == "shop-action.imposed" else -1
            self._count(Row(value["shop_id"], value["action"], "actions", ""), value, step, "")

    def _count(self, row: Row, value: dict[str, Any], amount: int, of_order: str) -> None:
        self.rows[row] = self.rows.get(row, 0) + amount
        if of_order:
            totals = self.orders.setdefault(value["order_id"], {})
            totals[of_order] = totals.get(of_order, 0) + amount
            self.shops[value["order_id"]] = value["shop_id"]


def try_rules(
    lines: Iterable[bytes], before: Rulebook, after: Rulebook, until: int | None, *, by_time: bool
) -> Trial:
    """Judge a log by two rulebooks; nothing is put out.

    Args:
        lines: As `simulate_file` takes them.
        until: As there.
        by_time: As there.

    Raises:
        BadLine: A line is not an event line, or an order stands in two partitions.
    """
    log = list(lines)
    old = _Standing(simulate_file(log, before, until, by_time))
    new = _Standing(simulate_file(log, after, until, by_time))
    rows = {
        row: (old.rows.get(row, 0), new.rows.get(row, 0)) for row in sorted(old.rows | new.rows)
    }
    shops = old.shops | new.shops
    orders = []
    for order_id in sorted(shops):
        was, now = (
            {
                name: amount
                for name, amount in sorted(side.orders.get(order_id, {}).items())
                if amount
            }
            for side in (old, new)
        )
        if was != now:
            orders.append(
                OrderChange(after=now, before=was, order_id=order_id, shop_id=shops[order_id])
            )
    return Trial(rows, orders, (old.refused, new.refused))
