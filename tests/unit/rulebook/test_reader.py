"""Policy files: what is read, and where and why a wrong one is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.core.rules.policy import Account, Amount, Cap, Deadline, Policy, Tier
from streams.rulebook import PolicyError, load_rulebook, pack_names
from streams.rulebook.reader import read_policy
from tests.unit.samples import DAY_MS, HOUR_MS, POLICY_TEXT

BASE = """\
platform = "acme"
name = "rules"
version = 1
time_zone = "Asia/Shanghai"

[violation.late-ship]
until = ["uploaded", "closed"]

[violation.late-ship.deadline]
normal = "48h after paid"

[[account]]
name = "deposit"
currency = "CNY"
amount = "10.00"
caps = { per_day = "500.00" }

[[sanction]]
of = "one order"
more_than = 2
action = "product-ban"

[[exemption]]
name = "x"
for = { regions = ["CN-XJ"] }
waive = true

[working_days]
weekend = ["sunday"]
"""


TIERS = (
    '{ of = "paid_amount", tiers = [{ up_to = "3.00", charge = "0" }, '
    '{ below = "300.00", charge = "3.00" }, { share = "1.5 %" }] }'
)


def read(text: str) -> Policy:
    """Read a file without mistakes."""
    policy, mistakes = read_policy(text, "rules.toml")
    assert policy is not None, mistakes
    return policy


def changed(old: str, new: str) -> str:
    """Return the base file with one piece replaced."""
    assert BASE.count(old) == 1
    return BASE.replace(old, new)


def mistakes_of(text: str) -> list[str]:
    """Return the mistakes of a file, as they are told."""
    policy, mistakes = read_policy(text, "rules.toml")
    assert policy is None
    return [str(mistake) for mistake in mistakes]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("version = 1", "version = 0", "version = 0 is not a whole number from 1 to"),
        ("version = 1", "version = true", "version = true is not a whole number"),
        ('name = "rules"', 'name = "Rules"', 'name = "Rules" is not a name'),
        ("Asia/Shanghai", "Asia/Peking", 'time_zone = "Asia/Peking" is not a time zone'),
        ("version = 1", "verson = 1", "verson is not a key here. Did you mean version?"),
        ('["uploaded", "closed"]', '["uploadd"]', '= ["uploadd"] has "uploadd", which is not'),
        ('["uploaded", "closed"]', '"uploaded"', 'is not a list. Write ["uploaded"]'),
        ("48h after paid", "48h since payment", 'Meant "48h after paid"?'),
        ("48h after paid", "48 after paid", "is not a deadline. Write"),
        ('"48h after paid"', "48", "normal = 48 is not a deadline"),
        ('"48h after paid"', "2022-01-01", "is not a deadline"),
        ('currency = "CNY"', 'currency = "yuan"', "is not a currency. Write an ISO 4217 code"),
        ('currency = "CNY"', "", "account[1] does not say what it counts. Give one of"),
        ('currency = "CNY"', 'currency = "CNY"\npoints = "B"', "has currency and points"),
        ('"10.00"', "10", 'Write "10.00" or "0.10" (10 minor units of CNY)'),
        ('"10.00"', "10.0", "is not an amount. Write digits in quotes"),
        ('"10.00"', '"10.005"', "is finer than CNY can be"),
        ('"10.00"', '"0.00"', 'amount = "0.00" charges nothing'),
        ('"10.00"', '{ of = "good_amount", share = "1 %" }', "is not \"paid_amount\" or"),
        ('"10.00"', '{ of = "paid_amount" }', 'needs either share = "10 %" or tiers'),
        ('"10.00"', '{ of = "paid_amount", share = "101 %" }', "is not a share"),
        ("per_day", "per_dya", "account[1].caps.per_dya is not a key here. Did you mean per_day?"),
        ('"one order"', '"the shop"', 'is not what a sanction can count. Write "one order"'),
        ('"one order"', '"account x, this week"', "counts account x; accounts: deposit"),
        ("product-ban", "product-ban\"\nlasts = \"1d", "does not go with product-ban"),
        ('"one order"', '"the shop, last 3 days"', 'goes with of = "one order" only'),
        ("waive = true", "", "exemption[1] has no effect. Give one of waive, waive_penalty"),
        ("waive = true", 'waive = true\nextend_by = "1h"', "has 2 effects"),
        ("waive = true", "waive = false", "waive = false is not true. Leave it out"),
        ("regions", "regins", "exemption[1].for.regins is not a key here. Did you mean regions?"),
        ('["sunday"]', '["sun"]', "is not a day of the week: monday, tuesday"),
        ('["sunday"]', '["sunday"]\nholidays = "USA-ZZ"', "is not a subdivision of"),
        ('["sunday"]', '["sunday"]\nholidays = "Xx"', "is not a country. Write its ISO 3166 code"),
        ('["sunday"]', '["sunday"]\ncut_off = "25:00"', "is not a time of day"),
    ],
)  # fmt: skip
def test_mistake_is_told_with_line_key_and_what_is_right(old: str, new: str, told: str) -> None:
    """One line a mistake."""
    (mistake,) = mistakes_of(changed(old, new))
    line = BASE[: BASE.index(old)].count("\n") + 1
    found = re.match(r"rules\.toml:(\d+): ", mistake)
    assert found is not None
    # A key that is missing has the line of its table.
    assert line - 3 <= int(found[1]) <= line + 2
    assert told in mistake


def test_all_mistakes_are_found_at_once() -> None:
    """By line."""
    text = BASE.replace("48h", "48").replace('"10.00"', "10").replace("waive = true", "")
    assert [mistake.split(": ")[0] for mistake in mistakes_of(text)] == [
        f"rules.toml:{line}" for line in (10, 15, 23)
    ]


@pytest.mark.parametrize("kind", ["deadline-warning", "order-closure", "Late", "late_scan"])
def test_kind_must_not_take_the_name_of_a_timer(kind: str) -> None:
    """A kind is in lower-case words and none of the names timers have."""
    told = "\n".join(mistakes_of(BASE.replace("late-ship", kind)))
    assert "is the name of a timer" in told or "is not a name" in told


def test_what_is_missing_is_asked_for() -> None:
    """With an example."""
    told = "\n".join(mistakes_of(""))
    for part in ("lacks name, such as", "lacks version", "lacks time_zone", "no kind of violation"):
        assert part in told


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ('"10.00"', Amount(tiers=(Tier(flat=1_000),))),
        (
            '{ of = "goods_amount", share = "10 %", at_least = "5.00", at_most = "50.00" }',
            Amount(of="goods_amount", tiers=(Tier(per_mille=100, at_least=500, at_most=5_000),)),
        ),
        (
            TIERS,
            Amount(
                of="paid_amount",
                tiers=(
                    Tier(up_to=300, flat=0),
                    Tier(up_to=29_999, flat=300),
                    Tier(per_mille=15),
                ),
            ),
        ),
    ],
)
def test_amounts_become_whole_numbers_of_the_smallest_unit(written: str, amount: Amount) -> None:
    """No float is anywhere near."""
    assert read(changed('"10.00"', written)).accounts[0].amount == amount


@pytest.mark.parametrize(
    ("unit", "amount", "expected"),
    [
        ('currency = "CNY"', '"10.5"', ("CNY", 1_050)),
        ('currency = "VND"', '"300"', ("VND", 300)),
        ('currency = "KWD"', '"1.234"', ("KWD", 1_234)),
        ('points = "B"', '"0.1"', ("tenth-point:B", 1)),
        ('unit = "strikes"', "3", ("strikes", 3)),
    ],
)
def test_units_have_their_own_digits(unit: str, amount: str, expected: tuple[str, int]) -> None:
    """ISO 4217 for money, tenths for points, whole numbers for anything else."""
    text = changed('currency = "CNY"', unit).replace('"10.00"', amount).replace(
        'caps = { per_day = "500.00" }', ""
    )  # fmt: skip
    account = read(text).accounts[0]
    assert (account.unit, account.amount.tiers[0].flat) == expected


@pytest.mark.parametrize(
    ("written", "deadline"),
    [
        ('"48h after paid"', Deadline("elapsed", "paid", 48 * HOUR_MS)),
        ('"end of the day 1d after placed"', Deadline("end-of-day", "placed", DAY_MS)),
        ('"3 calendar days after placed"', Deadline("calendar-days", "placed", 3)),
        ('"1 working day after uploaded"', Deadline("working-days", "uploaded", 1)),
        ('"as promised"', Deadline("elapsed", "promised", 0)),
        ('"as agreed"', Deadline("elapsed", "agreed", 0)),
        ("2021-11-17T00:00:00", Deadline("instant", "placed", 1_637_078_400_000)),
        ("2021-11-17T00:00:00Z", Deadline("instant", "placed", 1_637_107_200_000)),
    ],
)
def test_deadlines_have_seven_forms(written: str, deadline: Deadline) -> None:
    """A date-time without an offset is local."""
    kind = read(changed('"48h after paid"', written)).kinds["late-ship"]
    assert kind.deadlines == {"normal": deadline}


def test_a_whole_second_until_which_something_holds_is_meant_to_its_end() -> None:
    """In a file; events have milliseconds."""
    text = changed('regions = ["CN-XJ"]', "paid_until = 2020-02-09T23:59:59")
    assert read(text).exemptions[0].scope.paid_until == 1_581_263_999_999


def test_once_per_order_holds_for_every_shop_level() -> None:
    """Other caps for some orders leave it as it is."""
    text = changed(
        'caps = { per_day = "500.00" }',
        'once_per_order = true\ninstead = [{ when = { shop_levels = ["gold"] }, caps = {} }]',
    )
    (account,) = read(text).accounts
    once = (Cap(span="order", limit=1),)
    assert (account.caps, account.instead[0].caps) == (once, once)


NEW = """\
platform = "any"
name = "douyin-first-scan"
version = 1
time_zone = "Asia/Shanghai"
close_unshipped = "150d after placed"

[violation.late-scan]
until = ["scanned", "closed"]
times = 3
warn_before = ["24h", "4h"]

[violation.late-scan.deadline]
normal = "72h after placed"
express = "24h after uploaded"
stepped = "24h after uploaded"
presale = "as promised"

[[account]]
name = "points"
points = "B"
amount = "0.1"
caps = { per_week = "2.0" }

[[account]]
name = "deposit"
currency = "CNY"
amount = "10.00"
caps = { charges_per_order = 2, per_day = "500.00" }
settle = "next day at 00:00"

[[sanction]]
of = "one order"
more_than = 2
action = "product-ban"

[processing]
facts_wait = "7d"
"""


def test_old_files_are_read_as_before() -> None:
    """The first releases' default says what this file says in the words of today."""
    assert read(POLICY_TEXT) == read(NEW)


def test_old_sections_beside_new_ones_are_refused_with_what_to_write() -> None:
    """Nothing is half read."""
    (mistake,) = mistakes_of(f'{BASE}\n[closure]\nafter_placed = "150d"\n')
    assert (
        'is the old way to say it. Write close_unshipped = "150d after placed" instead' in mistake
    )


def test_mistakes_of_old_files_have_their_own_keys() -> None:
    """A person mends the file that is there."""
    (mistake,) = mistakes_of(POLICY_TEXT.replace("weekly_max = 20", "weekly_max = -1"))
    assert mistake.startswith("rules.toml:33: points.weekly_max = -1 ")


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (BASE.replace('"rules"', '"other"'), "would have two versions. Give one of them another"),
        (BASE.replace("acme", "other"), "rules@1 is what"),
        (
            BASE.replace("acme", "b").replace('"rules"', '"b"') + '[processing]\ngrace = "1h"\n',
            "processing.grace differs from",
        ),
        (POLICY_TEXT, 'is of rules for every order, beside other rules. Add platform = "..."'),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    tmp_path: Path, second: str, told: str
) -> None:
    """An order would have two versions, or one setting two values."""
    (tmp_path / "a.toml").write_text(BASE)
    (tmp_path / "b.toml").write_text(second)
    with pytest.raises(PolicyError) as refused:
        load_rulebook([str(tmp_path)])
    assert any(told in str(mistake) for mistake in refused.value.mistakes)


@pytest.mark.parametrize("name", pack_names())
def test_every_pack_says_where_its_figures_are_from(name: str) -> None:
    """And which of them are published, thin or our own choice."""
    from streams.rulebook import policy_files

    for file in policy_files(name):
        assert re.search(r"Source|No page could be read", file.text)
        assert "[choice]" in file.text
        for line in file.text.splitlines():
            if re.match(r'(normal|express|stepped|presale|standard|ship-\d+h|stock) = "', line):
                assert re.search(r"\[(fact|thin|choice)\]", line), line


def test_account_serves_all_kinds_unless_it_names_some() -> None:
    """A second kind is served, too."""
    second = (
        '[violation.late-scan]\nuntil = ["scanned"]\ndeadline = { normal = "72h after placed" }'
    )
    policy = read(f"{BASE}\n{second}\n")
    account: Account = policy.accounts[0]
    assert account.kinds == ("late-ship", "late-scan")
