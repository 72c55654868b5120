"""The bench job by Faust alone: an agent a topic, and a Table they share.

Run: python bench/peers/faust_table.py --bootstrap HOST:PORT --dir FOLDER
     [--guarantee exactly_once|at_least_once]

As its documentation has it: typed records, and a Table written through its changelog.
Faust's windows and timers go by the wall clock, and a Table can only be written while an event of
its partition is at hand; so the agents keep event time themselves, per partition the least of what
the three topics have reached, and each event fires what has become due. In Faust's favour the
timers are not rebuilt after a restart, and an upload writes nothing.

Even with exactly_once, Faust sends to a topic that it does not read itself outside the transaction:
the outputs are at least once.
"""

from __future__ import annotations

import argparse
import heapq
from collections import defaultdict
from pathlib import Path

import faust

LIMIT_MS = 72 * 3_600_000


class OrderPaid(faust.Record, serializer="json"):
    """An order exists."""

    order_id: str
    shop_id: str
    product_ids: list[str]
    shipping_mode: str
    placed_at: int
    paid_at: int
    paid_amount: int


class TrackingNumberUploaded(faust.Record, serializer="json"):
    """The shop says that it has shipped."""

    order_id: str
    tracking_number: str
    carrier: str
    uploaded_at: int


class FirstScan(faust.Record, serializer="json"):
    """The carrier has the parcel."""

    order_id: str
    tracking_number: str
    carrier: str
    scanned_at: int


class Timeout(faust.Record, serializer="json"):
    """An order was not scanned before its deadline."""

    order_id: str
    deadline: int


class Order(faust.Record, serializer="json"):
    """What is known of an order."""

    deadline: int | None = None
    scanned_at: int | None = None
    timed_out: bool = False


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--bootstrap", required=True)
parser.add_argument("--dir", type=Path, required=True)
parser.add_argument("--partitions", type=int, default=4)
parser.add_argument(
    "--guarantee", choices=("exactly_once", "at_least_once"), default="exactly_once"
)
options = parser.parse_args()

app = faust.App(
    "faust-table",
    broker=f"kafka://{options.bootstrap}",
    store="memory://",
    datadir=str(options.dir),
    topic_partitions=options.partitions,
    processing_guarantee=options.guarantee,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
orders_paid = app.topic("order-paid", key_type=str, value_type=OrderPaid)
uploads = app.topic("tracking-number-uploaded", key_type=str, value_type=TrackingNumberUploaded)
scans = app.topic("first-scan", key_type=str, value_type=FirstScan)
timeouts = app.topic("timeout", key_type=str, value_type=Timeout)
orders = app.Table("orders", value_type=Order, partitions=options.partitions)

# Per partition: how far each of the three topics has come, and the deadlines not yet reached.
reached: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(("paid", "up", "scan"), 0))
timers: dict[int, list[tuple[int, str]]] = defaultdict(list)


@app.agent(orders_paid)
async def on_paid(stream: faust.StreamT[OrderPaid]) -> None:
    """Set the clock of an order."""
    async for event in stream.events():
        paid = event.value
        order = orders.get(paid.order_id) or Order()
        deadline = paid.placed_at + LIMIT_MS
        if order.scanned_at is not None and order.scanned_at < deadline:
            orders.pop(paid.order_id)
        else:
            order.deadline = deadline
            orders[paid.order_id] = order
            heapq.heappush(timers[event.message.partition], (deadline, paid.order_id))
        await advance(event.message.partition, "paid", paid.paid_at)


@app.agent(uploads)
async def on_upload(stream: faust.StreamT[TrackingNumberUploaded]) -> None:
    """Change nothing for an order of the normal mode, but let time go on."""
    async for event in stream.events():
        await advance(event.message.partition, "up", event.value.uploaded_at)


@app.agent(scans)
async def on_scan(stream: faust.StreamT[FirstScan]) -> None:
    """Forget an order that was scanned in time, or that has had its timeout."""
    async for event in stream.events():
        scan = event.value
        order = orders.get(scan.order_id) or Order()
        in_time = order.deadline is not None and scan.scanned_at < order.deadline
        if in_time or order.timed_out:
            orders.pop(scan.order_id)
        else:
            order.scanned_at = scan.scanned_at
            orders[scan.order_id] = order
        await advance(event.message.partition, "scan", scan.scanned_at)


async def advance(partition: int, topic: str, event_time_ms: int) -> None:
    """Note how far a topic has come, and fire what is due in its partition."""
    reached[partition][topic] = event_time_ms
    frontier = min(reached[partition].values())
    due = timers[partition]
    while due and due[0][0] <= frontier:
        deadline, order_id = heapq.heappop(due)
        order = orders.get(order_id)
        if order is None:
            continue
        await timeouts.send(key=order_id, value=Timeout(order_id=order_id, deadline=deadline))
        if order.scanned_at is None:
            order.timed_out = True
            orders[order_id] = order
        else:
            orders.pop(order_id)


@app.task  # type: ignore[untyped-decorator]
async def on_ready() -> None:
    """Say so once Faust is fully ready for operation."""
    print("\nREADY", flush=True)  # Faust leaves a terminal's control codes in the line before


if __name__ == "__main__":
    faust.Worker(
        app, loglevel="WARN", redirect_stdouts=False, quiet=True
    ).execute_from_commandline()
