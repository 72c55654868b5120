"""`shipclock demo`: a sale and the six days after it, in a minute, on a real Kafka."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.demo.surge import ORDERS_MAX, ORDERS_MIN


def demo(
    bootstrap: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A Kafka of yours; the demo fills its shipclock topics, which must be empty.",
            show_default="an own one, thrown away at the end",
        ),
    ] = None,
    orders: Annotated[
        int, typer.Option(min=ORDERS_MIN, max=ORDERS_MAX, help="Orders of the sale.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="Another seed is another sale.")] = 1,
    speed: Annotated[
        int, typer.Option(min=60, max=100_000, help="Seconds of the story a second.")
    ] = 10_800,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --bootstrap: write there without asking.")
    ] = False,
) -> None:
    """Play a sale and the six days after it on a real Kafka, in about a minute.

    Orders, uploads and scans go through the real topics; a real worker judges them under its
    usual rules, with a clock that runs faster. Timeouts, penalties, bans and corrections are shown
    as they come, and at the end all of it must add up. Ctrl-C stops it and leaves nothing behind.
    """
    from streams.cli.performance import perform
    from streams.kafka.connection import Connection

    perform(None if bootstrap is None else Connection(bootstrap), orders, seed, speed, yes)
