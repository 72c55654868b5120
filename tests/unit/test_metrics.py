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
from streams.runtime.partition import Counters
from streams.telemetry import metrics


def value(name: str, **labels: str) -> float:
    """Return a sample; it must exist."""
    found = metrics.REGISTRY.get_sample_value(name, labels)
    assert found is not None, name
    return found


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
    between = metrics.OUTPUTS.labels(SHOP_VIOLATIONS)._value.get()
    counters.wrote(Checkpoint(outputs, [(b"O1", b"state"), (META_KEY, b"")], [], False))
    assert value("shipclock_records_total", stage="counted") == 3
    assert value("shipclock_transactions_total", stage="counted") == 1
    assert value("shipclock_outputs_total", topic="made-up") == 2
    assert value("shipclock_outputs_total", topic=SHOP_VIOLATIONS) == between + 1
    assert (counters.outputs, counters.states, counters.marks) == (3, 1, 2)


def test_metrics_are_served_on_this_machine_alone() -> None:
    """They name no order, but nobody outside needs them; the port is free again afterwards."""
    with socket.create_server((metrics.HOST, 0)) as free:
        port = free.getsockname()[1]
    end = metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    with pytest.raises(OSError, match="in use"):
        metrics.serve(port)
    end()
    assert "# TYPE shipclock_lag_records gauge" in text
    assert "# TYPE shipclock_behind_frontier_records_total counter" in text
    with socket.create_server((metrics.HOST, port)):
        pass
