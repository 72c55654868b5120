"""Time on a real broker: nobody is judged before his evidence was read, and nobody waits."""

import asyncio
import random
import re
import socket
import urllib.request
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiokafka.partitioner import murmur2

import tests.integration.test_runtime_worker as live
from streams.kafka.connection import Connection
from streams.testing.cluster import LogRecord, load, now_ms, read
from tests.integration.test_runtime_worker import PARTITIONS, outputs, send, simulated, stop, surge

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HOUR = 3_600_000
DAY = 24 * HOUR

topics = live.topics


def free_port(in_a_row: int = 1) -> int:
    """Return a port that nobody uses, and neither the next ones.

    It is none of those that the system gives to connections: Linux gives out the even ones, so that
    the port after one of its free ones is often taken, even by a connection closed a minute ago.
    """
    while True:
        port = random.randrange(10_000, 30_000)
        try:
            for number in range(port, port + in_a_row):
                socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            continue
        return port


def scrape(port: int) -> dict[str, float]:
    """Return a worker's metrics by name and labels; none while it starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def until(port: int, true: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Wait until a worker's metrics satisfy a condition, and return them."""
    async with asyncio.timeout(60):
        while not true(found := await asyncio.to_thread(scrape, port)):
            await asyncio.sleep(0.1)
    return found


def is_live(found: dict[str, float]) -> bool:
    """Tell whether all partitions are there and the frontier follows the clock."""
    ready = found.get('shipclock_partitions_ready{stage="orders"}') == PARTITIONS
    return ready and found['shipclock_frontier_ms{stage="orders"}'] > now_ms() - 5_000


def by_topic(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Divide events as somebody does who loads a past one topic after the other."""
    names = dict.fromkeys(event["topic"] for event in events)
    return [[event for event in events if event["topic"] == name] for name in names]


def key_in(partition: int, prefix: str) -> str:
    """Return an order id that belongs to a partition."""
    ids = (f"{prefix}{number}" for number in range(1_000))
    return next(each for each in ids if _partition_of(each) == partition)


def _partition_of(key: str) -> int:
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % PARTITIONS)


def order(order_id: str, placed_at: int, timestamp: int, partition: int | None = None) -> LogRecord:
    """Make an order as its record."""
    value = {
        "order_id": order_id, "shop_id": f"S{order_id}", "product_ids": ["P1"],
        "shipping_mode": "normal", "placed_at": placed_at, "paid_at": placed_at,
        "paid_amount": 9900,
    }  # fmt: skip
    where = _partition_of(order_id) if partition is None else partition
    return LogRecord("order-paid", where, timestamp, order_id.encode(), orjson.dumps(value))


async def test_a_past_loaded_topic_by_topic_is_noticed(topics: str) -> None:
    """Into topics that a worker reads live: it is said, counted, and in the end corrected."""
    events = surge(300)
    port = free_port()
    with live.worker(topics, "--metrics-port", str(port)) as process:
        await until(port, is_live)
        for part in by_topic(events):
            await send(topics, part)
            name = f'shipclock_behind_frontier_records_total{{topic="{part[0]["topic"]}"}}'
            await until(port, lambda found, n=name, p=part: found.get(n, 0) >= len(p))
        log = stop(process)
    for part in by_topic(events):
        line = rf"WARN +behind-frontier stage=orders topic={part[0]['topic']} partitions=\S+ "
        said = re.search(line + r"records=\d+ furthest=\d+d\d+h .*Loading the past", log)
        assert said, log
    assert log.count("behind-frontier") <= 2 * len(by_topic(events))


async def test_a_past_is_loaded_safely_with_a_wide_slack(topics: str) -> None:
    """Topic after topic under a running worker, and not a byte differs from a simulation."""
    events = surge(1_500)
    slack = now_ms() - min(event["timestamp"] for event in events) + HOUR
    port = free_port()
    options = ("--metrics-port", str(port), "--idle-slack", str(slack))
    sent = 0
    with live.worker(topics, *options) as process:
        for part in by_topic(events):
            await send(topics, part)
            sent += len(part)
            name = 'shipclock_records_total{stage="orders"}'
            await until(port, lambda found, n=name, s=sent: found.get(n, 0) >= s)
        log = stop(process)
    with live.worker(topics) as process:
        expected = simulated(events)
        found = await outputs(topics, expected.total())
        log += stop(process)
    assert found == expected
    assert "behind-frontier" not in log


async def test_a_backlog_of_uneven_topics_is_judged_by_log_time(topics: str) -> None:
    """After a month of downtime, scans read far slower than orders: no false timeout."""
    events = surge(2_000)
    padding = {"note": "x" * 4_000}
    scans = [event for event in events if event["topic"] == "first-scan"]
    slow = [event | {"value": event["value"] | padding} for event in scans for _ in range(5)]
    rest = [event for event in events if event["topic"] != "first-scan"]
    backlog = sorted(rest + slow, key=lambda event: event["timestamp"])
    for part in reversed(by_topic(backlog)):
        await send(topics, part)
    with live.worker(topics) as process:
        expected = simulated(backlog)
        found = await outputs(topics, expected.total())
        log = stop(process)
    assert found == expected
    assert "behind-frontier" not in log


async def test_an_order_alone_is_judged_on_time(topics: str) -> None:
    """Beside empty topics and partitions, and after a producer whose clock is days ahead."""
    port = free_port()
    with live.worker(topics, "--metrics-port", str(port)) as process:
        await until(port, is_live)
        now = now_ms()
        due = now + 6_000
        wrong = order(key_in(1, "W"), now, now + 10 * DAY)
        alone = [order(key_in(p, "A"), due - 72 * HOUR, now) for p in (0, 1)]
        await load(Connection(topics), [wrong, *alone])
        ready = max(due, now_ms())
        async with asyncio.timeout(30):
            while len(found := await read(Connection(topics), ["timeout"])) < 2:
                await asyncio.sleep(0.2)
        stop(process)
    values = [orjson.loads(record.value) for record in found]
    assert {value["order_id"] for value in values} == {key_in(0, "A"), key_in(1, "A")}
    assert {value["determined_at"] for value in values} == {due}
    # Written when they were due: not before, and soon after; a slow machine sends them later.
    written = [record.timestamp for record in found]
    assert min(written) >= due
    assert max(written) < ready + 4_000, (due, ready, written)


@pytest.mark.long
async def test_many_timers_of_one_instant_stall_nobody(topics: str) -> None:
    """A sale's orders fall due in one partition; the others and the heartbeat go on."""
    sale, port = 60_000, free_port()
    due = now_ms() + 30_000
    crowd = [order(f"C{n}", due - 72 * HOUR, now_ms(), partition=0) for n in range(sale)]
    others = {
        order(f"N{n}", due + n * 500 - 72 * HOUR, now_ms(), partition=1): due + n * 500
        for n in range(16)
    }
    await load(Connection(topics), random.Random(1).sample([*crowd, *others], sale + len(others)))
    with live.worker(topics, "--metrics-port", str(port)) as process:
        await until(port, is_live)
        assert now_ms() < due, "the machine was too slow to load the sale in time"
        name = 'shipclock_outputs_total{topic="timeout"}'
        wanted = sale + len(others)
        found = await until(port, lambda found: found.get(name, 0) >= wanted)
        log = stop(process)
    assert found['shipclock_transactions_total{stage="orders"}'] > sale // 4_000
    assert log.count("assigned stage=orders") == log.count("assigned stage=shops") == 1
    determined = {
        orjson.loads(each.value)["order_id"]: each
        for each in await read(Connection(topics), ["timeout"])
    }
    assert len(determined) == wanted
    late_ms = [determined[each.key.decode()].timestamp - at for each, at in others.items()]
    assert max(late_ms) < 5_000, late_ms
