"""What one violation costs before caps: a fixed amount, or a share of what the order cost.

What lives here: tiers, rounding, minimum and maximum. What must not: caps (`allocation`).
"""

from __future__ import annotations

from streams.core.rules.policy import Amount

_PER_MILLE = 1_000


def charge_of(amount: Amount, paid_amount: int, goods_amount: int | None) -> int:
    """Return the charge for an order, in the account's smallest unit.

    Args:
        goods_amount: The paid amount stands in for it where the order does not say.
    """
    basis = paid_amount
    if amount.of == "goods_amount" and goods_amount is not None:
        basis = goods_amount
    for tier in amount.tiers:
        if tier.up_to is None or basis <= tier.up_to:
            charge = max(tier.flat + basis * tier.per_mille // _PER_MILLE, tier.at_least)
            return charge if tier.at_most is None else min(charge, tier.at_most)
    return 0
