"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from streams.core.errors import UserError
from streams.core.facts.inputs import INPUT_TOPICS
from streams.core.words import shortened
from streams.settings import KEYS

DEFAULT_POLICY = KEYS["policy"].default

Part = Literal["worker", "commands", "topics", "producer", "consumer"]
"""What needs rights of its own on a cluster that asks for them."""
POLICIES = typer.Option(
    "--policy",
    metavar="NAME|FILE|FOLDER",
    help="The rules: a policy's name, a TOML file or a folder of some; may be given repeatedly.",
    show_default=f"as in the settings, else {DEFAULT_POLICY}",
)
Policies = Annotated[list[str], POLICIES]


def input_topic(name: str) -> str:
    """Take the name of an input topic.

    Raises:
        UserError: It is none.
    """
    if name not in INPUT_TOPICS:
        raise UserError(
            f"{shortened(name)} is no input topic", f"input topics: {', '.join(INPUT_TOPICS)}", 2
        )
    return name


def order_of_violation(violation_id: str) -> str:
    """Return the order a violation_id names.

    Raises:
        UserError: It is not a valid violation_id.
    """
    if not re.fullmatch(r"[^:]+:[^:]+:[1-9]\d{0,8}", violation_id):
        raise UserError(
            f"{shortened(violation_id)!r} is not a valid violation_id",
            "it is ORDER:KIND:N, as O1:late-scan:1; `shipclock explain ORDER` lists them",
            exit_code=2,
        )
    return violation_id.partition(":")[0]
