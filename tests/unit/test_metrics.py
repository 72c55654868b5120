"""What is counted, and how Prometheus gets it."""

import http.client
import socket
import urllib.request

import pytest

from streams.engine.records import (
    FRONTIER_MARKS,
    META_KEY,
    SHOP_VIOLATIONS,
    Checkpoint,
    InRecord,
    OutRecord,
    columns,
)
from streams.runtime.counters import Counters
from streams.telemetry import metrics


def test_a_stage_counts_what_it_took_and_wrote() -> None:
    """Marks are no traffic, and the checkpoint's own record is no state."""
    counters = Counters("counted")
    counters.took(columns([InRecord(0, 0, b"O1", b"{}"), InRecord(1, 0, None, b"{}")]))
    outputs = [
        OutRecord("made-up", b"S1", b"{}", ()),
        OutRecord("made-up", b"S2", b"{}", ()),
        OutRecord(SHOP_VIOLATIONS, b"S1", b"{}", ()),
        OutRecord(FRONTIER_MARKS, b"orders:0", b"{}", (), partition=0),
    ]
    between = metrics.OUTPUTS.labels(SHOP_VIOLATIONS).value
    counters.wrote(Checkpoint(outputs, {b"O1": b"state", META_KEY: b""}, [], False))
    assert metrics.RECORDS.labels("counted").value == 2
    assert metrics.TRANSACTIONS.labels("counted").value == 1
    assert metrics.OUTPUTS.labels("made-up").value == 2
    assert metrics.OUTPUTS.labels(SHOP_VIOLATIONS).value == between + 1
    assert (counters.outputs, counters.states, counters.marks) == (3, 1, 1)


def test_counters_of_a_stage_exist_before_they_count() -> None:
    """A rate needs the 0 before the first count; what was counted stays."""
    metrics.OUTPUTS.labels("written").inc(3)
    metrics.declare("declared", ["taken"], ["written", "unwritten"])
    assert dict(metrics.OUTPUTS.read()).items() >= {("written",): 3, ("unwritten",): 0}.items()
    for counter in (metrics.BEHIND_FRONTIER, metrics.WRONG_PARTITION):
        assert dict(counter.read())["taken",] == 0
    for counter in (metrics.RECORDS, metrics.TRANSACTIONS):
        assert dict(counter.read())["declared",] == 0
    kinds = [kind for stage, kind in dict(metrics.FAILURES.read()) if stage == "declared"]
    assert kinds == ["fenced", "refused", "failed", "broken", "unreadable"]


def free_port() -> int:
    """Find a port nobody listens at."""
    with socket.create_server((metrics.HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics?name[]=shipclock_records_total", 200),
        ("GET", "/", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/", 404),
        ("POST", "/metrics", 405),
        ("HEAD", "/metrics", 405),
        ("OPTIONS", "/metrics", 405),
    ],
)
def test_nothing_but_metrics_is_answered(method: str, path: str, status: int) -> None:
    """A wrong path says where they are instead of looking like a health check that passed."""
    end = metrics.serve(port := free_port())
    try:
        connection = http.client.HTTPConnection(metrics.HOST, port, timeout=5)
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status == status
        assert (answer.headers["Allow"] == "GET") == (status == 405)
        connection.close()
    finally:
        end()


def test_metrics_are_served_on_this_machine_alone() -> None:
    """They name no order, but nobody outside needs them; the port is free again afterwards."""
    port = free_port()
    metrics.FAILURES.labels("served", "broken").inc()
    metrics.LAG.labels("served").set(7)
    metrics.LAG.labels("forgotten").set(7)
    metrics.LAG.forget("forgotten")
    metrics.LAG.forget("forgotten")
    end = metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    with pytest.raises(OSError, match="in use"):
        metrics.serve(port)
    end()
    assert "# TYPE shipclock_lag_records gauge" in text
    assert 'shipclock_lag_records{stage="served"} 7.0\n' in text
    assert "forgotten" not in text
    assert 'shipclock_failures_total{kind="broken",stage="served"} 1.0\n' in text
    assert "process_resident_memory_bytes" in text
    assert "# TYPE shipclock_behind_frontier_records_total counter" in text
    with socket.create_server((metrics.HOST, port)):
        pass
