"""`shipclock dead-letters`: list what was refused, take it out for repair, send it again."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
import typer
from typer.core import TyperGroup

from streams.cli.configured import configured
from streams.cli.event_files import line_batches_of
from streams.cli.interrupt import tidied_up
from streams.cli.letter_lines import as_event, as_json, as_text, repair
from streams.cli.options import (
    Policies,
    input_topic,
)
from streams.cli.printable import printable
from streams.cli.times import TIME_FORMS, instant, now_ms
from streams.core.errors import UserError
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.core.facts.instants import NEVER_MS, format_instant
from streams.core.facts.outputs import DeadLetterReason
from streams.core.words import counted
from streams.engine.records import SHOP_VIOLATIONS
from streams.kafka.connection import Connection
from streams.rulebook import load_rulebook

if TYPE_CHECKING:
    from streams.codec.decode import Decoder
    from streams.runtime.dead_letters import Letter
    from streams.runtime.publish import InputEvent

_COMPLAINTS_MAX = 20
# So many are held in memory.
_LIMIT_MAX = 1_000_000


class _Group(TyperGroup):
    """A group whose first word may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="What was refused and why: list it (the default), export it for repair, send it again.",
)

Reason = Annotated[DeadLetterReason | None, typer.Option(help="Refused for this reason.")]
SourceTopic = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help="Refused from this input topic.")
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help=f"Refused at or after this time: {TIME_FORMS}.",
    ),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Refused before this time.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, max=_LIMIT_MAX, metavar="N", help="Only the newest N.", show_default="all"),
]

Resent = Annotated[
    bool | None,
    typer.Option(
        "--resent/--unresent",
        help="Only those sent again, or only those that were not.",
        show_default="both",
    ),
]


@app.command("list")
@configured
def list_letters(
    reason: Reason = None,
    topic: SourceTopic = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    resent: Resent = None,
    by: Annotated[
        Literal["reason", "topic"] | None,
        typer.Option(help="Count them instead, with the first of each."),
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="A JSON object a line, with the refused value.")
    ] = False,
    *,
    connection: Connection,
    policies: Policies,
) -> None:
    """List dead letters, the newest last: when, why, from where, key, detail."""
    chosen = _chosen(reason, topic, since, until, limit, resent, policies)
    write = as_json if json_lines else as_text
    if by is None:
        _write(connection, chosen, write)
        return
    if limit is not None:
        raise UserError("--by counts all of them", "leave --limit out", exit_code=2)
    groups: Counter[str] = Counter()
    firsts: dict[str, Letter] = {}

    def count(found: Letter) -> None:
        name = found.letter.reason if by == "reason" else found.letter.source.topic
        groups[name] += 1
        firsts.setdefault(name, found)

    _read(connection, chosen, count, quiet=False)
    for name, number in groups.most_common():
        first = write(firsts[name])
        if json_lines:
            first = msgspec.json.encode({by: name, "count": number, "first": msgspec.Raw(first)})
            typer.echo(first)
        else:
            typer.echo(f"{number:>12,}  {printable(name)}\n{'':>14}first {first.decode()}")


@app.command()
@configured
def export(
    reason: Reason = None,
    topic: SourceTopic = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    resent: Resent = None,
    *,
    connection: Connection,
    policies: Policies,
) -> None:
    """Write dead letters as lines of events, to be repaired and sent again.

    A line has the refused record's topic, timestamp and `value`, as `simulate` and `send --events`
    take it, and beside them the reason, the detail and the record's place and key, `origin`.
    What is not JSON stands as text in `raw`: write the event it was meant to be into `value`.
    A wrong key needs no repair: partition and key follow from the value.

    shipclock dead-letters export --reason schema > bad.jsonl
    """
    count = _write(
        connection, _chosen(reason, topic, since, until, limit, resent, policies), as_event
    )
    if count:
        typer.echo(
            "note: repair `value` in each line, then: shipclock dead-letters resend FILE", err=True
        )


@app.command()
@configured
def resend(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Lines of `export`, with repaired values.")
    ],
    again: Annotated[
        bool, typer.Option("--again", help="Also send what was sent again before.")
    ] = False,
    *,
    connection: Connection,
    policies: Policies,
) -> None:
    """Send repaired events, each with a header that tells which record it replaces.

    All lines are checked first as a worker checks them: nothing is sent if one of them would
    become a dead letter again, or if its letter was sent again before. The records carry the time
    of this sending; what an event counts for is decided by the times within it. Where workers run,
    payments are sent when these have taken all the rest, so that no order is judged before its
    scans. Sending a file twice is harmless: the same fact again changes nothing. Dead letters stay
    listed, with the time at which they were sent again.
    """
    from streams.cli.past import Past
    from streams.cli.publishing import publish_all, told_of_refusals
    from streams.codec.decode import Decoder

    rulebook = load_rulebook(policies)
    repaired = _Repaired(file, Decoder(rulebook), rulebook.processing.facts_wait)
    total = asyncio.run(repaired.check())
    if not total:
        raise UserError(f"{file}: there is no event in it", "give a file of `export`", 2)
    with tidied_up():
        asyncio.run(repaired.refuse_resent(connection, again))
    # Payments and their scans may have been refused alike: no order is judged before its scans.
    past = Past(rulebook, paced=True, again=True, always=True)
    sent = publish_all(connection, repaired.batches, past)
    topics = ", ".join(f"{topic} {count:,}" for topic, count in sent.items())
    typer.echo(f"sent {counted(sent.total(), 'event')} again: {topics}")
    if repaired.old:
        wait = counted(rulebook.processing.facts_wait // 86_400_000, "day")
        typer.echo(
            f"note: {repaired.old:,} of them happened more than {wait} ago: a worker takes them "
            "for orders it knows, and refuses them as too-late for others",
            err=True,
        )
    told_of_refusals()


@app.command()
@configured
def skip(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="An input topic.")],
    partition: Annotated[int, typer.Argument(min=0, metavar="PARTITION")],
    offset: Annotated[
        int,
        typer.Argument(min=0, metavar="OFFSET", help="As the worker's log names it."),
    ],
    *,
    connection: Connection,
    app_id: Annotated[
        str, typer.Option(help="As given to the workers.", show_default="shipclock")
    ] = "shipclock",
) -> None:
    """Let workers go on past one batch of records that cannot be read.

    A partition stops at such a batch, as what it holds may decide on fines: first have its facts
    sent again. The worker then writes the batch's raw bytes as a dead letter, `unreadable`, and
    goes on, within seconds; nothing else is skipped. A batch that can be read is refused.
    """
    from aiokafka import TopicPartition

    from streams.runtime.skipping import skip as skip_batch

    if topic != SHOP_VIOLATIONS:
        input_topic(topic)
    place = TopicPartition(topic, partition)
    with tidied_up():
        skipped = asyncio.run(skip_batch(connection, app_id, place, offset))
    batch = skipped.batch
    offsets = f"offsets {batch.first}-{batch.last} of {topic}[{partition}]"
    if skipped.before:
        typer.echo(f"{offsets} are already skipped by workers of {app_id}; nothing has changed")
        return
    typer.echo(f"workers of {app_id} skip {offsets}: {printable(batch.detail)}")
    if not skipped.live:
        typer.echo(
            f"note: no worker runs with --app-id {app_id}; the next that starts skips it", err=True
        )
    typer.echo("note: its facts are not judged unless they are sent again", err=True)


class _Chosen(NamedTuple):
    """Which dead letters are asked for."""

    reason: str | None
    topic: str | None
    since_ms: int
    until_ms: int
    limit: int | None
    resent: bool | None

    def takes(self, found: Letter) -> bool:
        return (
            self.reason in (None, found.letter.reason)
            and self.topic in (None, found.letter.source.topic)
            and self.since_ms <= found.at_ms < self.until_ms
            and self.resent in (None, found.resent_at_ms is not None)
        )


def _chosen(
    reason: str | None,
    topic: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    resent: bool | None,
    policies: list[str],
) -> _Chosen:
    zone = load_rulebook(policies).time_zone
    return _Chosen(
        reason,
        None if topic is None else input_topic(topic),
        0 if since is None else instant(since, "--since", zone),
        NEVER_MS if until is None else instant(until, "--until", zone),
        limit,
        resent,
    )


def _write(connection: Connection, chosen: _Chosen, write: Callable[[Letter], bytes]) -> int:
    """Write a line a letter to standard output; return how many were found."""
    out = sys.stdout.buffer
    if chosen.limit is None:

        def put(found: Letter) -> None:
            out.write(write(found) + b"\n")

        count = _read(connection, chosen, put, quiet=sys.stdout.isatty())
    else:
        newest: deque[bytes] = deque(maxlen=chosen.limit)
        count = _read(connection, chosen, lambda found: newest.append(write(found)), quiet=False)
        out.writelines(line + b"\n" for line in newest)
    out.flush()
    return count


def _read(
    connection: Connection, chosen: _Chosen, take: Callable[[Letter], None], quiet: bool
) -> int:
    """Hand over the letters asked for, return how many; a terminal shows progress unless quiet."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from streams.runtime.dead_letters import dead_letters

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} read"), TimeElapsedColumn())

    async def read() -> tuple[int, int]:
        count = taken = strange = 0
        with Progress(
            *columns, console=console, transient=True, disable=quiet or not console.is_terminal
        ) as bar:
            task = bar.add_task("", total=None)
            async with aclosing(dead_letters(connection, chosen.since_ms)) as letters:
                async for found in letters:
                    count += 1
                    if count % 1000 == 0:
                        bar.update(task, completed=count)
                    if found is None:
                        strange += 1
                    elif chosen.takes(found):
                        taken += 1
                        take(found)
        return taken, strange

    with tidied_up():
        taken, strange = asyncio.run(read())
    if not taken:
        typer.echo("note: there is no such dead letter", err=True)
    if strange:
        typer.echo(
            f"note: left out {counted(strange, 'record')} that this shipclock cannot read", err=True
        )
    return taken


class _Repaired:
    """A file of repaired events: read once to be checked, and once more to be sent."""

    def __init__(self, file: Path, decoder: Decoder, old_ms: int) -> None:
        self._file = file
        self._decoder = decoder
        self._old_ms = old_ms
        self.old = 0
        """Events whose own time lies further back than an unknown order is waited for."""

    async def check(self) -> int:
        """Check all lines; return how many there are.

        Raises:
            UserError: Some would be refused; they have been told.
        """
        total, bad = 0, 0
        async for lines in self._lines():
            for number, text in lines:
                total += 1
                try:
                    self.old += self._happened_long_ago(self._event(text))
                except UserError as error:
                    bad += 1
                    if bad <= _COMPLAINTS_MAX:
                        typer.echo(printable(f"line {number}: {error.message}"), err=True)
        if bad > _COMPLAINTS_MAX:
            typer.echo(f"and {bad - _COMPLAINTS_MAX:,} more", err=True)
        if bad:
            raise UserError(
                f"{self._file}: {bad:,} of {total:,} lines would be refused again; "
                "nothing was sent",
                "repair them, or take them out of the file",
                exit_code=2,
            )
        return total

    async def refuse_resent(self, connection: Connection, again: bool) -> None:
        """See that the topic of marks is there, and that no letter was sent again before.

        Raises:
            UserError: Some were, and this is not wanted; they have been told.
        """
        from streams.runtime.dead_letters import resent_letters

        resent = await resent_letters(connection)
        if again:
            return
        total = before = 0
        async for lines in self._lines():
            for number, text in lines:
                total += 1
                origin = repair(text).origin
                at_ms = resent.at_ms(origin)
                if at_ms is not None:
                    before += 1
                    if before <= _COMPLAINTS_MAX:
                        told = f"{origin.place} was sent again at {format_instant(at_ms)}"
                        typer.echo(printable(f"line {number}: {told}"), err=True)
        if before > _COMPLAINTS_MAX:
            typer.echo(f"and {before - _COMPLAINTS_MAX:,} more", err=True)
        if before:
            were = "was" if before == 1 else "were"
            raise UserError(
                f"{self._file}: {before:,} of {total:,} lines {were} sent again before; "
                "nothing was sent",
                "take them out of the file (`export --unresent` leaves them out), or give --again",
                exit_code=2,
            )

    async def batches(self) -> AsyncIterator[list[InputEvent]]:
        """Yield what is sent together."""
        async for lines in self._lines():
            yield [self._event(text) for _, text in lines]

    async def _lines(self) -> AsyncIterator[list[tuple[int, bytes]]]:
        if str(self._file) == "-" or (self._file.exists() and not self._file.is_file()):
            raise UserError(
                f"{self._file} is not a plain file", "it is read twice: save the lines first", 2
            )
        async for lines in line_batches_of(self._file):
            yield lines

    def _happened_long_ago(self, event: InputEvent) -> bool:
        from streams.engine.event_file import lenient, own_time

        of_order = event.topic != INPUT_TOPICS[EXEMPTION_GRANTED]
        happened_at = own_time(event.topic, lenient(event.value)) or event.timestamp_ms
        return of_order and event.timestamp_ms - happened_at > self._old_ms

    def _event(self, text: bytes) -> InputEvent:
        """Check one line.

        Raises:
            UserError: A worker would refuse it, or it is no line of `export`.
        """
        from streams.cli.publishing import checked

        line = repair(text)
        event = checked(self._decoder, line.topic, bytes(line.value), now_ms())
        return event._replace(replaces=line.origin)
