"""`shipclock topics`: create the topics from their files, or check that they agree."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.connecting import connected
from streams.core.errors import UserError
from streams.kafka.connection import Connection

if TYPE_CHECKING:
    from streams.kafka.topic_admin import TopicState

app = typer.Typer(
    no_args_is_help=True, help="Create the Kafka topics from their files, or check them."
)

Partitions = Annotated[
    int | None,
    typer.Option(min=1, help="Partitions of every topic.", show_default="as in the files"),
]
ShopPartitions = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Partitions of shop-violations and shops-changelog.",
        show_default="as --partitions",
    ),
]


@app.command()
@connected
def create(
    *,
    connection: Connection,
    partitions: Partitions = None,
    shop_partitions: ShopPartitions = None,
    replication_factor: Annotated[
        int, typer.Option(min=-1, help="Copies of each partition; -1: the broker's default.")
    ] = -1,
) -> None:
    """Create the topics that are missing. Existing ones are compared, never changed."""
    from streams.kafka.topic_admin import ensure_topics

    _run(
        ensure_topics(
            connection,
            partitions,
            shop_partitions=shop_partitions,
            replication_factor=replication_factor,
        )
    )


@app.command()
@connected
def check(
    *,
    connection: Connection,
    partitions: Partitions = None,
    shop_partitions: ShopPartitions = None,
) -> None:
    """Compare partitions and settings with the files; exit with 1 if anything differs."""
    from streams.kafka.topic_admin import check_topics

    _run(check_topics(connection, partitions, shop_partitions=shop_partitions))


def _run(work: Coroutine[Any, Any, list[TopicState]]) -> None:
    states = asyncio.run(work)
    _show(states)
    missing = sum(state.status == "missing" for state in states)
    different = sum(bool(state.differences) for state in states)
    if missing:
        raise UserError(
            f"{missing} of {len(states)} topics {'is' if missing == 1 else 'are'} missing",
            "shipclock topics create",
        )
    if different:
        raise UserError(
            f"{different} of {len(states)} topics "
            + ("differs from its file" if different == 1 else "differ from their files"),
            "change settings with Kafka's kafka-configs.sh; give other counts with --partitions",
        )


def _show(states: list[TopicState]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("topic", "partitions", "cleanup", "retention", "largest", "status", box=None)
    for state in states:
        file = state.file
        status = state.status if state.agrees or not state.differences else "differs"
        colour = "green" if state.agrees else "red"
        table.add_row(
            file.topic,
            str(file.partitions),
            file.cleanup,
            file.retention,
            file.max_message,
            f"[{colour}]{status}[/]",
        )
    console = Console()
    console.print(table)
    for state in states:
        for difference in state.differences:
            console.print(f"{state.file.topic}: {difference}", highlight=False, soft_wrap=True)
