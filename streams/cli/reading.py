"""What the commands share that read a cluster's logs: progress, and notes beside the output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from streams.cli.interrupt import tidied_up
from streams.cli.printable import printable
from streams.core.errors import UserError
from streams.core.words import counted, shortened

if TYPE_CHECKING:
    from streams.kafka.connection import Connection
    from streams.runtime.lookup import NoteListener, ProgressListener

T = TypeVar("T")


def read_logs(
    read: Callable[[ProgressListener, NoteListener], Coroutine[Any, Any, T]],
) -> T:
    """Run what reads, with a progress bar in a terminal; print its notes on standard error.

    Raises:
        UserError: The logs cannot be read.
    """
    from rich.console import Console
    from rich.progress import Progress

    from streams.codec.state import StateVersionError

    console = Console(stderr=True)
    notes: list[str] = []
    try:
        with (
            tidied_up(),
            Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
        ):
            task = bar.add_task("Reading the logs", total=None)

            def show(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            return asyncio.run(read(show, notes.append))
    except StateVersionError as error:
        raise UserError(str(error), "a newer shipclock wrote it: read it with that one") from None
    finally:
        for text in notes:
            typer.echo(printable(f"note: {text}"), err=True)


def homes_of(connection: Connection, order_ids: Sequence[str]) -> dict[str, int]:
    """Find the partitions in which some orders are known; leave out those known nowhere.

    Raises:
        UserError: The logs cannot be read.
    """
    from streams.runtime import lookup

    return read_logs(lambda show, note: lookup.homes_of(connection, order_ids, show, note))


def told_of_unknown(order_ids: Sequence[str], homes: Mapping[str, int]) -> None:
    """Say, beside the output, which orders no worker knows."""
    unknown = [order_id for order_id in order_ids if order_id not in homes]
    if unknown:
        typer.echo(
            printable(
                f"note: {counted(len(unknown), 'order')} not known to any worker, the first "
                f"{shortened(unknown[0])}: nothing changes until its order-paid is taken, in the "
                "partition its key belongs in"
            ),
            err=True,
        )
