"""`shipclock appeal`: publish an appeal's outcome."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from streams.cli.configured import configured
from streams.cli.options import (
    Policies,
    order_of_violation,
)
from streams.cli.times import TIME_FORMS, instant, now_ms
from streams.kafka.connection import Connection
from streams.rulebook import load_rulebook


@configured
def appeal(
    violation_id: Annotated[
        str, typer.Argument(metavar="VIOLATION_ID", help="As in ORDER:late-scan:1.")
    ],
    outcome: Annotated[Literal["granted", "rejected"], typer.Argument()],
    appeal_id: Annotated[
        str | None,
        typer.Option("--id", metavar="APPEAL_ID", help="Its name.", show_default="A-VIOLATION_ID"),
    ] = None,
    decided_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help=f"When: {TIME_FORMS}.",
            show_default="now",
        ),
    ] = None,
    *,
    connection: Connection,
    policies: Policies,
) -> None:
    """Publish the outcome of an appeal against one violation.

    A granted appeal is final: the violation never stands again, its charges are reversed, and a
    later `rejected` changes nothing. It also holds for a violation that is not determined yet.
    A worker may still refuse it, as no-order or too-late: `shipclock dead-letters` tells.
    """
    import msgspec

    from streams.cli.publishing import checked, publish_one, told_of_refusals
    from streams.cli.reading import homes_of, told_of_unknown
    from streams.codec.decode import Decoder
    from streams.core.facts.events import AppealDecided

    order_id = order_of_violation(violation_id)
    rulebook, now = load_rulebook(policies), now_ms()
    decided = AppealDecided(
        appeal_id=f"A-{violation_id}" if appeal_id is None else appeal_id,
        decided_at=now
        if decided_at is None
        else instant(decided_at, "--decided-at", rulebook.time_zone),
        order_id=order_id,
        outcome=outcome,
        violation_id=violation_id,
    )
    value = msgspec.json.encode(decided)
    event = checked(Decoder(rulebook), "appeal-decided", value, now)
    event = event._replace(homes=homes_of(connection, [decided.order_id]))
    publish_one(connection, event)
    typer.echo(f"appeal {decided.appeal_id} {outcome}: published for {violation_id}")
    told_of_refusals()
    told_of_unknown([decided.order_id], event.homes)
