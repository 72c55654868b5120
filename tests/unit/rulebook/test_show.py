"""A policy written out as a file: every key of the grammar, every default, and back."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from streams.core.rules.policy import Policy
from streams.rulebook.grammar import SECTIONS
from streams.rulebook.reader import read_policy
from streams.rulebook.show import policy_text

SMALL = """\
name = "rules"
version = 1
time_zone = "Asia/Shanghai"
[violation.late-ship]
until = ["uploaded", "closed"]
deadline = { normal = "48h after placed" }
"""

FULL = """\
platform = "acme"
name = "rules"
version = 3
time_zone = "America/Los_Angeles"
effective_from = 2024-02-01T00:00:00
effective_by = "paid"
default_platform = true
close_unshipped = "150d after placed"

[violation.late-ship]
until = ["closed", "scanned"]
every = "90m"
times = 3
warn_before = ["36h", "1ms"]
limit = "on-time-at-limit"
parcels = "all"
instead = [
    { when = { shop_levels = ["gold", "a \\"b\\" 金"] }, deadline = { a = "as agreed" } },
    { when = { shop_levels = ["x"], categories = [] }, deadline = { a = 2024-02-01T00:00:00.007 } },
]

[violation.late-ship.deadline]
a = "1000ms after placed"
b = "end of the day 25h after paid"
c = "1 calendar day after placed"
d = "0 working days after uploaded"
e = "as promised"
f = 2024-07-01T12:00:00

[violation.other]
until = []
times = 2
deadline = {}

[[account]]
name = "yen"
kinds = ["late-ship"]
currency = "JPY"
amount = { of = "goods_amount", share = "1.5 %", at_least = "5", at_most = "50" }
caps = { charges_per_order = 2, per_day = "9", per_week = "99", per_month = "0", per_quarter = "7" }
settle = "next day at 09:30"

[[account]]
name = "yen"
kinds = ["other"]
currency = "JPY"
amount = { of = "paid_amount", tiers = [{ up_to = "3", charge = "0" }, { below = "9", share = "1 %" }] }
once_per_order = true
caps = { rolling = { days = 30, amount = "6" } }
instead = [{ when = { categories = ["c"] }, amount = "4", caps = {} }, { when = { categories = [] }, amount = "1" }]

[[account]]
name = "points"
points = "B"
amount = "0.1"

[[account]]
name = "strikes"
unit = "stri\\u007fkes"
amount = 3

[[sanction]]
counts = ["late-ship"]
of = "one order"
more_than = 0
action = "product-ban"

[[sanction]]
of = "the shop, last 30 days"
more_than = 100
action = "limit"
lasts = "14d"

[[sanction]]
of = "account points, this quarter"
more_than = "12.5"
action = "freeze"

[[sanction]]
of = "account yen, today"
counts = ["other"]
more_than = "12"
action = "freeze"

[[exemption]]
name = "A"
kinds = ["other"]
for = { order_ids = ["O"], shop_ids = ["S"], regions = ["CN-XJ"], ship_from_regions = ["CN-BJ"], shipping_modes = ["a"], platforms = ["acme"], shop_levels = ["g"], categories = ["c"], agreed = false, paid_from = 2024-01-01T00:00:00, paid_until = 2024-01-02T00:00:00, deadline_from = 2024-01-01T00:00:00.500, deadline_until = 2024-01-03T00:00:00.500, not = { agreed = true, not = { regions = [] } } }
waive = true

[[exemption]]
name = "B"
waive_penalty = true

[[exemption]]
name = "C"
extend_to = 2024-01-01T00:00:00

[[exemption]]
name = "D"
extend_by = "36h"

[[exemption]]
name = "E"
set_to = 2024-01-01T00:00:00

[[exemption]]
name = "F"
deadline = 2024-01-01T00:00:00

[[exemption]]
name = "G"
deadline = "3 working days after uploaded"

[working_days]
weekend = ["sunday", "friday"]
holidays = "US-CA"
days_off = [2026-01-02]
make_up_days = [2026-02-14]
cut_off = "00:00"

[retention]
clean = "8d"
violated = "91d"

[processing]
grace = "1m"
future_tolerance = "0s"
earliest = 2011-01-01T00:00:00
facts_wait = "31d"
late_payment = "6d"
"""  # noqa: E501 - inline tables of TOML 1.0 are one line

# What is read as another key, by which it is shown.
SHOWN_AS = {"below": "up_to", "once_per_order": "charges_per_order"}


def read(text: str) -> Policy:
    """Read a file without mistakes."""
    policy, mistakes = read_policy(text, "rules.toml")
    assert policy is not None, "\n".join(map(str, mistakes))
    return policy


def keys_of(value: Any) -> set[str]:
    """Collect the keys of all tables."""
    if isinstance(value, dict):
        return {str(key) for key in value}.union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("text", [SMALL, FULL])
def test_what_is_shown_reads_back(text: str) -> None:
    """And is shown the same again."""
    policy = read(text)
    shown = policy_text(policy)
    assert read(shown) == policy
    assert policy_text(read(shown)) == shown


def test_every_key_is_written_and_shown() -> None:
    """The file above has each key of the grammar, and what is shown has it again."""
    known = {key.name for section in SECTIONS for key in section.keys}
    assert known <= keys_of(tomllib.loads(FULL))
    shown = keys_of(tomllib.loads(policy_text(read(FULL))))
    assert {SHOWN_AS.get(name, name) for name in known} <= shown


def test_every_default_is_spelled_out() -> None:
    """The smallest file shows the keys of its sections, those that are off as a comment."""
    shown = policy_text(read(SMALL))
    assert 'platform = "any"' in shown
    assert (
        '[violation.late-ship]\nuntil = ["uploaded", "closed"]\nevery = "24h"\ntimes = 1' in shown
    )
    assert 'limit = "late-at-limit"\nparcels = "any"' in shown
    assert "# effective_from is not set" in shown
    assert "# close_unshipped is not set" in shown
    assert '[retention]\nclean = "7d"\nviolated = "90d"' in shown
    assert '[processing]\ngrace = "0s"' in shown
