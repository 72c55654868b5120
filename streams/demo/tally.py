"""Count what the workers put out, fold it into what stands, and see whether it all adds up.

The same tally takes the records of the topics and those of a simulation, so both can be compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streams.core.facts.outputs import DeadLetter, Penalty, ProductBan, Timeout, Value
from streams.core.words import counted


@dataclass(slots=True)
class ShopSums:
    """What one shop has come to."""

    orders: int = 0
    standing: int = 0
    points: int = 0
    """Tenths of a point."""
    deposit: int = 0
    """Fen."""
    bans: int = 0

    def add(self, other: ShopSums) -> None:
        """Add another shop's."""
        self.orders += other.orders
        self.standing += other.standing
        self.points += other.points
        self.deposit += other.deposit
        self.bans += other.bans


class Check(NamedTuple):
    """One sum of the summary and whether it holds."""

    good: bool
    text: str


@dataclass(slots=True)
class Tally:
    """Running counts of the output records; `complaints` says what no history can contain."""

    outputs: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    """Records by event type, those of the journal by type and account."""
    amounts: Counter[str] = field(default_factory=Counter)
    """Sums of the journal by type and account."""
    shops: defaultdict[str, ShopSums] = field(default_factory=lambda: defaultdict(ShopSums))
    standing: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Deadline and determination by violation_id."""
    journal: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Sums by violation_id, account and day."""
    bans: set[tuple[str, str]] = field(default_factory=set)
    dead_letters: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By reason, source topic and raw value."""
    timed_out: set[str] = field(default_factory=set)
    """Orders ever judged late."""
    complaints: list[str] = field(default_factory=list)
    _ids: set[tuple[str, str]] = field(default_factory=set)

    def add(self, topic: str, event_id: str, value: Value) -> None:
        """Take one output record."""
        if (topic, event_id) in self._ids:
            self.complaints.append(f"{topic}: {event_id} was written twice")
        self._ids.add((topic, event_id))
        self.outputs[topic] += 1
        match value:
            case Timeout():
                self._timeout(value)
            case Penalty():
                self._penalty(value)
            case ProductBan():
                self._ban(value)
            case DeadLetter():
                self.dead_letters[value.reason, value.source.topic, value.raw] += 1

    def _timeout(self, value: Timeout) -> None:
        self.types[value.type] += 1
        self.timed_out.add(value.order_id)
        shop, times = self.shops[value.shop_id], (value.deadline, value.determined_at)
        if value.type == "timeout.determined":
            if value.violation_id in self.standing:
                self.complaints.append(f"{value.violation_id} was determined while it stood")
            self.standing[value.violation_id] = times
            shop.standing += 1
        else:
            if self.standing.pop(value.violation_id, None) != times:
                self.complaints.append(f"{value.violation_id} was revoked but did not stand so")
            shop.standing -= 1

    def _penalty(self, value: Penalty) -> None:
        name = f"{value.type} {value.account}"
        self.types[name] += 1
        self.amounts[name] += value.amount
        self.journal[value.violation_id, value.account, value.day] += value.amount
        shop = self.shops[value.shop_id]
        if value.account == "points":
            shop.points += value.amount
        elif value.account == "deposit":
            shop.deposit += value.amount

    def _ban(self, value: ProductBan) -> None:
        self.types[value.type] += 1
        ban = (value.shop_id, value.product_id)
        imposed = value.type == "product-ban.imposed"
        if imposed == (ban in self.bans):
            self.complaints.append(f"{ban[1]} of {ban[0]} was banned or freed twice")
        (self.bans.add if imposed else self.bans.discard)(ban)
        self.shops[value.shop_id].bans += 1 if imposed else -1

    def stands(self) -> dict[str, Any]:
        """Return what is true after all records, however it came to be."""
        return {
            "timeouts": self.standing,
            "journal": {place: amount for place, amount in self.journal.items() if amount},
            "bans": self.bans,
            "dead letters": self.dead_letters,
        }


@dataclass(frozen=True, slots=True)
class Inputs:
    """What went in, as the producer and the consumer groups know it."""

    sent: int
    """Records acknowledged by the broker, all copies counted."""
    taken: int
    """Those of them that the workers' committed offsets have passed."""
    orders: int
    shipped: set[str]
    """Orders with a scan or a close among the records sent."""
    spoilt: int
    """Records made to become dead letters."""


def checks(tally: Tally, inputs: Inputs, simulated: Tally) -> Iterator[Check]:
    """Yield the sums of the summary, each from two sides."""
    dead, waiting = tally.outputs["dead-letter"], inputs.sent - inputs.taken
    yield Check(
        waiting == 0 and dead == inputs.spoilt,
        f"records   {inputs.sent:,} sent = {inputs.taken - dead:,} judged "
        f"+ {counted(dead, 'dead letter')} + {waiting} waiting; spoilt on purpose: {inputs.spoilt}",
    )
    late = len(tally.timed_out)
    in_time = len(inputs.shipped - tally.timed_out)
    cleared = late - len({violation.partition(":")[0] for violation in tally.standing})
    open_ = inputs.orders - late - in_time
    yield Check(
        open_ >= 0 and cleared >= 0,
        f"orders    {inputs.orders:,} placed = {in_time:,} shipped or cancelled in time "
        f"+ {late} timed out ({cleared} cleared since) + {open_} still open",
    )
    determined, revoked = tally.types["timeout.determined"], tally.types["timeout.revoked"]
    yield Check(
        determined - revoked == len(tally.standing),
        f"timeouts  {determined} determined - {revoked} revoked = {len(tally.standing)} standing",
    )
    for account, money in (("points", points), ("deposit", yuan)):
        charged = tally.amounts[f"penalty.charged {account}"]
        back = -tally.amounts[f"penalty.reversed {account}"]
        on = {
            place[0]: amount
            for place, amount in tally.journal.items()
            if amount and place[1] == account
        }
        yield Check(
            charged - back == sum(on.values()) and on.keys() <= tally.standing.keys(),
            f"{account:<9} {money(charged)} charged - {money(back)} reversed = "
            f"{money(charged - back)} for {len(on)} of the standing timeouts",
        )
    imposed, lifted = tally.types["product-ban.imposed"], tally.types["product-ban.lifted"]
    yield Check(
        imposed - lifted == len(tally.bans),
        f"bans      {imposed} imposed - {lifted} lifted = {len(tally.bans)} in force",
    )
    yield Check(
        not tally.complaints,
        f"once      {counted(tally.outputs.total(), 'output record')}, "
        + (f"but {tally.complaints[0]}" if tally.complaints else "none twice, none out of turn"),
    )
    mine, theirs = tally.stands(), simulated.stands()
    differing = [name for name, value in mine.items() if value != theirs[name]]
    yield Check(
        not differing,
        "again     the same records judged without a broker leave "
        + (f"other {', '.join(differing)}" if differing else "the same standing, to the last fen"),
    )


def of_simulation(outputs: Iterable[tuple[str, Value]]) -> Tally:
    """Tally records that carry no ids."""
    tally = Tally()
    for number, (topic, value) in enumerate(outputs):
        tally.add(topic, str(number), value)
    return tally


def points(tenths: int) -> str:
    """Write tenths of a point of class B."""
    return f"{tenths // 10}.{tenths % 10} B"


def yuan(fen: int) -> str:
    """Write fen as yuan."""
    return f"{fen // 100}.{fen % 100:02} CNY"
