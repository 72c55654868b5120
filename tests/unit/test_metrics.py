"""What is counted, and how Prometheus gets it."""

import socket
import urllib.request

import pytest

from streams.engine.records import (
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
    counters.took(
        "order-paid", columns([InRecord(0, 0, b"O1", b"{}"), InRecord(1, 0, None, b"{}")])
    )
    counters.took(
        SHOP_VIOLATIONS, columns([InRecord(0, 0, None, b"{}"), InRecord(1, 0, b"S1", b"{}")])
    )
    outputs = [
        OutRecord("made-up", b"S1", b"{}", ()),
        OutRecord("made-up", b"S2", b"{}", ()),
        OutRecord(SHOP_VIOLATIONS, b"S1", b"{}", ()),
        OutRecord(SHOP_VIOLATIONS, None, b"{}", (), partition=0),
    ]
    between = metrics.OUTPUTS.labels(SHOP_VIOLATIONS).value
    counters.wrote(Checkpoint(outputs, {b"O1": b"state", META_KEY: b""}, [], False))
    assert metrics.RECORDS.labels("counted").value == 3
    assert metrics.TRANSACTIONS.labels("counted").value == 1
    assert metrics.OUTPUTS.labels("made-up").value == 2
    assert metrics.OUTPUTS.labels(SHOP_VIOLATIONS).value == between + 1
    assert (counters.outputs, counters.states, counters.marks) == (3, 1, 2)


def test_metrics_are_served_on_this_machine_alone() -> None:
    """They name no order, but nobody outside needs them; the port is free again afterwards."""
    with socket.create_server((metrics.HOST, 0)) as free:
        port = free.getsockname()[1]
    metrics.FAILURES.labels("served", "broken").inc()
    metrics.LAG.labels("served").set(7)
    end = metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    with pytest.raises(OSError, match="in use"):
        metrics.serve(port)
    end()
    assert "# TYPE shipclock_lag_records gauge" in text
    assert 'shipclock_lag_records{stage="served"} 7.0\n' in text
    assert 'shipclock_failures_total{kind="broken",stage="served"} 1.0\n' in text
    assert "process_resident_memory_bytes" in text
    assert "# TYPE shipclock_behind_frontier_records_total counter" in text
    with socket.create_server((metrics.HOST, port)):
        pass
