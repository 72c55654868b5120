"""What a dead letter says of a fact that its order's history refuses, and how to send it instead.

Here, beside the rules that refuse; `orders` decides, the words are these. They are bytes of output:
the same log gives the same words.
"""

from __future__ import annotations

from streams.core.facts.instants import both_ways
from streams.core.facts.order import Order

OTHER_EXEMPTION = (
    "another exemption of this id stands; grant what was meant under an exemption_id of its own"
)


def other_order_paid(stands: Order, sent: Order) -> str:
    """Say in what a second order-paid differs from the one that stands."""
    if sent.shop_id != stands.shop_id:
        return (
            f"another order-paid of this order stands, of shop {stands.shop_id}; an order has one "
            "shop: send a basket of several shops as one order a shop"
        )
    fields = [
        name for name in Order.__struct_fields__ if getattr(stands, name) != getattr(sent, name)
    ]
    detail = f"another order-paid of this order stands, with another {', '.join(fields)}"
    if "promised_ship_by" in fields:
        detail += "; to move the deadline, send an exemption-granted that names the order"
    return detail


def too_late(at: int, oldest: int) -> str:
    """Say why a fact of an unknown order is not waited with."""
    return (
        f"the order is not known, and {both_ways(at)} lies before {both_ways(oldest)}: facts this "
        "old need record timestamps of their own time, and must come in time order"
    )


def no_order(due: int) -> str:
    """Say that the order of a waiting fact did not come."""
    return f"no order-paid of its order came until {both_ways(due)}"
