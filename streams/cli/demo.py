"""`shipclock demo`: a sale and the six days after it, in a minute, on a real Kafka."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.configured import configured
from streams.demo.surge import ORDERS_MAX, ORDERS_MIN
from streams.kafka.connection import Connection


@configured
def demo(
    orders: Annotated[
        int, typer.Option(min=ORDERS_MIN, max=ORDERS_MAX, help="Orders of the sale.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="Another seed is another sale.")] = 1,
    speed: Annotated[
        int, typer.Option(min=60, max=100_000, help="Seconds of the story a second.")
    ] = 10_800,
    yes: Annotated[
        bool, typer.Option("--yes", help="On a Kafka of yours: write there without asking.")
    ] = False,
    *,
    guest_at: Connection | None,
) -> None:
    """Play a sale and the six days after it on a real Kafka, in about a minute.

    Orders, uploads and scans go through the real topics; a real worker judges them under its
    usual rules, with a clock that runs faster. Timeouts, penalties, bans and corrections are shown
    as they come, and at the end all of it must add up. Ctrl-C stops it and leaves nothing behind.
    Without --bootstrap or --config it runs a Kafka of its own, thrown away at the end; a Kafka of
    yours must have empty shipclock topics, or none.
    """
    from streams.cli.performance import perform

    perform(guest_at, orders, seed, speed, yes)
