"""The two stages of the product as the runtime sees them."""

from __future__ import annotations

from collections.abc import Mapping

from streams.core.events import INPUT_TOPICS
from streams.core.policy import Policy
from streams.engine.orders_task import OrdersTask
from streams.engine.records import ORDERS_CHANGELOG, SHOP_VIOLATIONS, SHOPS_CHANGELOG
from streams.engine.shops_task import ShopsTask
from streams.runtime.rules import RulesAssignor
from streams.runtime.stage import Stage


def product_stages(
    policy: Policy, app_id: str, *, policy_change: bool = False
) -> tuple[Stage, Stage]:
    """Return the orders stage and, behind it, the shops stage.

    Args:
        policy_change: Replace other rules that are at work.
    """
    rules = RulesAssignor(policy.label, policy.digest, changes=policy_change)

    def orders_task(partition: int, counts: Mapping[str, int]) -> OrdersTask:
        return OrdersTask(
            partition, policy, counts[SHOP_VIOLATIONS], live=True, app_id=app_id,
            partitions=counts[INPUT_TOPICS[0]],
        )  # fmt: skip

    def shops_task(partition: int, counts: Mapping[str, int]) -> ShopsTask:
        return ShopsTask(
            partition, policy, sources=counts[INPUT_TOPICS[0]], app_id=app_id,
            partitions=counts[SHOP_VIOLATIONS],
        )  # fmt: skip

    orders = Stage(
        name="orders",
        inputs=INPUT_TOPICS,
        outputs=(
            "timeout",
            "deadline-warning",
            "order-closure",
            "notification",
            "dead-letter",
            SHOP_VIOLATIONS,
        ),
        changelog=ORDERS_CHANGELOG,
        siblings=(),
        new_task=orders_task,
        rules=rules,
    )
    shops = Stage(
        name="shops",
        inputs=(SHOP_VIOLATIONS,),
        outputs=("penalty", "product-ban", "notification", "dead-letter"),
        changelog=SHOPS_CHANGELOG,
        siblings=INPUT_TOPICS[:1],
        new_task=shops_task,
        rules=rules,
    )
    return orders, shops
