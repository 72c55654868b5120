"""What the benches of reliability share: programs that eat the cores, and who stands still."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams.broker import EmbeddedBroker, broker_status
from streams.rulebook import load_rulebook
from streams.runtime.stage import Stage
from streams.runtime.stages import product_stages
from streams.testing import cluster

POLICY = "douyin-first-scan"
APP_ID = "shipclock"
_NAMES_PARTITIONS = re.compile(r"\bstage=(\S+)\b.*\bpartitions?=([\d,-]+)")
_COUNTS_PARTITIONS = re.compile(r"\b(idle|committed) ")
# It ends by itself once the program that started it is gone.
_EAT = (
    "import os\n"
    "parent = os.getppid()\n"
    "while os.getppid() == parent:\n"
    "    for _ in range(1_000_000):\n"
    "        pass\n"
)


class Busy:
    """Programs that eat a core each, for as long as the block lasts."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._programs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self._programs.append(
                subprocess.Popen([sys.executable, "-I", "-S", "-c", _EAT], stdin=subprocess.DEVNULL)
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for program in self._programs:
            program.kill()
        for program in self._programs:
            program.wait()
        self._programs.clear()


def java_of(broker: EmbeddedBroker) -> psutil.Process:
    """Return the broker's Java process; raise ProcessLookupError if it does not run."""
    status = broker_status(broker.data_dir)
    java = psutil.Process(status.pid).children() if status is not None else []
    if not java:
        raise ProcessLookupError("the broker does not run")
    return java[0]


class Place(NamedTuple):
    """A partition of a stage."""

    stage: str
    partition: int

    def __str__(self) -> str:
        return f"{self.stage}[{self.partition}]"


class Reach(NamedTuple):
    """How far a stage's group has come in its partition, in offsets of all its inputs together."""

    committed: int
    end: int


def stages() -> list[Stage]:
    """Return the product's stages."""
    return list(product_stages(load_rulebook([POLICY]), APP_ID))


async def reached(bootstrap: str) -> dict[Place, Reach]:
    """Ask how far each partition of each stage has come; raises what the clients raise."""
    found: dict[Place, Reach] = {}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    ends = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        await admin.start()
        await ends.start()
        counts = {
            topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()
        }
        for stage in stages():
            tps = [
                TopicPartition(topic, number)
                for topic in stage.inputs
                for number in range(counts.get(topic, 0))
            ]
            end = await ends.end_offsets(tps)
            committed = await cluster.committed(admin, f"{APP_ID}-{stage.name}")
            done: Counter[int] = Counter()
            all_: Counter[int] = Counter()
            for tp in tps:
                done[tp.partition] += max(0, committed[tp].offset) if tp in committed else 0
                all_[tp.partition] += end[tp]
            found |= {Place(stage.name, n): Reach(done[n], all_[n]) for n in all_}
    finally:
        await ends.stop()
        await admin.close()
    return found


class Seen(NamedTuple):
    """Where a partition stood when it moved last."""

    reach: Reach
    since_s: float
    loaded: int
    """How much had been loaded by then."""


class Standstill:
    """Notices the partitions that have something to do and have not moved for a while."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._seen: dict[Place, Seen] = {}
        self._loaded = 0

    def look(self, now: dict[Place, Reach], loaded: int) -> None:
        """Note how far everybody has come, and how much has been loaded."""
        now_s = time.monotonic()
        self._loaded = loaded
        for place, reach in now.items():
            before = self._seen.get(place)
            # One that has all done may have nothing to do.
            if before is None or before.reach.committed != reach.committed or _done(reach):
                self._seen[place] = Seen(reach, now_s, loaded)
            else:
                self._seen[place] = before._replace(reach=reach)

    def forgive(self) -> None:
        """Begin to count again: they were told to stop."""
        self._seen.clear()

    def still(self, loaded_min: int) -> list[Place]:
        """Return who has not moved for too long, the one that is furthest behind first.

        Args:
            loaded_min: How much must have been loaded meanwhile, so that it has something to do.
        """
        now_s = time.monotonic()
        found = [
            (seen.reach.committed - seen.reach.end, place)
            for place, seen in self._seen.items()
            if now_s - seen.since_s > self._patience_s and self._loaded - seen.loaded >= loaded_min
        ]
        return [place for _, place in sorted(found)]

    def all_still(self, stage: str) -> bool:
        """Tell whether no partition of a stage has moved for too long."""
        still = set(self.still(0))
        mine = {place for place in self._seen if place.stage == stage}
        return bool(mine) and mine <= still


def _done(reach: Reach) -> bool:
    return reach.committed >= reach.end


def told(places: Iterable[Place], logs: Iterable[Path]) -> list[str]:
    """Say for each partition what a worker said last of it: what it waits for."""
    said: dict[Place, str] = {}
    # A line begins with its time.
    for line in sorted(line for path in logs for line in path.read_text().splitlines()):
        match = _NAMES_PARTITIONS.search(line)
        if match is not None and not _COUNTS_PARTITIONS.search(line):
            said |= {Place(match[1], number): line for number in cluster.numbers(match[2])}
    return [f"{place}: {said.get(place, 'no worker has said a word of it')}" for place in places]
