"""`shipclock policy try`: what rules would do to events, beside what others do."""

from __future__ import annotations

import csv
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.event_files import event_lines
from streams.cli.printable import printable
from streams.cli.times import TIME_FORMS, instant
from streams.core.errors import UserError
from streams.core.facts.money import money
from streams.core.words import counted
from streams.rulebook import load_rulebook
from streams.settings import Sources, load

if TYPE_CHECKING:
    from streams.engine.trial import OrderChange, Row, Trial


def try_command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME|FILE|FOLDER...", help="The rules to try, together one rulebook."
        ),
    ],
    events: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE",
            help="JSON lines as `simulate` reads them; - reads standard "
            "input. Several files are read one after the other.",
        ),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE|FOLDER",
            help="The rules to compare with; may be given several times.",
            show_default="as in the settings",
        ),
    ] = None,
    until: Annotated[
        str,
        typer.Option(
            metavar="TIME|drain",
            help=f"Stop before this time; drain: let every timer fire. A time is {TIME_FORMS}.",
        ),
    ] = "drain",
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort the lines by timestamp first.")
    ] = False,
    orders: Annotated[
        bool, typer.Option("--orders", help="Also each order that comes out otherwise.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated lines.")] = False,
) -> None:
    """Show what rules would do to events, beside the rules of today; nothing is published.

    Totals by shop, kind and account of what stands at the end: violations, money, points, bans.
    """  # fmt: skip
    from streams.engine.trial import try_rules

    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other", "give one of them", 2)
    after = load_rulebook(files)
    before = load_rulebook(against or load(Sources(None, os.environ, {})).policies)
    end = None if until == "drain" else instant(until, "--until", after.time_zone)
    with ExitStack() as stack:
        opened = [stack.enter_context(event_lines(path)) for path in events]
        lines = (line for file in opened for line in file)
        trial = try_rules(lines, before, after, end, by_time=sort)
    if as_json:
        _print_json(trial, before.label, after.label, orders=orders)
    elif as_csv:
        _print_csv(trial, orders=orders)
    else:
        _print_table(trial, before.label, after.label, orders=orders)


def _print_json(trial: Trial, before: str, after: str, *, orders: bool) -> None:
    import msgspec

    shown = {
        "after": after,
        "before": before,
        "refused": {"after": trial.refused[1], "before": trial.refused[0]},
        "totals": [
            row._asdict() | {"after": now, "before": was} for row, (was, now) in trial.rows.items()
        ],
    }
    if orders:
        shown["orders"] = msgspec.to_builtins(trial.orders)
    typer.echo(json.dumps(shown, ensure_ascii=False))


def _print_csv(trial: Trial, *, orders: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if orders:
        writer.writerow(["shop", "order", "what", "before", "after"])
        for change in trial.orders:
            for what, was, now in _changes(change):
                writer.writerow([change.shop_id, change.order_id, what, was, now])
        return
    writer.writerow(["shop", "kind", "what", "unit", "before", "after"])
    for row, (was, now) in trial.rows.items():
        writer.writerow([*row, was, now])


def _changes(change: OrderChange) -> list[tuple[str, int, int]]:
    names = dict.fromkeys([*change.before, *change.after])
    return [
        (name, change.before.get(name, 0), change.after.get(name, 0))
        for name in names
        if change.before.get(name, 0) != change.after.get(name, 0)
    ]


def _print_table(trial: Trial, before: str, after: str, *, orders: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("shop", "kind", "", before, after, "change", box=None)
    for row, (was, now) in trial.rows.items():
        change = f"{'+' if now > was else ''}{_amount(row, now - was)}" if was != now else ""
        cells = (row.shop, row.kind, row.what, _amount(row, was), _amount(row, now), change)
        table.add_row(*map(printable, cells))
    if trial.rows:
        console.print(table)
    else:
        typer.echo("nothing stands under either")
    for each in trial.orders if orders else ():
        said = ", ".join(f"{what} {was} -> {now}" for what, was, now in _changes(each))
        typer.echo(printable(f"order {each.order_id} of {each.shop_id}: {said}"))
    was, now = trial.refused
    refused = "" if was == now == 0 else f"; dead letters {was} -> {now}"
    more = "" if orders or not trial.orders else "; --orders lists them"
    typer.echo(f"{counted(len(trial.orders), 'order')} differ{refused}{more}")


def _amount(row: Row, amount: int) -> str:
    return money(amount, row.unit) if row.unit else str(amount)
