"""`shipclock simulate`: judge a file of events without a broker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.errors import UserError
from streams.cli.options import DEFAULT_POLICY, PolicyName, chosen_policy, instant


def simulate(
    events: Annotated[
        Path,
        typer.Argument(
            metavar="EVENTS.jsonl",
            help='JSON lines {"topic", "timestamp"?, "partition"?, "key"?, "value" or "raw"}; '
            "- reads standard input.",
        ),
    ],
    policy: PolicyName = DEFAULT_POLICY,
    until: Annotated[
        str,
        typer.Option(
            metavar="TIME|drain",
            help="Stop before this time (epoch ms, or ISO 8601 with an offset); drain: take all "
            "records and let every timer fire.",
        ),
    ] = "drain",
) -> None:
    """Judge a file of events with the worker's own code; outputs go to standard output.

    One JSON line a record, {"key", "topic", "value"}, in the order a worker would emit them.
    """
    from streams.engine.event_file import BadLine
    from streams.engine.simulate import simulate as run

    rules = chosen_policy(policy)
    end = None if until == "drain" else instant(until, "--until")
    try:
        if str(events) == "-":
            lines = run(sys.stdin.buffer, rules, end)
        else:
            with events.open("rb") as file:
                lines = run(file, rules, end)
    except OSError as error:
        raise UserError(
            f"{events}: {error.strerror}", "give a file of JSON lines, or - for standard input", 2
        ) from None
    except BadLine as error:
        raise UserError(
            f"{events}: {error}",
            'a line is {"topic": "order-paid", "timestamp": 1670315400000, "value": {...}}',
            exit_code=2,
        ) from None
    sys.stdout.buffer.writelines(line + b"\n" for line in lines)
    sys.stdout.buffer.flush()
