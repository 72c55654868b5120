"""Other partition counts, by the commands that docs/operations.md gives."""

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import tests.integration.test_runtime_worker as live
from streams.core.facts.inputs import INPUT_TOPICS
from streams.kafka.connection import Connection
from streams.testing.cluster import OUTPUT_TOPICS, WorkerProcess
from tests.integration.test_runtime_transport import until
from tests.integration.test_runtime_worker import outputs, send, simulated, surge

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

topics = live.topics

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
PARTITIONS = 5


def documented(verb: str) -> list[str]:
    """Return the words of the one command of the procedure that begins so."""
    section = OPERATIONS.read_text().split("\n## Other partition counts\n")[1].split("\n## ")[0]
    (command,) = re.findall(rf"`shipclock ({verb} [^`]*)`", section)
    return str(command).replace("--partitions 24", f"--partitions {PARTITIONS}").split()


def shipclock(bootstrap: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "streams", *words, "--bootstrap", bootstrap]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


async def written(connection: Connection, at_least: int) -> Counter[tuple[str, str, str]]:
    """Return the outputs under a prefix once that many are there."""
    found: Counter[tuple[str, str, str]] = Counter()
    consumer = connection.consumer(
        *OUTPUT_TOPICS, auto_offset_reset="earliest", isolation_level="read_committed",
        enable_auto_commit=False,
    )  # fmt: skip
    await consumer.start()
    async with asyncio.timeout(90):
        while found.total() < at_least:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    value = json.dumps(json.loads(record.value))
                    found[tp.topic, record.key.decode(), value] += 1
    await consumer.stop()
    return found


@pytest.mark.usefixtures("topics")
async def test_facts_are_judged_again_under_other_counts(broker: str, tmp_path: Path) -> None:
    """The outputs are those of the old topics, none doubled and none missing."""
    events = surge(2_000)
    expected = simulated(events)
    await send(broker, events)
    old = WorkerProcess(Connection(broker), tmp_path / "old.log")
    try:
        before = await outputs(broker, expected.total())
    finally:
        assert await asyncio.to_thread(old.stop, 5) == 0
    assert before == expected

    created = shipclock(broker, *documented("topics create"))
    assert created.returncode == 0, created.stderr
    copied = shipclock(broker, *documented("topics copy"))
    assert copied.returncode == 0, copied.stderr
    # An exemption stands in each old partition, and is one.
    facts = len({(event["topic"], event["key"], json.dumps(event["value"])) for event in events})
    assert f"copied {facts:,} records into topics with the prefix v2." in copied.stdout
    again = shipclock(broker, *documented("topics copy"))
    assert again.returncode == 1
    assert "topics with the prefix 'v2.' hold records already" in again.stderr
    itself = shipclock(broker, "topics", "copy", "--into", "")
    assert (itself.returncode, "names the topics that are read" in itself.stderr) == (2, True)

    command, *options = documented("worker")
    assert command == "worker"
    new = Connection(broker, topic_prefix="v2.")
    worker = WorkerProcess(Connection(broker), tmp_path / "new.log", *options)
    try:
        after = await written(new, before.total())
        await until(lambda: "committed stage=orders" in worker.log, 40)
    finally:
        assert await asyncio.to_thread(worker.stop, 5) == 0
    assert after == before
    assert "app_id=v2.shipclock" in worker.log
    admin = new.admin()
    await admin.start()
    counts = {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics()}
    await admin.delete_topics([*counts])
    await admin.close()
    assert {counts[topic] for topic in INPUT_TOPICS} == {PARTITIONS}
