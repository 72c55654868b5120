"""The worker's metrics for Prometheus: each name, its labels and its meaning, once.

They are counted a batch or a transaction at a time, never a record, whether or not they are served.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    start_http_server,
)

HOST = "127.0.0.1"

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RECORDS = Counter(
    "shipclock_records",
    "Records taken from a stage's inputs, frontier marks left out; read again, they count again.",
    ["stage"],
    registry=REGISTRY,
)
OUTPUTS = Counter(
    "shipclock_outputs",
    "Records committed to a topic; changelogs and frontier marks left out.",
    ["topic"],
    registry=REGISTRY,
)
TRANSACTIONS = Counter(
    "shipclock_transactions", "Transactions committed.", ["stage"], registry=REGISTRY
)
FAILURES = Counter(
    "shipclock_failures",
    "Times a partition had to begin again from the log: fenced, refused, failed or broken.",
    ["stage", "kind"],
    registry=REGISTRY,
)
BEHIND_FRONTIER = Counter(
    "shipclock_behind_frontier_records",
    "Records whose timestamp lay behind the frontier when they were read: late evidence.",
    ["topic"],
    registry=REGISTRY,
)
PARTITIONS = Gauge(
    "shipclock_partitions",
    "Partitions this worker has restored and processes.",
    ["stage"],
    registry=REGISTRY,
)
LAG = Gauge(
    "shipclock_lag_records", "Offsets between what was read and the ends.", ["stage"],
    registry=REGISTRY,
)  # fmt: skip
FRONTIER = Gauge(
    "shipclock_frontier_ms",
    "Epoch ms up to which the slowest of this worker's partitions has judged; 0 without one.",
    ["stage"],
    registry=REGISTRY,
)


def serve(port: int) -> Callable[[], None]:
    """Answer scrapes at 127.0.0.1 from a thread of its own; returns what ends that.

    Raises OSError if the port cannot be had.
    """
    server, thread = start_http_server(port, addr=HOST, registry=REGISTRY)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
