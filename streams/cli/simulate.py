"""`shipclock simulate`: judge a file of events without a broker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.options import DEFAULT_POLICY, PolicyName, event_lines, instant
from streams.cli.printable import printable_json
from streams.policies import load_policy


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
    from streams.engine.simulate import simulate as run

    rules = load_policy(policy)
    end = None if until == "drain" else instant(until, "--until")
    with event_lines(events) as file:
        lines = run(file, rules, end)
    sys.stdout.buffer.writelines(printable_json(line) + b"\n" for line in lines)
    sys.stdout.buffer.flush()
