"""`shipclock send`: publish input events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.configured import configured
from streams.cli.event_files import line_batches_of, whole_event
from streams.cli.options import (
    Policies,
    input_topic,
)
from streams.cli.times import TIME_FORMS, instant, now_ms
from streams.core.errors import UserError
from streams.core.words import counted
from streams.kafka.connection import Connection
from streams.rulebook import load_rulebook

if TYPE_CHECKING:
    from streams.codec.decode import Decoder
    from streams.runtime.publish import InputEvent


@configured
def send(
    topic: Annotated[
        str | None, typer.Argument(metavar="[TOPIC]", help="An input topic, as order-paid.")
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JSON|@FILE|-]...",
            help="An event; a file with an event a line, or with one event if it is named *.json; "
            "- reads lines from standard input.",
            show_default="-",
        ),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            metavar="EVENTS.jsonl",
            help="Instead, send a file as `simulate` takes it: a line names its topic, its record "
            "has the line's timestamp or the event's own time; partition and key follow from the "
            "event. - reads standard input.",
        ),
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help=f"The records' timestamp: {TIME_FORMS}.",
            show_default="now",
        ),
    ] = None,
    *,
    into_the_past: Annotated[
        bool,
        typer.Option(
            "--into-the-past",
            help="Load files of events from a time that running workers have judged already: all "
            "evidence first, payments when workers have taken it, each stamped with the time of "
            "sending.",
        ),
    ] = False,
    connection: Connection,
    policies: Policies,
) -> None:
    """Publish input events, each with the right key, to the right partitions.

    Every event is checked first as a worker checks it. Events given as arguments are sent
    together; lines are sent as they come, a megabyte at a time. What is sent together is sent as a
    whole, or not at all if a worker would refuse an event of it. An exemption goes to the
    partitions of the orders it names, or else to all, at once. What only the orders' history
    decides (conflict, no-order, too-late) shows later, in `shipclock dead-letters`.

    Lines, and events with a --timestamp, of a time that workers have judged already are refused
    without --into-the-past: orders would be fined before their scans are read.
    """
    from streams.cli.publishing import publish_all, told_of_refusals
    from streams.codec.decode import Decoder

    if (topic is None) == (events is None):
        raise UserError(
            "give either a TOPIC or --events", "as in: shipclock send order-paid -", exit_code=2
        )
    if topic is not None:
        input_topic(topic)
    if events is not None and timestamp is not None:
        raise UserError("--timestamp needs a TOPIC", "lines of --events have their own", 2)
    rulebook = load_rulebook(policies)
    at = None if timestamp is None else instant(timestamp, "--timestamp", rulebook.time_zone)
    arguments = values or ["-"]
    if events is not None:
        arguments = ["-" if events == "-" else f"@{events}"]
    reader = _Reader(Decoder(rulebook), topic, at)
    streamed = "-" in arguments
    if into_the_past and streamed:
        raise UserError("--into-the-past reads events twice", "give a file, not -", exit_code=2)
    past = None
    if into_the_past or at is not None or any(map(reader.has_lines, arguments)):
        from streams.cli.past import Past

        past = Past(rulebook, paced=into_the_past, again=not streamed)
    sent = publish_all(connection, lambda: reader.batches(arguments), past)
    topics = ", ".join(f"{topic} {count:,}" for topic, count in sent.items())
    typer.echo(f"sent {counted(sent.total(), 'event')}" + (f": {topics}" if topics else ""))
    if sent:
        told_of_refusals()


class _Reader:
    """Turns arguments and lines into checked events; without a topic, lines name their own."""

    def __init__(self, decoder: Decoder, topic: str | None, timestamp_ms: int | None) -> None:
        self._decoder = decoder
        self._topic = topic
        self._timestamp_ms = timestamp_ms

    async def batches(self, arguments: list[str]) -> AsyncIterator[list[InputEvent]]:
        """Yield what is sent together: the events given in full, then lines as they come."""
        whole = [one for one in arguments if not self.has_lines(one)]
        if whole:
            yield [self._event(_content(one)) for one in whole]
        for argument in arguments:
            if self.has_lines(argument):
                async for batch in self._lines(argument.removeprefix("@")):
                    yield batch

    def has_lines(self, argument: str) -> bool:
        """Tell whether an argument gives events line by line."""
        one_event = argument.endswith(".json") and self._topic is not None
        return argument == "-" or (argument.startswith("@") and not one_event)

    async def _lines(self, name: str) -> AsyncIterator[list[InputEvent]]:
        async for lines in line_batches_of(Path(name)):
            yield self._batch(name, lines)

    def _batch(self, name: str, lines: list[tuple[int, bytes]]) -> list[InputEvent]:
        batch = []
        for number, text in lines:
            try:
                batch.append(self._event(text) if self._topic else self._logged(text))
            except UserError as error:
                message = f"{name}: line {number}: {error.message}"
                raise UserError(message, error.hint, error.exit_code) from None
        return batch

    def _event(self, value: bytes) -> InputEvent:
        from streams.cli.publishing import checked

        now = now_ms() if self._timestamp_ms is None else self._timestamp_ms
        return checked(self._decoder, self._topic or "", value, now)

    def _logged(self, text: bytes) -> InputEvent:
        """Read a line of `simulate`'s."""
        from streams.cli.publishing import checked, logged

        return checked(self._decoder, *logged(text))


def _content(argument: str) -> bytes:
    """Read an event given in full, as text or as a file."""
    if not argument.startswith("@"):
        return argument.encode()
    return whole_event(Path(argument[1:]))
