"""The demo from its broker to its sums, and how it ends.

Apart from the command, so that all is imported before there is anything to tidy up.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer
from rich.console import Console

from streams.broker import EmbeddedBroker
from streams.cli.broker import start_with_progress
from streams.cli.options import DEFAULT_POLICY
from streams.core.errors import UserError
from streams.core.rules.book import Rulebook
from streams.demo.guest import look_around
from streams.demo.narrate import Narrator
from streams.demo.play import Played, judged_without_broker, play
from streams.demo.screen import Screen
from streams.demo.surge import END_MS, HOUR_MS, START_MS, make_surge
from streams.demo.tally import checks
from streams.demo.worker import Worker
from streams.kafka.connection import Connection
from streams.kafka.topic_admin import ensure_topics
from streams.rulebook import load_rulebook
from streams.runtime.clock import ScaledClock, TrustedClock
from streams.runtime.settings import Settings

_PARTITIONS = 4
_SLACK_MS, _CATCH_UP_MS = 500, 10_000
_MARK_MS = 200
# A worker needs this long from its start to its first reads: until then the story's clock stands.
_LEAD_MS = 3_000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def perform(connection: Connection | None, orders: int, seed: int, speed: int, yes: bool) -> None:
    """Play the sale on a broker of ours, or on the one named; see `shipclock demo`.

    Raises:
        UserError: It cannot be played, or does not add up.
    """
    console = Console(highlight=False)
    for name in ("aiokafka", "asyncio"):
        # What the client has to complain of comes as an error of ours, or does not matter.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _tidy_end(console) as stack:
        _run(console, stack, connection, orders, seed, speed, yes)


def _run(
    console: Console, stack: ExitStack, connection: Connection | None, orders: int, seed: int,
    speed: int, yes: bool,
) -> None:  # fmt: skip
    scratch = tempfile.TemporaryDirectory(prefix="shipclock-demo-", ignore_cleanup_errors=True)
    folder = Path(stack.enter_context(scratch))
    broker: EmbeddedBroker | None = None
    if connection is None:
        broker = _own_broker(stack, folder / "broker")
        console.print(f"A real Kafka runs at {broker.bootstrap}; it goes with the demo.")
        connection = Connection(broker.bootstrap)
    else:
        _borrow(connection, yes)

    def broker_runs() -> bool:
        return broker is None or broker.running

    _play(console, stack, folder, connection, broker_runs, orders, seed, speed)


def _play(
    console: Console,
    stack: ExitStack,
    folder: Path,
    connection: Connection,
    broker_runs: Callable[[], bool],
    orders: int,
    seed: int,
    speed: int,
) -> None:
    rulebook = load_rulebook([DEFAULT_POLICY])
    surge = make_surge(orders, seed)
    app_id = f"shipclock-demo-{uuid.uuid4().hex[:8]}"
    slack_ms = _SLACK_MS * speed
    story = ScaledClock(
        origin_ms=time.time_ns() // 1_000_000 + _LEAD_MS,
        epoch_ms=START_MS,
        speed=speed,
        # The worker's frontier stays a slack behind its clock: it comes to stand at the end.
        end_ms=END_MS + slack_ms,
    )
    clock = TrustedClock(story)
    settings = Settings(
        connection=connection,
        app_id=app_id,
        clock=clock,
        idle_slack_ms=slack_ms,
        # Shops lag by marks, and a second would be hours of the story.
        mark_interval_ms=_MARK_MS,
        idle_mark_interval_ms=_MARK_MS,
        idle_probe_interval_ms=_MARK_MS,
        catch_up_ms=_CATCH_UP_MS * speed,
    )
    worker = stack.enter_context(Worker(settings, rulebook, folder / "worker.log"))
    narrator = Narrator(surge.shops, rulebook)
    hours, seconds = speed / HOUR_MS * 1000, (END_MS - START_MS) / speed / 1000
    console.print(
        f"{orders:,} orders of a sale (seed {seed}), and the six days after it, judged under "
        f"{rulebook.label}: {hours:.3g} h a second, {seconds:.0f} s in all."
        "\nTimes are those of the shops. The lines are a selection; the sums at the end count all."
        "\nCtrl-C stops it.\n",
        soft_wrap=True,
    )
    with Screen(console, narrator, surge.shops) as screen:
        played = asyncio.run(
            play(connection, app_id, surge, clock, screen, narrator, worker, broker_runs)
        )
    _summarise(console, played, rulebook)


def _summarise(console: Console, played: Played, rulebook: Rulebook) -> None:
    console.print("\nWhat it comes to:")
    good = True
    for check in checks(played.tally, played.inputs, judged_without_broker(played, rulebook)):
        console.print(
            "  ok   " if check.good else "  WRONG",
            end=" ",
            style="green" if check.good else "bold red",
        )
        console.print(check.text, soft_wrap=True)
        good &= check.good
    if not good:
        raise UserError("it does not add up", "run it again with the same seed, and report it")
    console.print("It adds up.", style="bold green")


def _own_broker(stack: ExitStack, data_dir: Path) -> EmbeddedBroker:
    broker = EmbeddedBroker(data_dir)
    # Its data are thrown away, so it need not end gracefully.
    stack.callback(broker.kill)
    start_with_progress(broker)
    asyncio.run(ensure_topics(Connection(broker.bootstrap), _PARTITIONS))
    return broker


def _borrow(connection: Connection, yes: bool) -> None:
    """Make sure that the demo does no harm on somebody's broker, and create the topics there."""
    ready = asyncio.run(look_around(connection))
    what = (
        "the empty topics of shipclock" if ready else "new topics, named as shipclock's always are,"
    )
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(
                f"the demo would write made-up orders into {what} at {connection.bootstrap}",
                "say --yes if they may stay there, or leave --bootstrap out",
                exit_code=2,
            )
        typer.confirm(
            f"The demo writes made-up orders into {what} at {connection.bootstrap}; they stay "
            "there. Go on?",
            abort=True,
        )
    if not ready:
        asyncio.run(ensure_topics(connection, _PARTITIONS))


@contextmanager
def _tidy_end(console: Console) -> Iterator[ExitStack]:
    """Treat every signal to end like Ctrl-C, and let none of them disturb the tidying up."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with ExitStack() as stack:
            try:
                yield stack
            except KeyboardInterrupt:
                console.print("\nStopping.")
                raise
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
