"""`shipclock topics`: create the topics from their files, or check that they agree."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from streams.cli.configured import configured
from streams.cli.interrupt import tidied_up
from streams.cli.options import Part
from streams.core.errors import UserError
from streams.core.words import counted
from streams.kafka.connection import Connection
from streams.settings import Loaded

if TYPE_CHECKING:
    from streams.kafka.acls import Acl
    from streams.kafka.topic_admin import TopicState

_PLACES_MAX = 20

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
@configured
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
@configured
def check(
    *,
    connection: Connection,
    partitions: Partitions = None,
    shop_partitions: ShopPartitions = None,
) -> None:
    """Compare partitions and settings with the files; exit with 1 if anything differs."""
    from streams.kafka.topic_admin import check_topics

    _run(check_topics(connection, partitions, shop_partitions=shop_partitions))


@app.command()
@configured
def copy(
    into: Annotated[
        str, typer.Option(metavar="PREFIX", help="Where to: the prefix of the topics there.")
    ],
    *,
    connection: Connection,
) -> None:
    """Copy the facts into topics with another prefix, and so into other partition counts.

    All records of the input topics as they end now, in the order of time, with their timestamps;
    each goes to the partition its key has there. The topics there must be empty and no worker may
    run there yet. What leads up to it and what follows: docs/operations.md, "Other partition
    counts".
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from streams.runtime.copying import copy_facts

    if into == connection.topic_prefix:
        raise UserError("--into names the topics that are read", "give another prefix", 2)
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} {task.description}"))
    with (
        tidied_up(),
        Progress(
            *columns, TimeElapsedColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        ) as bar,
    ):  # fmt: skip
        task = bar.add_task("records copied", total=None)

        def show(topic: str, records: int) -> None:
            bar.update(task, advance=records, description=f"records copied, now {topic}")

        copied = asyncio.run(copy_facts(connection, into, show))
    for topic, count in copied.items():
        typer.echo(f"{topic} {count:,}")
    typer.echo(f"copied {counted(copied.total(), 'record')} into topics with the prefix {into}")
    if copied.left_out:
        places = ", ".join(copied.left_out[:_PLACES_MAX])
        more = ", …" if len(copied.left_out) > _PLACES_MAX else ""
        raise UserError(
            f"left out what cannot be read or is empty, at {places}{more}; all else was copied",
            "have these facts sent again to the topics there before workers start; a batch that "
            "`dead-letters skip` has passed stands in dead-letter",
        )


@app.command()
@configured
def acls(
    principal: Annotated[
        str, typer.Option(metavar="TYPE:NAME", help="Who gets them.")
    ] = "User:shipclock",
    part: Annotated[
        Part | None, typer.Option("--for", help="Only what this needs.", show_default="all")
    ] = None,
    group: Annotated[
        str, typer.Option(help="The consumer group of the consumers of outputs.")
    ] = "shipclock-consumers",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
    as_commands: Annotated[
        bool, typer.Option("--kafka-acls", help="Lines for Kafka's kafka-acls.sh.")
    ] = False,
    *,
    loaded: Loaded,
) -> None:
    """List the access rights that a cluster with ACLs must grant, and to which part.

    `worker` judges; `commands` are explain, dead-letters, send, exempt and appeal; `topics` are
    the commands of this group; `producer` sends facts; `consumer` reads the outputs.
    """
    from streams.runtime.rights import rights_of

    found = {
        name: rights_of(name, loaded.connection, loaded.settings.app_id, group)
        for name in get_args(Part)
        if part in (None, name)
    }
    if as_json:
        for name, rights in found.items():
            for acl in rights:
                typer.echo(json.dumps({"for": name, "principal": principal, **_as_fields(acl)}))
    elif as_commands:
        for acl in dict.fromkeys(acl for rights in found.values() for acl in rights):
            typer.echo(_as_command(acl, principal, loaded.connection))
    else:
        _show_acls(found)


def _as_fields(acl: Acl) -> dict[str, str]:
    return {
        "resource": acl.resource,
        "name": acl.name,
        "pattern": "prefixed" if acl.prefixed else "literal",
        "operation": acl.operation,
    }


def _as_command(acl: Acl, principal: str, connection: Connection) -> str:
    pattern = " --resource-pattern-type prefixed" if acl.prefixed else ""
    return (
        f"kafka-acls.sh --bootstrap-server {connection.bootstrap} --add "
        f"--allow-principal {shlex.quote(principal)} --operation {acl.operation} "
        f"--{acl.resource} {acl.name}{pattern}"
    )


def _show_acls(found: Mapping[str, Sequence[Acl]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("for", "operation", "resource", box=None)
    # A name that is cut short would be granted so.
    table.add_column("name", overflow="fold", no_wrap=True)
    table.add_column("pattern")
    for name, rights in found.items():
        for acl in rights:
            fields = _as_fields(acl)
            table.add_row(name, acl.operation, acl.resource, acl.name, fields["pattern"])
    Console().print(table)


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
