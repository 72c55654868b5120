"""What `policy check` warns of, and near it what it does not: allowed, and probably not meant."""

from __future__ import annotations

from datetime import date

import pytest
from msgspec.structs import replace

from streams.rulebook import pack_names
from streams.rulebook.check import warnings
from streams.rulebook.loading import PolicyFile, read_policies
from tests.unit.rulebook.test_diff import FIRST, SECOND
from tests.unit.rulebook.test_show import read
from tests.unit.samples import POLICY_TEXT

HEADER = """\
platform = "acme"
name = "rules"
version = 1
time_zone = "Asia/Shanghai"
"""
KIND = """\
[violation.late-ship]
until = ["scanned", "closed"]
deadline = { normal = "48h after paid", slow = "96h after paid" }
"""
ACCOUNT = """\
[[account]]
name = "deposit"
currency = "CNY"
amount = "10.00"
"""
TIERS = """\
[[account]]
name = "deposit"
currency = "CNY"
amount = { of = "paid_amount", tiers = [
    { up_to = "3.00", charge = "0" }, { below = "300.00", charge = "3.00" }, { share = "1 %" },
] }
"""
WORKING = KIND.replace("48h after paid", "2 working days after paid")


def told(text: str) -> list[str]:
    """Return what a file is warned of: line, path and message."""
    found = warnings([(PolicyFile("rules.toml", text), read(text))])
    return [str(each).removeprefix("rules.toml:") for each in found]


def instead(*whens: str, deadline: str = '{ normal = "1h after paid" }') -> str:
    """Return the kind with other deadlines under some conditions."""
    tables = (f"{{ when = {{ {when} }}, deadline = {deadline} }}" for when in whens)
    return f"{KIND}instead = [{', '.join(tables)}]\n"


def account_instead(*tables: str) -> str:
    """Return the kind with an account that has other amounts or caps."""
    return f"{KIND}{ACCOUNT}instead = [{', '.join(tables)}]\n"


def exempted(scope: str) -> str:
    """Return the kind with an exemption of a scope."""
    return f'{KIND}[[exemption]]\nname = "X"\nfor = {{ {scope} }}\nwaive = true\n'


@pytest.mark.parametrize("name", pack_names())
def test_packs_have_no_warning(name: str) -> None:
    """They are what people start from."""
    assert warnings(read_policies([name])) == []


GOLD, SILVER = 'shop_levels = ["gold"]', 'shop_levels = ["silver"]'
BOTH, FRESH = 'shop_levels = ["silver", "gold"]', 'categories = ["fresh"]'
SLOW = '{ when = { shop_levels = ["gold"] }, deadline = { slow = "1h after paid" } }'


@pytest.mark.parametrize(
    "text",
    [
        KIND,
        instead(GOLD, SILVER),
        instead(GOLD, BOTH),
        instead(f"{GOLD}, {FRESH}", GOLD),
        instead(f"{GOLD}, {FRESH}", f"{SILVER}, {FRESH}", BOTH),
        instead(GOLD, FRESH),
        instead(GOLD).replace("}]\n", f"}}, {SLOW}]\n"),
        account_instead(
            f'{{ when = {{ {GOLD} }}, amount = "5.00" }}',
            f'{{ when = {{ {GOLD} }}, caps = {{ per_day = "10.00" }} }}',
        ),
        KIND.replace('"scanned", ', "").replace("paid", "uploaded"),
        KIND.replace('"scanned"', '"uploaded"'),
        KIND.replace('"scanned"', '"uploaded"').replace("48h after paid", "0s after uploaded"),
        KIND.replace("48h after paid", "as promised").replace('"scanned"', '"uploaded"'),
        KIND.replace("48h after", "end of the day 48h after"),
        KIND.replace("48h after", "2d after"),
        exempted('shipping_modes = ["normal", "slow"], platforms = ["acme", "other"]'),
        f'{KIND}{ACCOUNT}caps = {{ charges_per_order = 1, per_day = "10.00" }}\n',
        f'{KIND}{TIERS}caps = {{ per_day = "3.01" }}\n',
        f'{WORKING}[working_days]\nweekend = ["sunday"]\nholidays = "US"\n',
        f'{WORKING}[working_days]\nholidays = "CN"\n',
        f'{KIND}parcels = "all"\n',
    ],
)
def test_what_has_a_meaning_is_not_warned_of(text: str) -> None:
    """Each is near something that is warned of."""
    assert told(HEADER + text) == []


NEVER = "never counts: earlier ones are for the same orders"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (instead(GOLD, GOLD), f"8: violation.late-ship.instead[2] {NEVER}"),
        (instead(BOTH, GOLD), f"8: violation.late-ship.instead[2] {NEVER}"),
        (instead(GOLD, SILVER, BOTH), f"8: violation.late-ship.instead[3] {NEVER}"),
        (instead(GOLD, f"{GOLD}, {FRESH}"), f"8: violation.late-ship.instead[2] {NEVER}"),
        (instead("shop_levels = []"), f"8: violation.late-ship.instead[1] {NEVER}"),
        (
            instead(GOLD, deadline='{ quick = "1h after paid" }'),
            ("8: violation.late-ship.instead[1] has mode quick, which other orders of this kind do "
            "not have"),
        ),
        (
            account_instead(
                f'{{ when = {{ {BOTH} }}, amount = "5.00" }}',
                f'{{ when = {{ {GOLD} }}, amount = "6.00" }}',
            ),
            f"12: account[1].instead[2] {NEVER}",
        ),
        (
            KIND.replace('"scanned"', '"uploaded"').replace("48h after paid", "1h after uploaded"),
            ("7: violation.late-ship.deadline.normal is never late: the upload that starts this "
            "clock stops it"),
        ),
        (
            KIND.replace("48h after", "end of the day 2d after"),
            ("7: violation.late-ship.deadline.normal counts 2 days of 24 hours from that midnight "
            'on. Write "end of the day 48h after paid" if this is meant, or "2 calendar days after '
            'paid"'),
        ),
        (
            f'{KIND}parcels = "all"\n'.replace('"scanned", ', ""),
            "8: violation.late-ship.parcels has no effect, as until lacks scanned",
        ),
        (
            exempted('shipping_modes = ["normal", "sloow"]'),
            ("10: exemption[1].for names mode sloow, which no kind has a deadline for; modes: "
            "normal, slow"),
        ),
        (
            exempted('regions = ["CN-XJ"], not = { shipping_modes = ["sloow"] }'),
            ("10: exemption[1].for.not names mode sloow, which no kind has a deadline for; modes: "
            "normal, slow"),
        ),
        (
            exempted('platforms = ["other"]'),
            "10: exemption[1].for matches no order: these rules are of platform acme",
        ),
        (exempted("regions = []"), "10: exemption[1].for matches no order: regions is empty"),
        (
            f'{KIND}{ACCOUNT}caps = {{ per_day = "9.99", per_week = "10.00" }}\n',
            ("12: account[1].caps.per_day of 9.99 CNY is below one charge of 10.00 CNY: it would "
            "never charge"),
        ),
        (
            f'{KIND}{TIERS}caps = {{ per_day = "3.00" }}\n'.replace(
                '{ share = "1 %" }', '{ share = "1 %", at_least = "5.00" }'
            ),
            ("14: account[1].caps.per_day of 3.00 CNY is below one charge of 5.00 CNY: orders that "
            "cost so much would not be charged at all"),
        ),
        (
            f'{KIND}{TIERS}caps = {{ rolling = {{ days = 3, amount = "2.00" }} }}\n',
            ("14: account[1].caps.rolling of 2.00 CNY is below one charge of 3.00 CNY: it would "
            "never charge"),
        ),
        (
            account_instead(f'{{ when = {{ {GOLD} }}, amount = "50.00" }}')
            + 'caps = { per_day = "20.00" }\n',
            ("13: account[1].caps.per_day of 20.00 CNY is below one charge of 50.00 CNY: it would "
            "never charge (shop level gold)"),
        ),
        (
            account_instead(f'{{ when = {{ {FRESH} }}, caps = {{ per_day = "5.00" }} }}'),
            ("12: account[1].instead[1].caps.per_day of 5.00 CNY is below one charge of 10.00 CNY: "
            "it would never charge (category fresh)"),
        ),
        (
            f'{WORKING}[working_days]\ndays_off = [2026-01-02]\n',
            ("7: violation.late-ship.deadline.normal counts every day: [working_days] has neither "
            "weekend nor holidays"),
        ),
        (
            f'{KIND}[working_days]\ncut_off = "00:00"\n',
            "8: working_days has no effect: no deadline is in working days",
        ),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant_is_warned_of(text: str, warning: str) -> None:
    """With the line, the key and why, and nothing else beside it."""
    assert told(HEADER + text) == [warning]


def test_working_days_of_an_exemption_count_too() -> None:
    """Then the calendar has an effect."""
    exemption = '[[exemption]]\nname = "X"\ndeadline = "1 working day after paid"\n'
    week = '[working_days]\nweekend = ["sunday"]\n'
    assert told(HEADER + KIND + exemption + week) == []
    assert told(HEADER + KIND + exemption) == [
        (
            "10: exemption[1].deadline counts every day: [working_days] has neither weekend nor "
            "holidays"
        )
    ]


def test_holidays_that_end_are_warned_of() -> None:
    """From the first year after which none has as many as people are used to."""
    text = f'{HEADER}{WORKING}[working_days]\nholidays = "US"\n'
    policy = read(text)
    week = policy.work_week

    def since(*, last: int, without: int = 0, more: tuple[int, ...] = ()) -> list[str]:
        days = tuple(
            day for day in week.holiday_ordinals
            if (year := date.fromordinal(day).year) <= last and year != without
        )  # fmt: skip
        cut = replace(week, holiday_ordinals=days, days_off=more)
        found = warnings([(PolicyFile("r", text), replace(policy, work_week=cut))])
        return [each.message for each in found]

    (message,) = since(last=2030)
    assert message == (
        "US: not all are known from 2031 on; from then on deadlines count holidays as working "
        "days, until days_off names them"
    )
    # A single thin year is an accident of the calendar.
    assert since(last=2100, without=2040) == []
    named = tuple(date(2031, 1, day).toordinal() for day in range(1, 13))
    (message,) = since(last=2030, more=named)
    assert "from 2032 on" in message


def test_warnings_name_the_keys_of_an_old_file() -> None:
    """As they stand there, with their lines."""
    text = POLICY_TEXT.replace("daily_max = 50000", "daily_max = 500")
    text = text.replace(', "order-closed"', "")
    lines = text.splitlines()
    found = warnings([(PolicyFile("old.toml", text), read(text))])
    assert [(each.path, lines[each.line - 1].split(" ")[0]) for each in found] == [
        ("violations.late-scan.stopped_by", "stopped_by"),
        ("deposit.daily_max", "daily_max"),
    ]


def test_versions_are_looked_at_together() -> None:
    """The first has no start, and a mode that goes is named."""
    first, second = (PolicyFile(name, HEADER) for name in ("first", "second"))
    assert warnings([(first, FIRST), (second, SECOND)]) == []
    (found,) = warnings([(second, SECOND)])
    assert found.message == (
        "starts the first rules of platform acme: older orders are refused as no-policy"
    )
    kind = SECOND.kinds["late-ship"]
    renamed = replace(kind, deadlines={"regular": kind.deadlines["normal"]})
    other = replace(SECOND, kinds={"late-ship": renamed})
    (found,) = warnings([(first, FIRST), (second, other)])
    assert found.message.startswith("lacks mode normal of rules@1: such orders are refused")
