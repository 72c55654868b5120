"""The two stages of the product as the runtime sees them."""

from __future__ import annotations

from collections.abc import Mapping

from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.rules.book import Rulebook
from streams.engine.orders_task import OrdersTask
from streams.engine.records import (
    FRONTIER_MARKS,
    ORDERS_CHANGELOG,
    SHOP_VIOLATIONS,
    SHOPS_CHANGELOG,
)
from streams.engine.shops_task import ShopsTask
from streams.runtime.rules import RulesAssignor
from streams.runtime.stage import Stage


def product_stages(
    rulebook: Rulebook, app_id: str, *, policy_change: bool = False
) -> tuple[Stage, Stage]:
    """Return the orders stage and, behind it, the shops stage.

    Args:
        policy_change: Replace other rules that are at work.
    """
    rules = RulesAssignor(rulebook.label, rulebook.digest, changes=policy_change)

    def orders_task(partition: int, counts: Mapping[str, int]) -> OrdersTask:
        return OrdersTask(
            partition, rulebook, live=True, app_id=app_id, partitions=counts[INPUT_TOPICS[0]]
        )

    def shops_task(partition: int, counts: Mapping[str, int]) -> ShopsTask:
        return ShopsTask(
            partition, rulebook, sources=counts[INPUT_TOPICS[0]], app_id=app_id,
            partitions=counts[SHOP_VIOLATIONS],
        )  # fmt: skip

    orders = Stage(
        name="orders",
        inputs=INPUT_TOPICS,
        outputs=(
            "timeout",
            "deadline-warning",
            "deadline-changed",
            "order-closure",
            "notification",
            "dead-letter",
            SHOP_VIOLATIONS,
            FRONTIER_MARKS,
        ),
        changelog=ORDERS_CHANGELOG,
        marked_by=None,
        new_task=orders_task,
        rules=rules,
    )
    shops = Stage(
        name="shops",
        inputs=(SHOP_VIOLATIONS,),
        outputs=(
            "penalty",
            "product-ban",
            "shop-action",
            "notification",
            "dead-letter",
            FRONTIER_MARKS,
        ),
        changelog=SHOPS_CHANGELOG,
        marked_by=INPUT_TOPICS[0],
        new_task=shops_task,
        rules=rules,
    )
    return orders, shops
