"""Workers that join, leave, fence each other and die, on a real broker."""

import asyncio
import gc
import re
import signal
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace

import psutil
import pytest

import streams.runtime.takeover
import tests.integration.test_runtime_worker as live
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.runtime.progress import Progress
from streams.runtime.restore import restore
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage, Task
from tests.integration.processes import still_running
from tests.integration.test_runtime_transport import Bench, Counter, until
from tests.integration.test_time import free_port
from tests.integration.test_time import until as scraped

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

topics = live.topics


def old_ms() -> int:
    """Return an instant well before the clock."""
    return int(time.time() * 1000) - 3_600_000


@pytest.fixture
async def bench(broker: str) -> Bench:
    """Give a stage of two inputs with four partitions."""
    made = Bench(broker, inputs=2, partitions=4)
    await made.create()
    return made


async def test_kept_partitions_go_on_while_moved_ones_restore(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A member that joins under load stops only what it takes over."""
    caplog.set_level("INFO", "streams")
    restoring, go_on = asyncio.Event(), asyncio.Event()
    joining = False

    async def slow(
        settings: Settings, stage: Stage, partition: int, task: Task, progress: Progress
    ) -> int:
        if joining:
            restoring.set()
            await go_on.wait()
        return await restore(settings, stage, partition, task, progress)

    monkeypatch.setattr(streams.runtime.takeover, "restore", slow)
    for partition in range(4):
        await bench.send(bench.inputs[0], 0, 100, old_ms(), partition)
    async with bench.running():
        await until(lambda: bench.total() == 400)
        before = list(bench.tasks)
        joining = True
        async with bench.running():
            await asyncio.wait_for(restoring.wait(), 30)
            for partition in range(4):
                await bench.send(bench.inputs[0], 100, 50, old_ms(), partition)
            # The restore of two is stuck, and the other two have counted on with their memory.
            await until(lambda: sum(sum(task.counts.values()) == 150 for task in before) == 2)
            assert len(bench.tasks) == 6
            go_on.set()
            await until(lambda: bench.total() == 600)
        await until(lambda: "kept=2 new=2 lost=0" in caplog.text)
    assert "assigned stage=bench partitions=0-3 kept=0 new=4 lost=0" in caplog.text
    assert re.search(r"assigned stage=bench partitions=\S+ kept=2 new=0 lost=2", caplog.text)


# Collecting garbage also finds the clients that earlier tests left to a broker that was gone.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_the_state_of_a_lost_partition_is_dropped(bench: Bench) -> None:
    """Memory goes to where the partition is; nobody keeps a copy of what is another's now."""
    tasks: list[weakref.ref[Counter]] = []

    def new_task(partition: int, counts: Mapping[str, int]) -> Counter:
        made = Counter(bench.inputs, partition)
        tasks.append(weakref.ref(made))
        return made

    def alive(refs: Iterable[weakref.ref[Counter]]) -> int:
        gc.collect()
        return sum(ref() is not None for ref in refs)

    bench.stage = replace(bench.stage, new_task=new_task)
    for partition in range(4):
        await bench.send(bench.inputs[0], 0, 100, old_ms(), partition)
    async with bench.running():
        await until(lambda: alive(tasks) == 4)
        first = list(tasks)
        async with bench.running():
            await until(lambda: len(tasks) == 6 and alive(first) == 2)
            await until(lambda: alive(tasks) == 4)
        await until(lambda: len(tasks) == 8 and alive(tasks) == 4)
    await until(lambda: alive(tasks) == 0)


async def test_a_fenced_owner_says_so_and_writes_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker with its partition wins; if the group says otherwise, it takes it back."""
    bench.settings = replace(bench.settings, session_timeout_ms=3_000)
    counts = dict.fromkeys(bench.stage.topics, 4)
    await bench.send(bench.inputs[0], 0, 100, old_ms())
    async with bench.running():
        await until(lambda: bench.total() == 100)
        second = Transactions(bench.settings, bench.stage, 0, counts, KeyPartitioner())
        await second.start()
        await bench.send(bench.inputs[0], 100, 50, old_ms())
        await until(lambda: "fenced stage=bench partitions=0" in caplog.text)
        await second.close()
        await until(lambda: bench.total() == 150)
        assert max(task.counts.get(b"k0", 0) for task in bench.tasks) == 2
    assert "another worker has taken the partition over" in caplog.text
    assert caplog.text.count("fenced") == 1


def workers_of(supervisor: psutil.Process) -> list[psutil.Process]:
    """Return the worker processes of a supervisor."""
    return [
        child
        for child in supervisor.children()
        if child.status() != psutil.STATUS_ZOMBIE
        and "streams.runtime.supervised" in child.cmdline()
    ]


async def test_a_dead_worker_is_started_again(topics: str) -> None:
    """There are as many as before, each with its metrics, and all end together."""
    port = free_port(2)
    options = ("--workers", "2", "--metrics-port", str(port))
    with live.worker(topics, *options) as process:
        supervisor = psutil.Process(process.pid)
        await until(lambda: len(workers_of(supervisor)) == 2)
        before = workers_of(supervisor)
        before[0].kill()
        await until(lambda: len({*workers_of(supervisor)} - {*before}) == 1)
        everybody = workers_of(supervisor)
        for index in (0, 1):
            await scraped(
                port + index, lambda found: 'shipclock_partitions_ready{stage="shops"}' in found
            )
        log = live.stop(process)
    assert len(everybody) == 2
    assert not any(worker.is_running() for worker in everybody)
    assert log.count("worker-died worker=") == 1
    assert "exit_code=-9" in log
    assert "Traceback" not in log


async def test_workers_do_not_outlive_their_supervisor(topics: str) -> None:
    """Killed as by a full memory, it leaves nobody behind that writes unseen."""
    with live.worker(topics, "--workers", "2") as process:
        supervisor = psutil.Process(process.pid)
        await until(lambda: len(workers_of(supervisor)) == 2)
        everybody = workers_of(supervisor)
        process.send_signal(signal.SIGKILL)
        assert await asyncio.to_thread(still_running, everybody, 15) == []
