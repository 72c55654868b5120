"""Events of a time that live workers have judged already: refused, or loaded at a safe pace."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

import tests.integration.test_runtime_worker as live
from streams.kafka.connection import Connection
from streams.testing.cluster import now_ms, read
from tests.integration.test_runtime_worker import simulated, stop
from tests.integration.test_time import DAY, HOUR, free_port, is_live, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

topics = live.topics
ORDERS = 3_000


def past(orders: int) -> list[dict[str, Any]]:
    """Make the last six days' orders: no deadline, nor a day after one, within two hours of now."""
    draw, now = random.Random(11), now_ms()
    events: list[tuple[int, str, dict[str, Any]]] = []
    for number in range(orders):
        order_id = f"P{number:05}"
        paid = now - draw.randrange(6) * DAY - draw.randrange(3 * HOUR, 20 * HOUR)
        order = {"order_id": order_id}
        parcel = order | {"tracking_number": f"SF{number}", "carrier": "SF"}
        events.append((paid, "order-paid", order | {
            "shop_id": f"S{number % 40}", "product_ids": [f"P{number % 50}"],
            "shipping_mode": draw.choice(["normal", "express"]), "placed_at": paid,
            "paid_at": paid, "paid_amount": 9900,
        }))  # fmt: skip
        uploaded = paid + draw.randrange(1, 3) * HOUR // 2
        scanned = uploaded + draw.choice([10, 20, 23, 40, 100]) * HOUR
        events.append((uploaded, "tracking-number-uploaded", parcel | {"uploaded_at": uploaded}))
        events.append((scanned, "first-scan", parcel | {"scanned_at": scanned}))
        if number % 50 == 0:
            events.append((paid + HOUR, "order-closed", order | {
                "closed_at": paid + HOUR, "reason": "refunded"
            }))  # fmt: skip
    granted = now - 5 * DAY
    events.append((granted, "exemption-granted", {
        "exemption_id": "X1", "source": "platform", "granted_at": granted,
        "effect": {"extend_by": 24 * HOUR}, "scope": {"shop_ids": ["S1", "S2"]},
    }))  # fmt: skip
    events.sort(key=lambda event: event[0])
    return [{"topic": t, "timestamp": at, "value": v} for at, t, v in events if at < now]


def send(bootstrap: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `shipclock send`."""
    return subprocess.run(
        [sys.executable, "-m", "streams", "send", "--bootstrap", bootstrap, *arguments],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip


def written(folder: Path, events: list[dict[str, Any]]) -> str:
    """Write events to a file, as lines; return its name."""
    path = folder / "events.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, events)))
    return str(path)


def standing(events: list[dict[str, Any]]) -> set[str]:
    """Return the violations that stand in the end."""
    found: set[str] = set()
    for (topic, _, value), _ in sorted(
        simulated(live.placed(events)).items(),
        key=lambda item: json.loads(item[0][2]).get("revision", 0),
    ):
        if topic == "timeout":
            content = json.loads(value)
            made = content["type"] == "timeout.determined"
            (found.add if made else found.discard)(content["violation_id"])
    return found


async def emitted(bootstrap: str, count: int) -> list[dict[str, Any]]:
    """Return what was said of timeouts, once there is so much and no more comes."""
    async with asyncio.timeout(60):
        before = -1
        while len(found := await read(Connection(bootstrap), ["timeout"])) < count or before != len(
            found
        ):
            before = len(found)
            await asyncio.sleep(1.5)
    return [orjson.loads(record.value or b"") for record in found]


async def test_the_past_under_a_live_worker_fines_nobody_falsely(
    topics: str, tmp_path: Path
) -> None:
    """Refused at first; at a safe pace no false timeout was ever emitted, and nothing refused."""
    events, port = past(ORDERS), free_port()
    # Payments first, as somebody does who loads one topic after the other.
    shuffled = sorted(events, key=lambda event: event["topic"] != "order-paid")
    name = written(tmp_path, shuffled)
    with live.worker(topics, "--metrics-port", str(port)) as process:
        await until(port, is_live)
        refused = await asyncio.to_thread(send, topics, "--events", name)
        assert refused.returncode == 2
        assert f"{len(events):,} events of times before it, the oldest of " in refused.stderr
        assert "orders have been judged up to " in refused.stderr
        assert "--into-the-past" in refused.stderr
        assert await read(Connection(topics), ["order-paid", "first-scan"]) == []
        sent = await asyncio.to_thread(send, topics, "--events", name, "--into-the-past")
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout.startswith(f"sent {len(events):,} events")
        expected = standing(events)
        found = await emitted(topics, len(expected))
        log = stop(process)
    assert len(expected) > ORDERS // 5
    assert {value["type"] for value in found} == {"timeout.determined"}
    assert sorted(value["violation_id"] for value in found) == sorted(expected)
    assert await read(Connection(topics), ["dead-letter"]) == []
    assert "behind-frontier" not in log


async def test_what_cannot_be_loaded_safely_is_refused_whole(topics: str, tmp_path: Path) -> None:
    """Events older than facts wait, a load without a worker, and payments overdue by the dozen."""
    events = past(20)
    name = written(tmp_path, events)
    none_ran = await asyncio.to_thread(send, topics, "--events", name, "--into-the-past")
    assert none_ran.returncode == 0, none_ran.stderr
    port = free_port()
    with live.worker(topics, "--metrics-port", str(port)) as process:
        await until(port, is_live)
        value = dict(events[0]["value"], order_id="OLD", placed_at=now_ms() - 9 * DAY)
        value["paid_at"] = value["placed_at"]
        old = {"topic": "order-paid", "timestamp": value["paid_at"], "value": value}
        name = written(tmp_path, [*events, old])
        refused = await asyncio.to_thread(send, topics, "--events", name, "--into-the-past")
        assert refused.returncode == 1
        assert "workers would refuse 1 order or their facts as too-late" in refused.stderr
        overdue = [
            dict(
                value,
                order_id=f"O{n}",
                placed_at=now_ms() - 80 * HOUR,
                paid_at=now_ms() - 80 * HOUR,
            )
            for n in range(2)
        ]
        lines = tmp_path / "overdue.jsonl"
        lines.write_bytes(b"\n".join(map(orjson.dumps, overdue)))
        refused = await asyncio.to_thread(send, topics, "order-paid", f"@{lines}")
        assert refused.returncode == 2
        assert "2 payments overdue before it" in refused.stderr
        one = await asyncio.to_thread(send, topics, "order-paid", json.dumps(overdue[0]))
        assert one.returncode == 0, one.stderr
        stop(process)
    name = written(tmp_path, events)
    refused = await asyncio.to_thread(send, topics, "--events", name, "--into-the-past")
    assert "waits for workers, and none runs" in refused.stderr


async def test_what_is_sent_again_fines_nobody_falsely(topics: str, tmp_path: Path) -> None:
    """Payments and scans may have been refused alike: a payment goes when its scan is known."""
    port, now = free_port(), now_ms()
    lines = []
    for topic in ("order-paid", "first-scan"):
        for number in range(300):
            order = {"order_id": f"R{number}"}
            value = order | {
                "shop_id": "S1", "product_ids": ["P1"], "shipping_mode": "normal",
                "placed_at": now - 90 * HOUR, "paid_at": now - 90 * HOUR, "paid_amount": 9900,
            } if topic == "order-paid" else order | {
                "tracking_number": f"T{number}", "carrier": "SF", "scanned_at": now - 80 * HOUR
            }  # fmt: skip
            origin = {"topic": topic, "partition": 0, "offset": number}
            lines.append(orjson.dumps({"topic": topic, "value": value, "origin": origin}))
    file = tmp_path / "repaired.jsonl"
    file.write_bytes(b"\n".join(lines))
    with live.worker(topics, "--metrics-port", str(port)) as process:
        await until(port, is_live)
        resent = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "streams", "dead-letters", "resend", str(file), "--bootstrap",
             topics],
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        assert resent.returncode == 0, resent.stderr
        assert "first-scan 300" in resent.stdout
        await asyncio.sleep(5)
        stop(process)
    assert await read(Connection(topics), ["timeout", "penalty", "dead-letter"]) == []
