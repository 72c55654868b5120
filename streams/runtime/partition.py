"""The owner of one partition, from assignment to revocation: its lives, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from aiokafka.errors import KafkaError

from streams.engine.marks import Marks
from streams.kafka.waiting import cancelled
from streams.runtime.agent import Agent
from streams.runtime.batches import KeyPartitioner
from streams.runtime.counters import Counters
from streams.runtime.errors import PartitionRefused, PositionLost, TopicRecreated
from streams.runtime.inputs import Inputs
from streams.runtime.logs import reason
from streams.runtime.positions import Positions
from streams.runtime.progress import Progress
from streams.runtime.reports import Reports
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage, TimedTask
from streams.runtime.takeover import Life, Takeover


class Partition(Agent):
    """One partition from assignment to revocation.

    It takes the partition over (fences, restores, seeks), and lets the agent work. On any error it
    drops task and producer and begins again: the log is the truth.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        stage: Stage,
        inputs: Inputs,
        counts: Mapping[str, int],
        partition_of: KeyPartitioner,
        counters: Counters,
        restoring: asyncio.Semaphore,
        reports: Reports,
        marks: Marks,
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        super().__init__(number, settings, stage, inputs, counters, reports, marks)
        self._positions = Positions(stage, inputs, number, reports, settings.accepted_topics)
        self.progress = Progress(stage.name, number)
        self.lag: int | None = None
        """Offsets between what was read (before it is ready: committed) and the ends; None until
        they are known."""
        self._takeover = Takeover(
            settings, stage, number, counts, partition_of, self._positions, restoring,
            self.progress, reports,
        )  # fmt: skip
        self._recreated: TopicRecreated | None = None
        """What ends every life from then on."""
        self._again = asyncio.Event()
        """Ends a pause between two lives."""
        self._ended = ended
        self._loop = asyncio.create_task(self._run(), name=f"{stage.name}-{number}")
        self._loop.add_done_callback(self._on_end)

    # --- called by the session

    def shrunk(self, topic: str, read_to: int, end: int) -> None:
        """Give up this life: a topic ends before what was read of it."""
        self._positions.shrunk(topic, end)
        self.fail(
            PositionLost(
                f"{topic} ends before what was read of it",
                f"{topic}[{self.number}] was read up to offset {read_to} but ends at {end}",
            )
        )

    def compare_topics(self, ids: Mapping[str, str]) -> None:
        """Give up this life if a topic is not the one any more whose records it processes."""
        known = {} if self._life is None else self._life.task.topic_ids
        for topic in known:
            if ids.get(topic, known[topic]) != known[topic]:
                self.fail(PositionLost(f"{topic} was deleted and created again"))

    def ask_time(self) -> None:
        """Commit once more what was committed last: the broker stamps it with its time."""
        self._time_asked = self._timed is not None
        self._wake.set()

    async def hold(self) -> None:
        """Commit what was done and do nothing more until released; keep the memory."""
        self._held = True
        self._wake.set()
        await self._idle.wait()

    def release(self) -> None:
        """Go on after a rebalance that left us the partition."""
        self._held = False
        self._wake.set()
        self._again.set()
        if self.ready:
            self._inputs.seek(self.number, self.flow.read_to)
        self._inputs.rest(self.number, () if self.ready else self._stage.inputs)
        self.regulate()

    async def close(self) -> None:
        """End: commit what was done if that does not take long, else abort it."""
        self._closing.set()
        self._wake.set()
        self._again.set()
        timeout_s = self._settings.stop_timeout_ms / 1000
        if not self._idle.is_set():
            await asyncio.wait([self._loop], timeout=timeout_s)
        self._loop.cancel()
        await asyncio.wait([self._loop], timeout=timeout_s)
        self.progress.ready()

    # --- the loop

    def _on_end(self, loop: asyncio.Task[None]) -> None:
        """Report an end that is not meant: it would leave a partition that nobody works on."""
        if not self._closing.is_set():
            self._ended(loop)

    async def _run(self) -> None:
        while not self._closing.is_set():
            pause_s = 0.0
            self._again.clear()
            try:
                await self.work(await self._open())
            except asyncio.CancelledError:
                if cancelled():
                    raise
                pause_s = self._give_up(KafkaError("the client gave up"))
            except Exception as exc:  # noqa: BLE001 - reported, and tried again
                pause_s = self._give_up(exc)
            finally:
                self._wake.clear()
                await self._drop()
            # Closing ends the pause, and so does a rebalance that leaves us the partition; also
            # one that came while this life ended.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), pause_s)
            # During one it may be another's already, who must not be fenced.
            while self._held and not self._closing.is_set():
                self.progress.begin("the end of a rebalance")
                self._wake.clear()
                await self._wake.wait()

    def _give_up(self, exc: Exception) -> float:
        """Report what ended a life; return how long to wait before the next, in seconds."""
        pause_s = self._failures.report(exc)
        self.progress.begin(f"another try after {reason(exc)}")
        if isinstance(exc, TopicRecreated):
            self._recreated = exc
        # Its frames hold the task, and clients may hold it for long.
        exc.__traceback__ = None
        return pause_s

    async def _open(self) -> Life:
        """Take the partition over, and begin to read."""
        self._check_inputs()
        self._life = life = await self._takeover.run()
        self._check_inputs()
        task = life.task
        self._timed = task if isinstance(task, TimedTask) else None
        self.flow.start(life.begun, {} if self._timed is None else self._timed.last_ms)
        self.processed = dict(life.begun)
        self.ready = True
        self.progress.ready()
        self._wake.set()
        self._inputs.seek(self.number, life.begun)
        self.regulate()
        return life

    def _check_inputs(self) -> None:
        if self._recreated is not None:
            raise self._recreated
        # During a rebalance nothing is known: the one who began it will close, release or fail us.
        if not self._held and (missing := self._inputs.missing(self.number)):
            raise PartitionRefused(
                f"{', '.join(missing)} has no partition of this number: without it nothing is "
                "judged",
                "compare with: shipclock topics check",
            )

    async def _drop(self) -> None:
        """Forget task and producer; batches under way for this life are ignored."""
        if self.ready:
            self._inputs.rest(self.number, self._stage.inputs)
            self._positions.gave_up(self.flow.read_to)
        self.ready = False
        self.incarnation += 1
        self._broken = None
        self._idle.set()
        life, self._life, self._timed = self._life, None, None
        self._completed = False
        if life is not None:
            await life.transactions.close()
