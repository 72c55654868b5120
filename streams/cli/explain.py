"""`shipclock explain`: why an order stands as it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.configured import configured
from streams.cli.event_files import event_lines
from streams.cli.options import (
    Policies,
    order_of_violation,
)
from streams.cli.printable import printable, printable_json
from streams.cli.reading import read_logs
from streams.cli.times import TIME_FORMS, instant
from streams.core.errors import UserError
from streams.core.words import counted, shortened
from streams.kafka.connection import Connection
from streams.rulebook import load_rulebook

if TYPE_CHECKING:
    from streams.core.rules.book import Rulebook
    from streams.engine.evidence import Evidence

_COLOURS = {"bad": typer.colors.RED, "good": typer.colors.GREEN}


@configured
def explain(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="ORDER|VIOLATION_ID",
            help="An order_id, or one violation of it as in ORDER:late-scan:1, which comes first.",
        ),
    ],
    *,
    connection: Connection,
    policies: Policies,
    events: Annotated[
        Path | None,
        typer.Option(
            metavar="EVENTS.jsonl",
            help="Judge this file as `simulate` does, instead of reading what a worker judged; "
            "- reads standard input.",
        ),
    ] = None,
    until: Annotated[
        str,
        typer.Option(metavar="TIME|drain", help=f"With --events: as of this time: {TIME_FORMS}."),
    ] = "drain",
    sort: Annotated[
        bool,
        typer.Option("--sort", help="With --events: sort its lines by timestamp, as `simulate`."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object; times are epoch milliseconds.")
    ] = False,
) -> None:
    """Tell why an order was fined, or why not.

    Facts, the deadline step by step, what each exemption did, every determination with its
    revisions, every charge or the cap that stopped it, bans and closure.
    """
    rulebook = load_rulebook(policies)
    order, violation_id = _asked(subject)
    if events is None and until != "drain":
        raise UserError("--until needs --events", "a worker's state is that of now", exit_code=2)
    if events is None and sort:
        raise UserError("--sort needs --events", "a worker judges by log time", exit_code=2)
    if events is None:
        evidence = _from_kafka(connection, order)
    else:
        end = None if until == "drain" else instant(until, "--until", rulebook.time_zone)
        evidence = _from_file(events, rulebook, end, order, sort)
    if evidence.shop_id is None:
        raise _unknown(evidence, rulebook, events)
    _show(evidence, rulebook, violation_id, as_json)


def _asked(subject: str) -> tuple[str, str | None]:
    """Tell an order_id, which has no colon, from a violation_id; return both.

    Raises:
        UserError: It is neither.
    """
    if ":" not in subject:
        return subject, None
    return order_of_violation(subject), subject


def _from_kafka(connection: Connection, order_id: str) -> Evidence:
    from streams.runtime.lookup import look_up

    return read_logs(lambda show, note: look_up(connection, order_id, show, note))


def _from_file(
    events: Path, rulebook: Rulebook, until: int | None, order_id: str, sort: bool
) -> Evidence:
    from streams.engine.evidence import evidence_of_events

    with event_lines(events) as file:
        return evidence_of_events(file, rulebook, until, order_id, sort)


def _unknown(evidence: Evidence, rulebook: Rulebook, events: Path | None) -> UserError:
    """Say what there is of an order that is not known."""
    name = f"order {shortened(evidence.order_id)}"
    if evidence.judged_by is None and events is None:
        return UserError(
            f"{name} is not known: no worker has judged its partition yet",
            "start one with `shipclock worker`, or explain a file with --events",
        )
    waiting = [] if evidence.state is None else [entry.input_id for entry in evidence.state.waiting]
    if waiting:
        from streams.core.facts.inputs import INPUT_OF_ID

        topics = ", ".join(dict.fromkeys(INPUT_OF_ID[each].topic for each in waiting))
        detail = f"facts wait for it ({topics}), but no order-paid has come"
    elif evidence.dead_letters:
        from streams.cli.explanation import resent

        letters = {letter.source.topic: letter for letter in evidence.dead_letters}
        letter = letters.get("order-paid", evidence.dead_letters[-1])
        told = f"{letter.reason}: {printable(letter.detail)}"
        detail = f"its {letter.source.topic} was refused: {told}"
        detail += resent(evidence.resent.at_ms(letter.source))
    else:
        detail = "nothing of it has been taken so far"
    kept = rulebook.policies[0].retention
    check = "that a worker runs" if events is None else "that the file has its order-paid"
    return UserError(
        f"{name} is not known: {detail}",
        f"check the order_id, and {check}; an order is forgotten "
        f"{counted(kept.clean // 86_400_000, 'day')} after its last change, "
        f"{kept.violated // 86_400_000} if it had a violation",
    )


def _show(evidence: Evidence, rulebook: Rulebook, violation_id: str | None, as_json: bool) -> None:
    import msgspec

    from streams.cli.explanation import told
    from streams.engine.explain import explain as explained

    explanation = explained(evidence, rulebook)
    known = [one.violation_id for kind in explanation.kinds for one in kind.determinations]
    if violation_id is not None and violation_id not in known:
        raise UserError(
            f"order {shortened(evidence.order_id)} has no violation {shortened(violation_id)}",
            f"it can have {printable(', '.join(known))}" if known else "no rule judges it",
        )
    if as_json:
        typer.echo(printable_json(msgspec.json.encode(explanation)))
        return
    for line in told(explanation, violation_id):
        typer.secho(
            printable(line.text),
            fg=_COLOURS.get(line.tone),
            bold=line.tone == "heading" or None,
            dim=line.tone == "quiet" or None,
        )
