"""The beginning of a life: fence the last owner, restore, and find where to read on."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

from streams.engine.records import CorruptChangelog
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.runtime.errors import PartitionRefused
from streams.runtime.positions import Positions
from streams.runtime.progress import Progress
from streams.runtime.reports import Reports
from streams.runtime.restore import restore
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage, Task, TimedTask

_FREEZE_STATES_MIN = 100_000


class Life(NamedTuple):
    """What a partition works with until it fails, is revoked, or ends."""

    task: Task
    transactions: Transactions
    begun: Mapping[str, int]
    """For each input the offset to read from."""


class Takeover:
    """Takes one partition over, as often as a life of it begins.

    Args:
        restoring: How many partitions may restore at a time.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        number: int,
        counts: Mapping[str, int],
        partition_of: KeyPartitioner,
        positions: Positions,
        restoring: asyncio.Semaphore,
        progress: Progress,
        reports: Reports,
    ) -> None:
        self._settings = settings
        self._stage = stage
        self._number = number
        self._counts = counts
        self._partition_of = partition_of
        self._positions = positions
        self._restoring = restoring
        self._progress = progress
        self._reports = reports

    async def run(self) -> Life:
        """Begin a life; whoever gets it closes its transactions."""
        started_s = time.monotonic()
        transactions = Transactions(
            self._settings, self._stage, self._number, self._counts, self._partition_of
        )
        try:
            self._progress.begin("its turn to restore")
            async with self._restoring:
                self._progress.begin("fencing the last owner")
                await transactions.start()
                task, begun = await self._restore(transactions)
                if isinstance(task, TimedTask):
                    # The broker's answer carries its clock: ours is compared before it is used.
                    await transactions.commit(task.checkpoint(mark=False) or task.again())
        except BaseException:
            await transactions.close()
            raise
        if task.policy_changed:
            self._reports.add_once(
                logging.WARNING, "policy-changed", self._number, before=task.restored_policy,
                now=task.policy, detail="each order is judged by it at its next event or timer",
            )  # fmt: skip
        if task.states >= _FREEZE_STATES_MIN:
            # Restored states live long: no full collection need look at them again. What a former
            # life has left must not stay with them.
            gc.collect()
            gc.freeze()
        self._reports.add_once(
            logging.INFO, "restored", self._number, sums={"states": task.states},
            longest={"seconds": time.monotonic() - started_s},
        )  # fmt: skip
        return Life(task, transactions, begun)

    async def _restore(self, transactions: Transactions) -> tuple[Task, Mapping[str, int]]:
        task = self._stage.new_task(self._number, self._counts)
        progress = self._progress
        try:
            progress.begin("restoring")
            decided_to = await restore(self._settings, self._stage, self._number, task, progress)
            if task.restored_policy is None and self._number:
                # Nothing says how many partitions there were: the first one knows.
                first = self._stage.new_task(0, self._counts)
                await restore(self._settings, self._stage, 0, first, progress)
                del first
            progress.begin("comparing offsets")
            begun = await self._positions.check(task, decided_to)
        except (CorruptChangelog, PartitionRefused):
            # Or we were asleep meanwhile, and what we read is half another owner's.
            await transactions.prove_ownership(await self._positions.committed())
            raise
        return task, begun
