"""What the publishing commands share: say what a worker would refuse, and send the rest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING

import typer
from msgspec.structs import fields

from streams.cli.interrupt import tidied_up
from streams.cli.options import input_topic
from streams.cli.times import now_ms
from streams.codec.decode import Decoder, Refused
from streams.core.errors import UserError
from streams.core.facts.inputs import INPUT_OF_TOPIC
from streams.core.words import counted
from streams.engine.event_file import LINE_HINT, envelope_of, lenient, own_time

if TYPE_CHECKING:
    from streams.cli.past import Past
    from streams.kafka.connection import Connection
    from streams.runtime.publish import InputEvent


Batches = Callable[[], "AsyncIterator[list[InputEvent]]"]


def logged(text: bytes) -> tuple[str, bytes, int]:
    """Read topic, value and timestamp of a line that `simulate` takes.

    Partition and key follow from the value.

    Raises:
        UserError: It is no such line.
    """
    try:
        line = envelope_of(text)
    except ValueError as error:
        raise UserError(str(error), LINE_HINT, exit_code=2) from None
    topic, value, at = input_topic(line.topic), bytes(line.value), line.timestamp
    if not value:
        if line.raw is None:
            raise UserError("there is no `value`: write the event into it", LINE_HINT, exit_code=2)
        value = line.raw.encode()
    if at is None:
        at = own_time(topic, lenient(value))
    # Without one the event is refused anyway, for that.
    return topic, value, now_ms() if at is None else at


def checked(decoder: Decoder, topic: str, value: bytes, timestamp_ms: int) -> InputEvent:
    """Check an event before it is sent.

    Raises:
        UserError: A worker would refuse it.
    """
    from streams.runtime.publish import prepare

    try:
        return prepare(decoder, topic, value, timestamp_ms)
    except Refused as refused:
        raise UserError(
            f"{topic} is refused as {refused.reason}: {refused.detail}",
            _hint(topic, refused),
            exit_code=2,
        ) from None


def publish_one(connection: Connection, event: InputEvent) -> tuple[int, int]:
    """Send one event, all its copies at once; return how many, and its topic's partition count.

    Raises:
        UserError: The cluster cannot be reached or refuses; nothing was sent.
    """
    from streams.runtime.publish import publisher

    async def publish() -> tuple[int, int]:
        async with publisher(connection) as connected:
            await connected.publish([event])
            return len(connected.targets(event)), connected.partitions(event.topic)

    with tidied_up():
        return asyncio.run(publish())


def publish_all(connection: Connection, batches: Batches, past: Past | None = None) -> Counter[str]:
    """Send batches as they come, each as a whole; return how many events of each topic.

    Args:
        batches: Gives them from the beginning, each time it is called.
        past: What is to be done where workers have judged later times already.

    Raises:
        UserError: The cluster cannot be reached or refuses, or the batches end in this error; it
            says how many events were sent before.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from streams.runtime.publish import publisher

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} {task.description}"))
    sent: Counter[str] = Counter()

    async def publish() -> None:
        with Progress(
            *columns, TimeElapsedColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        ) as bar:  # fmt: skip
            task = bar.add_task("events sent", total=None)

            def note(events: Iterable[InputEvent]) -> None:
                before = sent.total()
                sent.update(event.topic for event in events)
                bar.advance(task, sent.total() - before)

            async with publisher(connection) as connected:
                if past is None or not await past.send(connection, connected, batches, note):
                    async for batch in batches():
                        if past is not None:
                            past.check(batch)
                        await connected.publish(batch)
                        note(batch)

    try:
        with tidied_up():
            asyncio.run(publish())
    except UserError as error:
        if not sent:
            raise
        message = f"{error.message} ({counted(sent.total(), 'event')} sent before)"
        raise UserError(message, error.hint, error.exit_code) from None
    return sent


def told_of_refusals() -> None:
    """Say, beside the output, that sent is not taken."""
    typer.echo(
        "note: a worker may still refuse it, as conflict, no-order or too-late; "
        "`shipclock dead-letters` tells",
        err=True,
    )


def _hint(topic: str, refused: Refused) -> str:
    if refused.reason == "malformed":
        return "give one JSON object, in single quotes for the shell"
    if refused.reason == "time-in-future":
        return "times are epoch milliseconds; `send --timestamp` sets the record's own"
    if refused.detail.startswith("violation_id"):
        return "a violation_id is ORDER:KIND:N with a kind of the policy, as O1:late-scan:1"
    names = fields(INPUT_OF_TOPIC[topic].event)
    needed = ", ".join(field.name for field in names if field.required)
    optional = ", ".join(field.name for field in names if not field.required)
    return f"{topic} needs {needed}" + (f"; it may have {optional}" if optional else "")
