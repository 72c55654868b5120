"""The sections and keys of a policy file: one table for the reader, its messages and the reference.

What lives here: each key's name, what it takes, its default and meaning. What must not: how values
are read (`values`) and what a policy is made of (`reader`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from streams.core.rules.phrases import duration_text
from streams.core.rules.policy import DAY_MS, STOPS, Processing, Retention
from streams.rulebook import values
from streams.rulebook.values import Value

REQUIRED: Any = object()
"""The default of a key that must stand."""
TIMES_MAX = 99
DAYS_MAX = 366
COUNT_MAX = 10**12
TABLE = Value(lambda value, _zone: value, "a table")
"""Read by the section that it makes."""
RAW = Value(lambda value, _zone: value, "see below")
"""Read with the block it stands in."""


class Key(NamedTuple):
    """A key of a section."""

    name: str
    value: Value
    meaning: str
    example: str
    default: Any = None
    default_text: str = "-"


class Section(NamedTuple):
    """A table of a file."""

    header: str
    meaning: str
    keys: tuple[Key, ...]


_PROCESSING, _RETENTION = Processing(), Retention()

HEADER = Section(
    "",
    "What the file is about. It stands above all tables.",
    (
        Key("platform", values.NAME_VALUE, "Whose rules these are. A file that names none takes "
            "every order, and stands alone.", '"douyin"', "any", "every order"),
        Key("name", values.NAME_VALUE, "Names the rules; outputs carry `name@version`.",
            '"my-rules"', REQUIRED),
        Key("version", values.number(1, 10**9), "Counts up with each change.", "1", REQUIRED),
        Key("time_zone", values.ZONE, "Of days, weeks and of date-times without an offset.",
            '"Asia/Shanghai"', REQUIRED),
        Key("effective_from", values.MOMENT, "The version is for orders from this time on.",
            "2024-02-01T00:00:00", None, "from the beginning"),
        Key("effective_by", values.choice("placed", "paid"), "The time of the order that "
            "`effective_from` is compared with.", '"paid"', "placed", "`placed`"),
        Key("default_platform", values.FLAG, "Orders that name no platform are this one's.",
            "true", False, "`false`"),
        Key("close_unshipped", values.CLOSURE, "An order without upload, scan or close by then "
            "closes, and its buyer is refunded.", '"150d after placed"', None, "never"),
        Key("violation", TABLE, "The kinds of violation.", "", {}),
        Key("account", TABLE, "What violations cost.", "", []),
        Key("sanction", TABLE, "What many violations bring about.", "", []),
        Key("exemption", TABLE, "Exceptions that are part of the rules.", "", []),
        Key("working_days", TABLE, "Which days count as working days.", "", {}),
        Key("retention", TABLE, "How long orders are kept.", "", {}),
        Key("processing", TABLE, "How events are taken.", "", {}),
    ),
)  # fmt: skip

VIOLATION = Section(
    "[violation.KIND]",
    "One kind of violation; KIND is a name of your own, such as `late-ship`.",
    (
        Key("deadline", TABLE, "A deadline for each shipping mode. These are the modes that orders "
            "may have; a mode left out has no clock of this kind.", 'normal = "48h after placed"',
            REQUIRED),
        Key("until", values.list_of(values.choice(*STOPS)), "The earliest of these facts stops the "
            "clock.", '["scanned", "closed"]', REQUIRED),
        Key("every", values.POSITIVE_DURATION, "How long after a violation the next one is due, as "
            "long as nothing stopped the clock.", '"24h"', DAY_MS, "`24h`"),
        Key("times", values.number(1, TIMES_MAX), "How many violations an order may have.", "3", 1,
            "1"),
        Key("warn_before", values.list_of(values.POSITIVE_DURATION), "How long before the deadline "
            "the shop is warned.", '["24h", "4h"]', (), "no warnings"),
        Key("limit", values.choice("late-at-limit", "on-time-at-limit"), "Whether a fact exactly "
            "at the deadline is late, or still in time (to the end of its second).",
            '"on-time-at-limit"', "late-at-limit", "`late-at-limit`"),
        Key("parcels", values.choice("any", "all"), "Whether one scanned number suffices, or every "
            "number uploaded needs a scan.", '"all"', "any", "`any`"),
        Key("instead", TABLE, "Other deadlines for some shop levels or categories: "
            "`{ when = { … }, deadline = { … } }`; the first that matches counts.", "", []),
    ),
)  # fmt: skip

KIND_INSTEAD = Section("instead", "", (
    Key("when", TABLE, "", "", REQUIRED),
    Key("deadline", TABLE, "", "", REQUIRED),
))  # fmt: skip

WHEN = Section(
    "when",
    "Which orders an `instead` is for: every list given names the order's own value.",
    (
        Key("shop_levels", values.list_of(values.TEXT), "Orders of shops of these levels.",
            '["gold"]'),
        Key("categories", values.list_of(values.TEXT), "Orders of these categories.", '["fresh"]'),
    ),
)  # fmt: skip

ACCOUNT = Section(
    "[[account]]",
    "One thing that violations cost. A name may stand twice, with different kinds; the caps of a "
    "block are for its own kinds alone. One of `currency`, `points` and `unit` says what it "
    "counts.",
    (
        Key("name", values.NAME_VALUE, "Names the account.", '"deposit"', REQUIRED),
        Key("kinds", values.list_of(values.NAME_VALUE), "Whose violations are charged.",
            '["late-ship"]', None, "all kinds"),
        Key("currency", RAW, "An ISO 4217 code: amounts are money.", '"CNY"'),
        Key("points", RAW, "A class of points: amounts are points, to the tenth.", '"B"'),
        Key("unit", RAW, "Any other unit: amounts are whole numbers.", '"strikes"'),
        Key("amount", RAW, "What one violation costs: an amount, a share, or tiers.", '"10.00"',
            REQUIRED),
        Key("caps", TABLE, "The most that is charged.", '{ per_day = "500.00" }', {}, "no caps"),
        Key("settle", values.SETTLEMENT, "When charges are made.", '"next day at 00:00"', None,
            '`at once`'),
        Key("once_per_order", values.FLAG, "An order is charged once, whatever its kinds.", "true",
            False, "`false`"),
        Key("instead", TABLE, "Another amount or other caps for some shop levels or categories: "
            "`{ when = { … }, amount = …, caps = { … } }`.", "", []),
    ),
)  # fmt: skip

ACCOUNT_INSTEAD = Section("instead", "", (
    Key("when", TABLE, "", "", REQUIRED),
    Key("amount", RAW, "", ""),
    Key("caps", TABLE, "", ""),
))  # fmt: skip

AMOUNT = Section(
    "amount",
    "An amount that depends on what the order cost: a `share` of it, or `tiers` of which the first "
    "that reaches it counts.",
    (
        Key("of", values.choice("paid_amount", "goods_amount"), "The amount of the order. Where "
            "`goods_amount` is not known, the paid amount stands in.", '"paid_amount"', REQUIRED),
        Key("share", RAW, "A share of it, rounded down.", '"10 %"'),
        Key("at_least", RAW, "No less than this.", '"5.00"'),
        Key("at_most", RAW, "No more than this.", '"50.00"'),
        Key("tiers", TABLE, "Tiers, in rising order.",
            '[{ up_to = "3.00", charge = "0.00" }, { share = "1 %" }]'),
    ),
)  # fmt: skip

TIER = Section(
    "tiers",
    "One tier of an amount.",
    (
        Key("up_to", RAW, "For amounts up to this one, itself included.", '"3.00"'),
        Key("below", RAW, "For amounts below this one.", '"300.00"'),
        Key("charge", RAW, "A fixed charge.", '"3.00"'),
        Key("share", RAW, "A share of the amount, rounded down.", '"1 %"'),
        Key("at_least", RAW, "No less than this.", '"5.00"'),
        Key("at_most", RAW, "No more than this.", '"30.00"'),
    ),
)  # fmt: skip

CAPS = Section(
    "caps",
    "The most an account charges. A charge that would exceed a cap is not made at all.",
    (
        Key("charges_per_order", values.number(1, TIMES_MAX), "Charges for one order.", "2"),
        Key("per_day", RAW, "For a shop's local day.", '"500.00"'),
        Key("per_week", RAW, "For a week, from Monday.", '"2.0"'),
        Key("per_month", RAW, "For a calendar month.", '"5000.00"'),
        Key("per_quarter", RAW, "For a calendar quarter.", '"9000.00"'),
        Key("rolling", TABLE, "For a number of local days, the violation's own the last.",
            '{ days = 30, amount = "6.0" }'),
    ),
)  # fmt: skip

ROLLING = Section("rolling", "", (
    Key("days", values.number(1, DAYS_MAX), "How many local days.", "30", REQUIRED),
    Key("amount", RAW, "The most for them.", '"6.0"', REQUIRED),
))  # fmt: skip

SANCTION = Section(
    "[[sanction]]",
    "What happens when more than so much stands.",
    (
        Key("counts", values.list_of(values.NAME_VALUE), "The kinds that count.", '["late-ship"]',
            None, "all kinds"),
        Key("of", RAW, 'Of what: `"one order"`, `"the shop, last 30 days"`, `"account points, this '
            'week"`; instead of `this week` also `this month`, `this quarter`, `last 90 days`.',
            '"one order"', REQUIRED),
        Key("more_than", RAW, "How much may stand. Of an account an amount, else a number.", "2",
            REQUIRED),
        Key("action", values.NAME_VALUE, "`product-ban` (of one order), or the name of an action "
            "on the shop.", '"delist-products"', REQUIRED),
        Key("lasts", values.POSITIVE_DURATION, "The action ends by itself so long after the last "
            "violation that brought it about.", '"30d"', None, "as long as the count holds"),
    ),
)  # fmt: skip

EXEMPTION = Section(
    "[[exemption]]",
    "An exception that is part of the rules. Those of a file apply in its order, before any that "
    "is granted later. It has exactly one effect.",
    (
        Key("name", values.TEXT, "Names the exemption.", '"spring-festival-2020"', REQUIRED),
        Key("kinds", values.list_of(values.NAME_VALUE), "For these kinds only.", '["late-ship"]',
            None, "all kinds"),
        Key("for", TABLE, "Which orders it covers.", "{ regions = [\"CN-XJ\"] }", {}, "all orders"),
        Key("waive", values.YES, "Effect: no violation at all.", "true"),
        Key("waive_penalty", values.YES, "Effect: the violation stands and costs nothing, and no "
            "sanction counts it.", "true"),
        Key("extend_to", values.MOMENT, "Effect: the deadline is not before this time.",
            "2022-12-20T00:00:00"),
        Key("extend_by", values.POSITIVE_DURATION, "Effect: the deadline is later by this.",
            '"24h"'),
        Key("set_to", values.MOMENT, "Effect: the deadline is this time, earlier or later.",
            "2021-11-17T00:00:00"),
        Key("deadline", values.DEADLINE, "Effect: another deadline rule.", '"as agreed"'),
    ),
)  # fmt: skip
EFFECTS = ("waive", "waive_penalty", "extend_to", "extend_by", "set_to", "deadline")

SCOPE = Section(
    "for",
    "Which orders an exemption covers: every key given must match, a list by any of its members.",
    (
        Key("order_ids", values.list_of(values.TEXT), "These orders.", '["O1"]'),
        Key("shop_ids", values.list_of(values.TEXT), "Orders of these shops.", '["S1"]'),
        Key("regions", values.list_of(values.TEXT), "Orders to these regions.", '["CN-XJ"]'),
        Key("ship_from_regions", values.list_of(values.TEXT), "Orders from these regions.",
            '["CN-XJ"]'),
        Key("shipping_modes", values.list_of(values.NAME_VALUE), "Orders shipped this way.",
            '["normal"]'),
        Key("platforms", values.list_of(values.TEXT), "Orders of these platforms.", '["douyin"]'),
        Key("shop_levels", values.list_of(values.TEXT), "Orders of shops of these levels.",
            '["gold"]'),
        Key("categories", values.list_of(values.TEXT), "Orders of these categories.", '["fresh"]'),
        Key("agreed", values.FLAG, "Orders with an agreed date, or without one.", "true"),
        Key("paid_from", values.MOMENT, "Orders paid at this time or later.",
            "2020-01-19T00:00:00"),
        Key("paid_until", values.LAST_MOMENT, "Orders paid at this time or before.",
            "2020-02-09T23:59:59"),
        Key("deadline_from", values.MOMENT, "Orders due, before any exemption, at this time or "
            "later.", "2022-12-01T00:00:00"),
        Key("deadline_until", values.LAST_MOMENT, "Orders due at this time or before.",
            "2022-12-31T23:59:59"),
        Key("not", TABLE, "A scope of its own that must not match.", '{ regions = ["CN-XJ"] }'),
    ),
)  # fmt: skip

WORKING_DAYS = Section(
    "[working_days]",
    "What deadlines in working days count.",
    (
        Key("weekend", values.list_of(values.WEEKDAY), "Days of the week without work.",
            '["saturday", "sunday"]', (), "none"),
        Key("holidays", RAW, "A country (ISO 3166), or country-subdivision, whose public holidays "
            "are not working days.", '"US"', None, "none"),
        Key("days_off", values.list_of(values.DAY), "Further dates without work.",
            "[2026-01-02]", (), "none"),
        Key("make_up_days", values.list_of(values.DAY), "Dates with work although a weekend or a "
            "holiday falls on them.", "[2026-02-14]", (), "none"),
        Key("cut_off", values.TIME_OF_DAY, "What starts at this time of day or later counts for "
            "the next day.", '"14:00"', None, "none"),
    ),
)  # fmt: skip

RETENTION = Section(
    "[retention]",
    "How long an order is kept after its last change.",
    (
        Key("clean", values.POSITIVE_DURATION, "Of an order without violations.", '"7d"',
            _RETENTION.clean, f"`{duration_text(_RETENTION.clean)}`"),
        Key("violated", values.POSITIVE_DURATION, "Of one with violations: so long appeals and "
            "late evidence can change them.", '"90d"', _RETENTION.violated,
            f"`{duration_text(_RETENTION.violated)}`"),
    ),
)  # fmt: skip

PROCESSING = Section(
    "[processing]",
    "How events are taken; one for all files of a rulebook. Most rules leave it out.",
    (
        Key("grace", values.DURATION, "How long after its due time a timer still waits for "
            "records.", '"0s"', _PROCESSING.grace, "`0s`"),
        Key("future_tolerance", values.DURATION, "An event's own time may be so far ahead of its "
            "record.", '"5m"', _PROCESSING.future_tolerance,
            f"`{duration_text(_PROCESSING.future_tolerance)}`"),
        Key("earliest", values.MOMENT, 'Times below it stand for "no value" and are refused.',
            "2010-01-01T00:00:00Z", _PROCESSING.earliest, "2010-01-01T00:00:00Z"),
        Key("facts_wait", values.POSITIVE_DURATION, "How long a fact waits for its order.",
            '"30d"', _PROCESSING.facts_wait, f"`{duration_text(_PROCESSING.facts_wait)}`"),
        Key("late_payment", values.POSITIVE_DURATION, "A payment older than this is refused: its "
            "order may be known and forgotten.", '"7d"', _PROCESSING.late_payment,
            f"`{duration_text(_PROCESSING.late_payment)}`"),
    ),
)  # fmt: skip

SECTIONS = (
    HEADER, VIOLATION, ACCOUNT, AMOUNT, TIER, CAPS, SANCTION, EXEMPTION, SCOPE, WHEN, WORKING_DAYS,
    RETENTION, PROCESSING,
)  # fmt: skip
"""In the order of the reference page."""

number_from_0 = values.number(0, COUNT_MAX)
"""How many violations a sanction allows."""
