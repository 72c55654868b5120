"""What the logs hold about one order: gathered from changelog and output records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TypeVar

import msgspec

from streams.codec.encode import encode_value
from streams.codec.state import unpack_order
from streams.codec.states.checkpoint import decode_head
from streams.core.accounts.violation import Violation
from streams.core.facts.events import ExemptionGranted
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.core.facts.instants import END_OF_TIME_MS
from streams.core.facts.order import Order, OrderState
from streams.core.facts.outputs import (
    DeadLetter,
    DeadlineChanged,
    OrderClosure,
    Penalty,
    ProductBan,
    ShopAction,
    Timeout,
)
from streams.core.rules.book import Rulebook
from streams.core.rules.policy import Retention
from streams.engine.event_file import Log, read_events
from streams.engine.orders_changelog import EXEMPTION_KEY
from streams.engine.records import META_KEY, Checkpoint
from streams.engine.resent import Resent
from streams.engine.shops_task import unpack_violation
from streams.engine.simulate import ORDERS, judge_log

SHOP_OUTPUTS = (
    "timeout", "penalty", "product-ban", "shop-action", "order-closure", "deadline-changed",
)  # fmt: skip
"""Output topics that tell of an order; their key is its shop."""
DEAD_LETTERS = "dead-letter"

# Longer than any log: an order explained from a file is not forgotten.
_FOR_EVER = END_OF_TIME_MS

_Own = TypeVar("_Own", Timeout, Penalty, OrderClosure, DeadlineChanged)
_Value = TypeVar("_Value")
Entries = Iterable[tuple[bytes | None, bytes | None]]


class Evidence:
    """One order's state, history and account, and the exemptions and violations around it.

    Feed it records in log order: first `orders_changelog` of the order's partition, which makes
    the shop known, then the rest, which may come in any order of topics.
    """

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        self.state: OrderState | None = None
        self.forgotten = False
        """The state has been taken away since; `state` is the last there was."""
        self.exemptions: dict[str, ExemptionGranted] = {}
        """Those that name the order, and those that name none."""
        self.judged_by: str | None = None
        """The policy of the last checkpoint, `None` if there is no checkpoint."""
        self.processed_until_ms = 0
        self.account_until_ms = 0
        self.violations: dict[str, Violation] = {}
        """All violations of the shop by id."""
        self.timeouts: list[Timeout] = []
        self.penalties: list[Penalty] = []
        self.bans: list[ProductBan] = []
        """Those of the order's products."""
        self.actions: list[ShopAction] = []
        """Those on the order's shop."""
        self.deadline_changes: list[DeadlineChanged] = []
        self.closures: list[OrderClosure] = []
        self.dead_letters: list[DeadLetter] = []
        self.resent = Resent()
        """Which dead letters were sent again, those of other orders too."""
        self._key = order_id.encode()
        # Looked for in a value before it is decoded: nearly all records are about other orders.
        self._needle = encode_value(order_id)

    @property
    def shop_id(self) -> str | None:
        """The order's shop, `None` if the order is not known."""
        if self.state is None or self.state.order is None:
            return None
        return self.state.order.shop_id

    def known(self) -> tuple[OrderState, Order]:
        """State and content of the order.

        Raises:
            ValueError: No order-paid of it has been taken.
        """
        if self.state is None or self.state.order is None:
            raise ValueError(f"order {self.order_id} is not known")
        return self.state, self.state.order

    def orders_changelog(self, entries: Entries) -> None:
        """Take the next records of the order's partition."""
        for key, value in entries:
            if key == self._key:
                self.forgotten = value is None
                if value is not None:
                    self.state = unpack_order(value)
            elif value is None or key is None:
                continue
            elif key == META_KEY:
                self.judged_by, self.processed_until_ms = _checkpoint(value)
            elif key.startswith(EXEMPTION_KEY):
                exemption = msgspec.json.decode(value, type=ExemptionGranted)
                named = exemption.scope.order_ids
                if named is None or self.order_id in named:
                    self.exemptions[exemption.exemption_id] = exemption

    def shops_changelog(self, entries: Entries) -> None:
        """Take the next records of the shop's partition."""
        prefix = f"{self.shop_id}:".encode()
        for key, value in entries:
            if key == META_KEY and value is not None:
                _, self.account_until_ms = _checkpoint(value)
            elif key is not None and key.startswith(prefix):
                violation_id = key[len(prefix) :].decode()
                self.violations.pop(violation_id, None)
                if value is not None:
                    self.violations[violation_id] = unpack_violation(value)

    def outputs(self, topic: str, entries: Entries) -> None:
        """Take the next records of an output topic; those of other orders are passed over."""
        if topic == "timeout":
            self.timeouts += self._own(entries, Timeout)
        elif topic == "penalty":
            self.penalties += self._own(entries, Penalty)
        elif topic == "order-closure":
            self.closures += self._own(entries, OrderClosure)
        elif topic == "deadline-changed":
            self.deadline_changes += self._own(entries, DeadlineChanged)
        elif topic == "shop-action":
            shop_id = self.shop_id
            self.actions += [
                one for one in _decoded(entries, b"", ShopAction) if one.shop_id == shop_id
            ]
        elif topic == "product-ban":
            self.bans += filter(self._is_ours, _decoded(entries, b"", ProductBan))
        elif topic == DEAD_LETTERS:
            own = [(key, value) for key, value in entries if key == self._key]
            self.dead_letters += [
                letter
                for letter in _decoded(own, b"", DeadLetter)
                if letter.source.topic != INPUT_TOPICS[EXEMPTION_GRANTED]
            ]

    def _own(self, entries: Entries, kind: type[_Own]) -> Iterator[_Own]:
        for record in _decoded(entries, self._needle, kind):
            if record.order_id == self.order_id:
                yield record

    def _is_ours(self, ban: ProductBan) -> bool:
        order = None if self.state is None else self.state.order
        return (
            order is not None
            and ban.shop_id == order.shop_id
            and ban.product_id in order.product_ids
        )


def evidence_of_events(
    lines: Iterable[bytes],
    rulebook: Rulebook,
    until: int | None,
    order_id: str,
    by_time: bool = False,
) -> Evidence:
    """Judge a log of events, as `simulate` does, and gather what comes of one order.

    Args:
        lines: As `simulate_file` takes them.
        rulebook: The rules.
        until: As `simulate_file` takes it.
        order_id: The order.
        by_time: Sort the lines by timestamp first.

    Raises:
        BadLine: A line is not an event line, or an order stands in two partitions.
    """
    log = read_events(lines, by_time).log
    evidence = _judge(log, rulebook, until, order_id)
    if evidence.state is None:
        # It may have come and gone within the log: keep it, to have something to explain.
        retention = Retention(clean=_FOR_EVER, violated=_FOR_EVER)
        kept = Rulebook(
            [msgspec.structs.replace(each, retention=retention) for each in rulebook.policies]
        )
        evidence = _judge(log, kept, until, order_id)
        evidence.forgotten = evidence.state is not None
    return evidence


def _judge(log: Log, rulebook: Rulebook, until: int | None, order_id: str) -> Evidence:
    evidence = Evidence(order_id)
    home = _home(log, order_id)
    checkpoints: list[Checkpoint] = []
    for stage, partition, checkpoint in judge_log(log, rulebook, until):
        if stage == ORDERS and partition != home:
            continue
        keep = evidence.orders_changelog if stage == ORDERS else evidence.shops_changelog
        keep(checkpoint.changelog.items())
        checkpoints.append(checkpoint)
    for checkpoint in checkpoints:
        for record in checkpoint.outputs:
            evidence.outputs(record.topic, [(record.key, record.value)])
    return evidence


def _home(log: Log, order_id: str) -> int:
    """Find the partition of an order; a record that only has its key may have gone astray."""
    key, needle = order_id.encode(), encode_value(order_id)
    keyed = [
        (needle in (record.value or b""), place)
        for (_, place), records in log.items()
        for record in records
        if record.key == key
    ]
    return max(keyed, key=itemgetter(0), default=(False, 0))[1]


def _checkpoint(value: bytes) -> tuple[str, int]:
    head = decode_head(value)
    return head.policy, head.reached_ms


def _decoded(entries: Entries, needle: bytes, kind: type[_Value]) -> Iterator[_Value]:
    for _, value in entries:
        if value is not None and needle in value:
            yield msgspec.json.decode(value, type=kind)
