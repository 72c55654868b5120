"""Where a worker reads on when group, changelog and topics do not agree: on a real broker."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.protocol.admin import DeleteGroupsRequest

from streams.codec.encode import encode_value
from streams.engine.records import Checkpoint
from streams.kafka.connection import Connection
from streams.runtime.batches import KeyPartitioner
from streams.runtime.checkpoint import Transactions
from streams.testing.cluster import LogRecord, WorkerProcess, empty_topics, load, read
from tests.integration.test_runtime_transport import Bench, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

HOUR = 3_600_000


@pytest.fixture
async def bench(broker: str) -> Bench:
    """Give a stage of two inputs with one partition, on topics that nobody else has."""
    made = Bench(broker, inputs=2, partitions=1)
    await made.create()
    return made


async def send(bench: Bench, rank: int, first: int, count: int) -> None:
    """Send records of an hour ago."""
    await bench.send(bench.inputs[rank], first, count, int(time.time() * 1000) - HOUR)


async def judged(bench: Bench, count: int) -> None:
    """Run a worker until that many records are counted, and see that it remains so."""
    async with bench.running():
        await until(lambda: bench.total() == count)
        await asyncio.sleep(0.5)
    assert bench.total() == count


async def delete_group(connection: Connection, group: str) -> None:
    """Delete a consumer group, which must have no members, and with it its offsets."""
    admin = connection.admin()
    await admin.start()
    try:
        answer = await admin._send_request(DeleteGroupsRequest([group]))
        assert [code for _, code in answer.results] == [0]
    finally:
        await admin.close()


async def lose_offsets(bench: Bench, *kept: tuple[str, int]) -> None:
    """Delete the group and commit the offsets that it shall have."""
    await delete_group(bench.settings.connection, f"{bench.settings.app_id}-bench")
    if kept:
        counts = dict.fromkeys(bench.stage.topics, 1)
        other = Transactions(bench.settings, bench.stage, 0, counts, KeyPartitioner())
        await other.start()
        await other.commit(Checkpoint([], {}, list(kept), False))
        await other.close()


async def committed(bench: Bench) -> dict[str, int]:
    """Return the group's offsets."""
    async with bench.admin() as admin:
        found = await admin.list_consumer_group_offsets(f"{bench.settings.app_id}-bench")
    return {tp.topic: each.offset for tp, each in found.items()}


async def test_a_lost_group_is_given_all_offsets_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka drops an idle group's offsets after a week: what the changelog says still holds."""
    await send(bench, 0, 0, 10)
    await send(bench, 1, 0, 5)
    await judged(bench, 15)
    await lose_offsets(bench)
    await send(bench, 0, 10, 1)
    await judged(bench, 16)
    first, second = bench.inputs
    group = f"group={bench.settings.app_id}-bench"
    assert f"group-offsets-lost stage=bench partitions=0 {group}" in caplog.text
    assert await committed(bench) == {first: 11, second: 5}
    caplog.clear()
    await send(bench, 1, 5, 1)
    await judged(bench, 17)
    assert "refused" not in caplog.text
    assert "group-offsets" not in caplog.text


async def test_offsets_lost_of_one_topic_are_given_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a topic that its group has not read for a week."""
    await send(bench, 0, 0, 10)
    await send(bench, 1, 0, 5)
    await judged(bench, 15)
    first, second = bench.inputs
    await lose_offsets(bench, (first, 10))
    await send(bench, 1, 5, 1)
    await judged(bench, 16)
    assert f"topics={second} " in caplog.text
    assert await committed(bench) == {first: 10, second: 6}


@pytest.mark.parametrize("records", [3, 30])
async def test_a_recreated_topic_is_refused_until_it_is_accepted(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    """Also if it is longer already than the old one was; accepted, it is read from the start."""
    monkeypatch.setattr("streams.runtime.failures._REFUSED_S", 0.5)
    first, second = bench.inputs
    await send(bench, 0, 0, 10)
    await send(bench, 1, 0, 5)
    await judged(bench, 15)
    await bench.recreate(first, lambda: True)
    await send(bench, 0, 0, records)
    async with bench.running():
        await until(lambda: "refused" in caplog.text)
        await asyncio.sleep(1)
        assert bench.total() == 15
    assert f"{first} was deleted and created again" in caplog.text
    option = caplog.text.split("--accept-topic ")[1].split(";")[0]
    assert option.startswith(f"{first}=")
    caplog.clear()
    before = bench.settings
    bench.settings = replace(before, accepted_topics=frozenset([option]))
    await judged(bench, 15 + records)
    (accepted,) = [one for one in caplog.messages if one.startswith("topic-accepted ")]
    assert f"partitions=0 at='{first}[0] was" in accepted.replace('"', "'")
    assert f"read from offset 0' topic={first}" in accepted.replace('"', "'")
    assert await committed(bench) == {first: records, second: 5}
    caplog.clear()
    # From then on nobody need accept it.
    bench.settings = before
    await send(bench, 0, records, 1)
    await judged(bench, 16 + records)
    assert "refused" not in caplog.text
    assert "topic-accepted" not in caplog.text


async def test_a_topic_recreated_in_an_instant_is_noticed_by_its_id(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A running worker may see neither that it was away nor that it was shorter."""
    bench.settings = replace(bench.settings, metadata_max_age_ms=500)
    await send(bench, 0, 0, 10)
    async with bench.running():
        await until(lambda: bench.total() == 10)
        known = dict(bench.tasks[-1].topic_ids)
        assert list(known) == list(bench.inputs)
        # As if the broker had another one since.
        bench.tasks[-1].topic_ids = {**known, bench.inputs[0]: "another"}
        await until(lambda: len(bench.tasks) == 2 and bench.total() == 10)
    assert f"{bench.inputs[0]} was deleted and created again" in caplog.text
    assert bench.tasks[-1].topic_ids == known


async def test_records_deleted_by_retention_are_told_and_passed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A gap costs what was in it, and no partition."""
    await send(bench, 0, 0, 10)
    await judged(bench, 10)
    await send(bench, 0, 10, 10)
    async with bench.admin() as admin:
        tp = TopicPartition(bench.inputs[0], 0)
        await admin.delete_records({tp: RecordsToDelete(before_offset=15)})
    await judged(bench, 15)
    (lost,) = [one for one in caplog.messages if one.startswith("records-lost ")]
    assert lost.startswith(
        f'records-lost stage=bench partitions=0 at="{tp.topic}[0] offsets 10-14" offsets=5 '
    )


async def test_an_emptied_changelog_is_refused_while_the_group_remembers(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What was judged would be judged and fined a second time."""
    await send(bench, 0, 0, 10)
    await judged(bench, 10)
    await bench.recreate(bench.stage.changelog, lambda: True)
    async with bench.running():
        await until(lambda: "refused" in caplog.text)
        assert bench.total() == 0
    assert "[0] up to offset 0 by the changelog, 10 by the group" in caplog.text
    assert "the changelog is incomplete, or the group's offsets were reset" in caplog.text
    assert "delete" not in caplog.text


async def test_offsets_set_forward_are_refused_and_can_be_set_back(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The changelog may lack what lies between; the line has all that the command needs."""
    await send(bench, 0, 0, 10)
    await judged(bench, 10)
    await send(bench, 0, 10, 10)
    await lose_offsets(bench, (bench.inputs[0], 20))
    async with bench.running():
        await until(lambda: "refused" in caplog.text)
        assert bench.total() == 10
    assert f"{bench.inputs[0]}[0] up to offset 10 by the changelog, 20 by the group" in caplog.text
    assert "--topic TOPIC:PARTITION --reset-offsets --to-offset OFFSET --execute" in caplog.text
    await lose_offsets(bench, (bench.inputs[0], 10))
    await judged(bench, 20)


async def test_offsets_set_back_are_corrected(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The changelog holds what lies between: nothing is judged twice, and no partition stands."""
    await send(bench, 0, 0, 10)
    await judged(bench, 10)
    await lose_offsets(bench, (bench.inputs[0], 3))
    await send(bench, 0, 10, 1)
    await judged(bench, 11)
    assert "group-offsets-behind stage=bench partitions=0 " in caplog.text
    assert (await committed(bench))[bench.inputs[0]] == 11


def order(order_id: str, at_ms: int) -> LogRecord:
    """Pay an order."""
    value = encode_value({
        "order_id": order_id, "shop_id": "S1", "product_ids": ["P1"], "shipping_mode": "normal",
        "placed_at": at_ms, "paid_at": at_ms, "paid_amount": 9900,
    })  # fmt: skip
    return LogRecord("order-paid", 0, at_ms, order_id.encode(), value)


async def test_the_product_goes_on_after_its_groups_were_deleted(
    broker: str, tmp_path: Path
) -> None:
    """Once an order and its scan have been judged, also at the restart after the next."""
    connection = Connection(broker)
    await empty_topics(connection, 1)
    now_ms = int(time.time() * 1000)
    scan = encode_value({
        "order_id": "O1", "tracking_number": "T1", "carrier": "SF", "scanned_at": now_ms,
    })  # fmt: skip
    await load(connection, [order("O1", now_ms), LogRecord("first-scan", 0, now_ms, b"O1", scan)])
    for life, records in enumerate([(), (order("O2", now_ms),), (), (order("O3", now_ms),), ()]):
        await load(connection, records)
        worker = WorkerProcess(connection, tmp_path / f"{life}.log")
        try:
            await until(lambda worker=worker: worker.log.count("restored stage=") == 2)  # type: ignore[misc]
            await asyncio.sleep(2)
            assert worker.stop() == 0
        finally:
            worker.kill()
        assert "refused" not in worker.log
        if life == 0:
            for stage in ("orders", "shops"):
                await delete_group(connection, f"shipclock-{stage}")
    kept = {record.key for record in await read(connection, ["orders-changelog"])}
    assert {b"O1", b"O2", b"O3"} <= kept
