"""What `send` does with events of a time that workers have judged already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import typer
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from streams.cli.publishing import Batches
from streams.core.errors import UserError
from streams.core.rules.book import Rulebook
from streams.core.words import counted
from streams.engine.records import ORDERS_CHANGELOG
from streams.kafka.connection import Connection
from streams.runtime.clock import iso
from streams.runtime.past import PAYMENTS, PacedLoad, Reached, Survey, frontiers, reached
from streams.runtime.publish import InputEvent, Publisher

_HINT = (
    "payments would be judged before their scans are in; --into-the-past sends all evidence "
    "first and waits until workers have taken it; see Loading the past in docs/operations.md"
)


class Past:
    """Compares what is to be sent with the frontier, and refuses it or sends it at a safe pace.

    Args:
        paced: Send it at a safe pace.
        again: The events can be read more than once.
        always: Refuse nothing: send at a safe pace where workers run, and else as it comes.
    """

    def __init__(
        self, rulebook: Rulebook, *, paced: bool, again: bool, always: bool = False
    ) -> None:
        self._rulebook = rulebook
        self._paced = paced
        self._again = again
        self._always = always
        self._reached: Reached | None = None
        self._survey: Survey | None = None
        """Of events that can be read once: all that came so far."""

    async def send(
        self, connection: Connection, publisher: Publisher, batches: Batches,
        note: Callable[[Iterable[InputEvent]], None],
    ) -> bool:  # fmt: skip
        """Send everything at a safe pace, if that is wanted; False if it is the caller's to send.

        Raises:
            UserError: It lies in the past, and is not to be, or cannot be, sent at a safe pace.
        """
        if not publisher.knows(ORDERS_CHANGELOG):
            return False
        try:
            async with frontiers(connection, publisher.partitions(ORDERS_CHANGELOG)) as followed:
                self._reached = await reached(connection, followed.metas.values())
                if self._reached is None or (self._always and not self._reached.live):
                    return False
                if self._again and not self._always:
                    survey = Survey(self._rulebook, self._reached.frontier_ms)
                    async for batch in batches():
                        survey.add(batch)
                    self._refuse(survey)
                if self._paced:
                    await self._send_paced(PacedLoad(publisher, followed), batches, note)
                return self._paced
        except (TopicAuthorizationFailedError, GroupAuthorizationFailedError):
            if self._paced:
                raise
            typer.echo(
                f"note: without the right to read {ORDERS_CHANGELOG} nobody can say whether this "
                "lies in a time that was judged already",
                err=True,
            )
            return False

    def check(self, batch: list[InputEvent]) -> None:
        """Look at events that can be read once.

        Raises:
            UserError: They lie in the past.
        """
        if self._reached is not None and not self._again:
            self._survey = self._survey or Survey(self._rulebook, self._reached.frontier_ms)
            self._survey.add(batch)
            self._refuse(self._survey)

    def _refuse(self, survey: Survey) -> None:
        reached = self._reached
        if reached is None:
            return
        frontier = f"orders have been judged up to {iso(reached.frontier_ms)}"
        if not self._paced:
            # One order of an old time, sent by hand, is meant to be judged at once.
            if survey.behind or survey.overdue > 1:
                what = f"{counted(survey.behind, 'event')} of times before it"
                if not survey.behind:
                    what = f"{counted(survey.overdue, 'payment')} overdue before it"
                raise UserError(
                    f"{frontier}; {what}, the oldest of {iso(survey.oldest_ms)}", _HINT, 2
                )
            return
        if not reached.live:
            raise UserError(
                "--into-the-past waits for workers, and none runs", "start: shipclock worker"
            )
        if too_old := survey.too_old:
            raise UserError(
                f"{frontier}; workers would refuse {counted(len(too_old), 'order')} or their "
                f"facts as too-late, the oldest of {iso(min(too_old))}",
                "leave them out, or judge them on topics of their own; see Loading the past in "
                "docs/operations.md",
            )

    @staticmethod
    async def _send_paced(
        load: PacedLoad, batches: Batches, note: Callable[[Iterable[InputEvent]], None]
    ) -> None:
        async for batch in batches():
            await load.evidence(batch)
            note(event for event in batch if event.topic != PAYMENTS)
        told = 0.0

        def waiting(partitions: int) -> None:
            nonlocal told
            if partitions and time.monotonic() > told + 10:
                told = time.monotonic()
                typer.echo(
                    f"note: waiting until workers have taken the evidence in "
                    f"{counted(partitions, 'partition')}",
                    err=True,
                )

        await load.ready(waiting)
        async for batch in batches():
            await load.payments(batch)
            note(event for event in batch if event.topic == PAYMENTS)
