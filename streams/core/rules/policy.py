"""A policy version as the core judges by it: plain values, no texts.

What lives here: the shape of rules. What must not: how a file spells them (`streams.rulebook`), a
rule's number (those stand in the packs), and the arithmetic (each rule's own file in this room).

Durations are milliseconds, instants epoch milliseconds, money minor units of the account's unit,
points the smallest step of theirs.
"""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from streams.core.facts.events import ExemptionGranted
from streams.core.time.calendar import Span, longest_days

Start = Literal["placed", "paid", "uploaded", "promised", "agreed"]
"""What a clock may run from: the earliest upload; all others stand in `order-paid`."""
Stop = Literal["uploaded", "scanned", "closed"]
"""The earliest fact of each may end a kind."""
STARTS: tuple[Start, ...] = get_args(Start)
STOPS: tuple[Stop, ...] = get_args(Stop)

# These name timers of their own, so no violation kind may take them.
RESERVED_KINDS = ("deadline-warning", "order-closure")
DAY_MS = 86_400_000
BAN = "product-ban"
"""The action of a sanction that concerns products, not the shop."""


class Rules(Struct, frozen=True, kw_only=True):
    """Base of all parts of a policy."""


class Deadline(Struct, frozen=True):
    """When a kind is due, by one of five forms.

    `elapsed`: start + `amount` ms. `end-of-day`: the first local midnight after start, + `amount`
    ms. `calendar-days`: the end of the local day `amount` days after the start's. `working-days`:
    the end of the `amount`-th working day after the start's (0: of the first one from it on).
    `instant`: `amount` itself, whatever the start.
    """

    form: Literal["elapsed", "end-of-day", "calendar-days", "working-days", "instant"]
    start: Start
    amount: int


class WorkWeek(Rules, frozen=True, kw_only=True):
    """Which days count as working days, and until when of a day an order counts for it."""

    weekend: tuple[int, ...] = ()
    """Days of the week without work, Monday is 0."""
    holidays: str | None = None
    """A country, or `country-subdivision`, whose public holidays are no working days."""
    holiday_ordinals: tuple[int, ...] = ()
    """The dates of these holidays (`date.toordinal`), as resolved when the policy was loaded."""
    days_off: tuple[int, ...] = ()
    """Further dates without work (`date.toordinal`)."""
    make_up_days: tuple[int, ...] = ()
    """Dates with work although a weekend or holiday falls on them (`date.toordinal`)."""
    cut_off: int | None = None
    """Milliseconds after local midnight: what starts then or later counts for the next day."""


class When(Rules, frozen=True, kw_only=True):
    """Orders for which other numbers hold: every list given must name the order's own value."""

    shop_levels: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None

    def matches(self, shop_level: str | None, category: str | None) -> bool:
        """Tell whether an order is one of those."""
        return (self.shop_levels is None or shop_level in self.shop_levels) and (
            self.categories is None or category in self.categories
        )


class KindInstead(Rules, frozen=True, kw_only=True):
    """Other deadlines for some orders of a kind; modes left out keep theirs."""

    when: When
    deadlines: dict[str, Deadline]


class Kind(Rules, frozen=True, kw_only=True):
    """One kind of violation: when it is due, how often, and what stops it."""

    deadlines: dict[str, Deadline]
    """By shipping mode; a mode left out has no clock of this kind."""
    until: tuple[Stop, ...]
    every: int = DAY_MS
    times: int = 1
    warn_before: tuple[int, ...] = ()
    on_time_at_limit: bool = False
    """A fact at the deadline is in time; by default it is late."""
    parcels: Literal["any", "all"] = "any"
    """Whether one scanned number suffices, or every number uploaded needs a scan."""
    instead: tuple[KindInstead, ...] = ()

    def deadline_for(
        self, mode: str, shop_level: str | None, category: str | None
    ) -> Deadline | None:
        """Return the deadline of orders; `None` if the kind has no clock for their mode."""
        for other in self.instead:
            if mode in other.deadlines and other.when.matches(shop_level, category):
                return other.deadlines[mode]
        return self.deadlines.get(mode)


class Tier(Rules, frozen=True, kw_only=True):
    """A charge for amounts up to a bound: flat, or a share of the amount."""

    up_to: int | None = None
    """The last amount of this tier, in minor units; `None`: all above the tier before."""
    flat: int = 0
    per_mille: int = 0
    """Of the amount, rounded down."""
    at_least: int = 0
    at_most: int | None = None


class Amount(Rules, frozen=True, kw_only=True):
    """What one violation costs before caps."""

    of: Literal["paid_amount", "goods_amount"] | None = None
    """The amount of the order that tiers are about; `None`: one fixed charge."""
    tiers: tuple[Tier, ...]


class Cap(Rules, frozen=True, kw_only=True):
    """The most an account may charge: a count for one order, an amount for a span of local days.

    A span is that of the violation's own local day; `rolling` is that day and the days before it,
    `days` in all.
    """

    span: Literal["order"] | Span
    limit: int
    days: int = 0


class AccountInstead(Rules, frozen=True, kw_only=True):
    """Another amount or other caps for some orders."""

    when: When
    amount: Amount | None = None
    caps: tuple[Cap, ...] | None = None


class Account(Rules, frozen=True, kw_only=True):
    """One thing that violations of some kinds cost. A name may serve disjoint kinds twice.

    Caps are of this block's kinds alone.
    """

    name: str
    kinds: tuple[str, ...]
    unit: str
    amount: Amount
    caps: tuple[Cap, ...] = ()
    settle_at: int | None = None
    """Milliseconds after local midnight of the next local day; `None`: at once."""
    instead: tuple[AccountInstead, ...] = ()

    def amount_for(self, when: tuple[str | None, str | None]) -> Amount:
        """Return the amount for a shop level and a category."""
        for other in self.instead:
            if other.amount is not None and other.when.matches(*when):
                return other.amount
        return self.amount

    def caps_for(self, when: tuple[str | None, str | None]) -> tuple[Cap, ...]:
        """Return the caps for a shop level and a category."""
        for other in self.instead:
            if other.caps is not None and other.when.matches(*when):
                return other.caps
        return self.caps


class Sanction(Rules, frozen=True, kw_only=True):
    """What happens to products or to the shop when more than so much stands."""

    counts: tuple[str, ...]
    """Kinds; for an account, those whose charges count."""
    of: Literal["order", "shop", "account"]
    span: Span = "rolling"
    """Of `shop` and `account`."""
    days: int = 0
    """Of `rolling`: so many local days, today the last."""
    account: str = ""
    more_than: int
    action: str
    """`product-ban`, of orders only, or the name of a shop action."""
    lasts: int | None = None
    """The action ends by itself so long after the violation that brought it about."""


def reach_days(sanction: Sanction) -> int:
    """Return how many local days before today may matter to a sanction of a shop, at most."""
    window = 0 if sanction.of == "order" else longest_days(sanction.span, sanction.days)
    return window + (0 if sanction.lasts is None else sanction.lasts // DAY_MS + 1)


class Retention(Rules, frozen=True, kw_only=True):
    """How long an order's state outlives its last change, in log time."""

    clean: int = 7 * DAY_MS
    violated: int = 90 * DAY_MS


class Processing(Rules, frozen=True, kw_only=True):
    """How events are taken; one for a whole rulebook."""

    grace: int = 0
    """How long after its due time a timer still waits for records."""
    future_tolerance: int = 300_000
    """An own time further ahead of its record's timestamp is refused."""
    earliest: int = 1_262_304_000_000
    """Times below it stand for "no value" (2010-01-01)."""
    facts_wait: int = 30 * DAY_MS
    """How long a fact waits for its order."""
    late_payment: int = 7 * DAY_MS
    """An `order-paid` older than this is refused: its order may be known and forgotten."""


class Policy(Rules, frozen=True, kw_only=True):
    """One version of a platform's rules; parts left out switch that duty off."""

    platform: str
    name: str
    version: int
    time_zone: str
    effective_from: int | None = None
    effective_by: Literal["placed", "paid"] = "placed"
    default_platform: bool = False
    """Orders that name no platform are this one's."""
    kinds: dict[str, Kind]
    accounts: tuple[Account, ...] = ()
    sanctions: tuple[Sanction, ...] = ()
    exemptions: tuple[ExemptionGranted, ...] = ()
    """The policy's own, in the order of the file; granted at 0, so before all granted ones."""
    work_week: WorkWeek = WorkWeek()
    close_unshipped: int | None = None
    """An order that never shipped closes so long after it was placed."""
    retention: Retention = Retention()
    processing: Processing = Processing()

    @property
    def digest(self) -> str:
        """Identify what the policy says, whatever its name and version."""
        said = msgspec.structs.replace(self, name="", version=0)
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]

    @property
    def has_account(self) -> bool:
        """Whether a violation costs its shop anything, so that the shops stage has work to do."""
        return bool(self.accounts or self.sanctions)

    @property
    def label(self) -> str:
        """`name@version`, as outputs carry it."""
        return f"{self.name}@{self.version}"

    @property
    def modes(self) -> tuple[str, ...]:
        """The shipping modes that some kind has a clock for, in the order of the file."""
        return tuple(
            dict.fromkeys(
                mode
                for kind in self.kinds.values()
                for deadlines in (kind.deadlines, *(other.deadlines for other in kind.instead))
                for mode in deadlines
            )
        )
