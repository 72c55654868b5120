"""`shipclock simulate`: judge a file of events without a broker."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.event_files import event_lines
from streams.cli.options import POLICIES
from streams.cli.printable import printable, printable_json
from streams.cli.times import TIME_FORMS, instant
from streams.core.words import counted, shortened
from streams.rulebook import load_rulebook
from streams.settings import Sources, load


def simulate(
    events: Annotated[
        Path,
        typer.Argument(
            metavar="EVENTS.jsonl",
            help='JSON lines {"topic", "timestamp"?, "partition"?, "key"?, "value" or "raw"}, '
            "where both stand the value counts; - reads standard input.",
        ),
    ],
    policies: Annotated[list[str] | None, POLICIES] = None,
    until: Annotated[
        str,
        typer.Option(
            metavar="TIME|drain",
            help="Stop before this time; drain: take all records and let every timer fire. A time "
            f"is {TIME_FORMS}.",
        ),
    ] = "drain",
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort the lines by timestamp before they are judged.")
    ] = False,
) -> None:
    """Judge a file of events with the worker's own code; outputs go to standard output.

    One JSON line a record, {"key", "topic", "value"}, in the order a worker would emit them. What
    was refused, and whether lines are not in time order, is summed up on standard error.
    """
    from streams.engine.simulate import simulate_file

    # As a worker in the same environment would judge.
    if policies is None:
        policies = load(Sources(None, os.environ, {})).policies
    rulebook = load_rulebook(policies)
    end = None if until == "drain" else instant(until, "--until", rulebook.time_zone)
    with event_lines(events) as file:
        simulation = simulate_file(file, rulebook, end, sort)
    sys.stdout.buffer.writelines(printable_json(line) + b"\n" for line in simulation.lines)
    sys.stdout.buffer.flush()
    for one in simulation.refusals:
        note = (
            f"note: {counted(one.records, 'record')} refused as {one.reason}, the first in line "
            f"{one.line}: {shortened(one.topic)}: {one.detail}"
        )
        typer.echo(printable(note), err=True)
    if simulation.disorder is not None:
        older, newer = simulation.disorder
        typer.echo(
            f"note: lines are not in time order: line {older} is older than line {newer} of its "
            "topic and counts as of the same time; --sort sorts them by time",
            err=True,
        )
