"""The worker's metrics for Prometheus: each name, its labels and its meaning, once.

They are counted a batch or a transaction at a time, never a record, whether or not they are served.
Only serving them brings the client library: 2 MB that most workers have no use for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.core import Metric

HOST = "127.0.0.1"


class _Number:
    """What is counted or measured under one choice of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = value


class _Numbers:
    """What is counted or measured, by labels."""

    def __init__(self, name: str, meaning: str, labels: list[str]) -> None:
        self.name = name
        self.meaning = meaning
        self.label_names = labels
        self._numbers: dict[tuple[str, ...], _Number] = {}

    def labels(self, *values: str) -> _Number:
        return self._numbers.setdefault(values, _Number())

    def read(self) -> list[tuple[tuple[str, ...], float]]:
        """Copy all of them at once: another thread may serve them."""
        return [(values, number.value) for values, number in list(self._numbers.items())]


class Counter(_Numbers):
    """It only grows."""


class Gauge(_Numbers):
    """It goes up and down."""

    def forget(self, *values: str) -> None:
        """Have no value under these labels: it is not known, which is not 0."""
        self._numbers.pop(values, None)


RECORDS = Counter(
    "shipclock_records",
    "Records taken from a stage's inputs, frontier marks left out; read again, they count again.",
    ["stage"],
)
OUTPUTS = Counter(
    "shipclock_outputs",
    "Records committed to a topic; changelogs and frontier marks left out.",
    ["topic"],
)
TRANSACTIONS = Counter("shipclock_transactions", "Transactions committed.", ["stage"])
_FAILURE_KINDS = ("fenced", "refused", "failed", "broken", "unreadable")
FAILURES = Counter(
    "shipclock_failures",
    "Times a partition had to begin again from the log (fenced, refused, failed or broken), or met "
    "a batch it cannot read (unreadable).",
    ["stage", "kind"],
)
BEHIND_FRONTIER = Counter(
    "shipclock_behind_frontier_records",
    "Records whose timestamp lay behind the frontier when they were read: late evidence.",
    ["topic"],
)
WRONG_PARTITION = Counter(
    "shipclock_wrong_partition_records",
    "Records in another partition than the one their key belongs in by Kafka's default hash.",
    ["topic"],
)
UNREADABLE = Gauge(
    "shipclock_unreadable_batches",
    "Batches that cannot be read, each of which holds up its partition.",
    ["stage"],
)
ASSIGNED = Gauge(
    "shipclock_partitions_assigned", "Partitions the group has assigned to this worker.", ["stage"]
)
READY = Gauge(
    "shipclock_partitions_ready", "Partitions this worker has restored and processes.", ["stage"]
)
RESTORE_REMAINING = Gauge(
    "shipclock_restore_remaining_offsets",
    "Offsets of a partition's changelog that are still to be restored.",
    ["stage", "partition"],
)
LAG = Gauge(
    "shipclock_lag_records",
    "Offsets between what was read and the ends; of a partition that is not ready, between what "
    "was committed and the ends. Absent while it is not known, as when no partition is "
    "assigned.",
    ["stage"],
)
FRONTIER = Gauge(
    "shipclock_frontier_ms",
    "Epoch ms up to which the slowest of this worker's partitions has judged; 0 without one.",
    ["stage"],
)
FRONTIER_AHEAD = Gauge(
    "shipclock_frontier_ahead_seconds",
    "By how much the furthest of this worker's partitions has judged ahead of the clock: it judges "
    "nothing until then. 0 when all is well.",
    ["stage"],
)
CLOCK_TRUSTED = Gauge(
    "shipclock_clock_trusted",
    "1 while the machine's clock is judged by, 0 while nothing is: it has stepped, or is ahead of "
    "the broker's.",
    [],
)
MARKS_READ = Gauge(
    "shipclock_marks_read_ms",
    "Epoch ms as of which this worker has last read all frontier marks; 0 before it has.",
    [],
)
SHOPS_HELD = Gauge(
    "shipclock_shops_held_seconds",
    "How long the mark of an order partition has stood while shops of this worker wait for it: "
    "up to a minute is usual. 0 when they do not.",
    ["partition"],
)
_ALL = (
    RECORDS, OUTPUTS, TRANSACTIONS, FAILURES, BEHIND_FRONTIER, WRONG_PARTITION,
    UNREADABLE, ASSIGNED, READY, RESTORE_REMAINING, LAG, FRONTIER, FRONTIER_AHEAD, CLOCK_TRUSTED,
    MARKS_READ, SHOPS_HELD,
)  # fmt: skip


def declare(stage: str, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Let the counters of a stage exist at 0, so that a first count is seen as a rise.

    Args:
        stage: The stage's name.
        inputs: The topics it reads.
        outputs: The topics it writes to, its changelog left out.
    """
    RECORDS.labels(stage)
    TRANSACTIONS.labels(stage)
    for kind in _FAILURE_KINDS:
        FAILURES.labels(stage, kind)
    for topic in inputs:
        BEHIND_FRONTIER.labels(topic)
        WRONG_PARTITION.labels(topic)
    for topic in outputs:
        OUTPUTS.labels(topic)


class _Collector:
    """Tells the client library of them whenever it is asked."""

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for numbers in _ALL:
            family = CounterMetricFamily if isinstance(numbers, Counter) else GaugeMetricFamily
            metric = family(numbers.name, numbers.meaning, labels=numbers.label_names)
            for values, value in numbers.read():
                metric.add_metric(values, value)
            yield metric


def _at_metrics_alone(scrape: WSGIApplication) -> WSGIApplication:
    """Answer GET of /metrics, refuse other methods (405) and paths (404)."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", headers)
            return [b"the metrics are at /metrics\n"]
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [*headers, ("Allow", "GET")])
            return [b"GET /metrics\n"]
        return scrape(environ, start_response)

    return answer


def serve(port: int) -> Callable[[], None]:
    """Answer scrapes at 127.0.0.1 from a thread of its own; returns what ends that.

    Raises OSError if the port cannot be had.
    """
    import threading
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
    from prometheus_client.exposition import ThreadingWSGIServer

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            """Leave standard error to the log."""

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector())
    scrape = _at_metrics_alone(make_wsgi_app(registry))
    server = make_server(HOST, port, scrape, ThreadingWSGIServer, Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
