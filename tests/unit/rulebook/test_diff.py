"""What differs between rules, in words: every field of a policy, and versions beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from streams.core.rules.policy import Policy, WorkWeek
from streams.rulebook.diff import differences
from tests.unit.rulebook.test_show import FULL, SMALL, read

# Edits of the file that has every key: the line changes from one to the other.
EDITS = r"""
platform = "acme" -> platform = "acne"
name = "rules" -> name = "others"
version = 3 -> version = 4
time_zone = "America/Los_Angeles" -> time_zone = "America/New_York"
effective_from = 2024-02-01T00:00:00 -> effective_from = 2024-02-01T00:00:01
effective_by = "paid" -> effective_by = "placed"
default_platform = true -> default_platform = false
close_unshipped = "150d after placed" -> close_unshipped = "151d after placed"
close_unshipped = "150d after placed" ->
until = ["closed", "scanned"] -> until = ["closed"]
every = "90m" -> every = "91m"
times = 3 -> times = 4
warn_before = ["36h", "1ms"] -> warn_before = ["36h"]
limit = "on-time-at-limit" -> limit = "late-at-limit"
parcels = "all" -> parcels = "any"
{ a = "as agreed" } -> { a = "as promised" }
{ a = "as agreed" } -> { b = "as agreed" }
when = { shop_levels = ["x"], categories = [] } -> when = { shop_levels = ["y"], categories = [] }
when = { shop_levels = ["x"], categories = [] } -> when = { shop_levels = ["x"] }
b = "end of the day 25h after paid" -> b = "end of the day 26h after paid"
b = "end of the day 25h after paid" -> b = "25h after paid"
b = "end of the day 25h after paid" -> b = "end of the day 25h after placed"
b = "end of the day 25h after paid" ->
c = "1 calendar day after placed" -> c = "1 working day after placed"
f = 2024-07-01T12:00:00 -> f = 2024-07-01T12:00:00.001
deadline = {} -> deadline = { a = "as agreed" }
name = "strikes" -> name = "dots"
kinds = ["late-ship"] -> kinds = []
points = "B" -> points = "A"
unit = "stri\u007fkes" -> unit = "strikes"
amount = 3 -> amount = 4
amount = "0.1" -> amount = "0.2"
of = "goods_amount" -> of = "paid_amount"
amount = "0.1" -> amount = { of = "paid_amount", share = "1 %" }
share = "1.5 %" -> share = "1.6 %"
at_least = "5" -> at_least = "6"
at_most = "50" -> at_most = "51"
charge = "0" -> charge = "1"
up_to = "3" -> up_to = "4"
charges_per_order = 2 -> charges_per_order = 3
per_day = "9" -> per_day = "8"
per_day = "9", ->
per_month = "0" -> rolling = { days = 31, amount = "0" }
days = 30 -> days = 31
amount = "6" -> amount = "7"
once_per_order = true ->
settle = "next day at 09:30" -> settle = "next day at 09:31"
settle = "next day at 09:30" -> settle = "at once"
{ categories = ["c"] }, amount = "4" -> { categories = ["d"] }, amount = "4"
amount = "4", caps = {} -> amount = "5", caps = {}
amount = "4", caps = {} -> amount = "4"
amount = "4", caps = {} -> caps = {}
amount = "4", caps = {} -> amount = "4", caps = { per_day = "1" }
counts = ["late-ship"] -> counts = ["other"]
of = "the shop, last 30 days" -> of = "the shop, last 31 days"
of = "the shop, last 30 days" -> of = "the shop, this month"
of = "the shop, last 30 days" -> of = "account strikes, last 30 days"
of = "account points, this quarter" -> of = "account points, this month"
more_than = 100 -> more_than = 101
more_than = "12.5" -> more_than = "12.6"
action = "limit" -> action = "limits"
lasts = "14d" -> lasts = "15d"
lasts = "14d" ->
name = "A" -> name = "Z"
kinds = ["other"] \nfor -> for
order_ids = ["O"] -> order_ids = ["O2"]
shop_ids = ["S"], ->
regions = ["CN-XJ"], -> regions = [],
ship_from_regions = ["CN-BJ"], ->
shipping_modes = ["a"] -> shipping_modes = ["b"]
platforms = ["acme"], ->
shop_levels = ["g"], ->
categories = ["c"], agreed -> agreed
agreed = false -> agreed = true
agreed = false, ->
paid_from = 2024-01-01T00:00:00 -> paid_from = 2024-01-01T00:00:00.001
paid_until = 2024-01-02T00:00:00 -> paid_until = 2024-01-02T00:00:01
deadline_from = 2024-01-01T00:00:00.500 -> deadline_from = 2024-01-01T00:00:00.501
deadline_until = 2024-01-03T00:00:00.500 -> deadline_until = 2024-01-03T00:00:00.501
not = { agreed = true, -> not = { agreed = false,
not = { regions = [] } -> regions = []
waive = true -> waive_penalty = true
extend_to = 2024-01-01T00:00:00 -> set_to = 2024-01-01T00:00:00
extend_to = 2024-01-01T00:00:00 -> extend_to = 2024-01-01T00:00:01
extend_by = "36h" -> extend_by = "37h"
set_to = 2024-01-01T00:00:00 -> set_to = 2024-01-01T00:00:01
deadline = 2024-01-01T00:00:00 -> deadline = 2024-01-01T00:00:01
deadline = 2024-01-01T00:00:00 -> set_to = 2024-01-01T00:00:00
deadline = "3 working days after uploaded" -> deadline = "3 calendar days after uploaded"
name = "B" -> name = "C0"
weekend = ["sunday", "friday"] -> weekend = ["sunday"]
holidays = "US-CA" -> holidays = "US"
holidays = "US-CA" ->
days_off = [2026-01-02] -> days_off = [2026-01-03]
make_up_days = [2026-02-14] -> make_up_days = []
cut_off = "00:00" -> cut_off = "00:01"
cut_off = "00:00" ->
clean = "8d" -> clean = "9d"
violated = "91d" -> violated = "92d"
grace = "1m" -> grace = "2m"
future_tolerance = "0s" -> future_tolerance = "1s"
earliest = 2011-01-01T00:00:00 -> earliest = 2011-01-01T00:00:01
facts_wait = "31d" -> facts_wait = "32d"
late_payment = "6d" -> late_payment = "7d"
"""
# Set by the reader, whatever a file says.
NEVER_WRITTEN = {("ExemptionGranted", "source"), ("ExemptionGranted", "granted_at")}


def edited() -> Iterator[tuple[str, Policy]]:
    """Yield each edit and the rules that it makes of the file."""
    for edit in EDITS.strip().splitlines():
        old, _, new = edit.partition(" ->")
        old, new = (part.replace(" \\n", "\n").strip() for part in (old, new))
        text = FULL.replace(old, new, 1)
        assert text != FULL, edit
        yield edit, read(text)


def differing(one: Any, other: Any) -> set[tuple[str, str]]:
    """Collect the fields in which two values of a type differ."""
    if isinstance(one, Struct) and type(one) is type(other):
        name = type(one).__name__
        pairs = {(name, field): (getattr(one, field), getattr(other, field))
                 for field in one.__struct_fields__}  # fmt: skip
        return {field for field, (a, b) in pairs.items() if a != b}.union(
            *(differing(a, b) for a, b in pairs.values())
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return set().union(*(differing(one[key], other[key]) for key in one if key in other))
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return set().union(*map(differing, one, other))
    return set()


def fields_of(kind: Any, found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Collect all fields of a type and of those within it."""
    if isinstance(kind, msgspec.inspect.StructType):
        names = {(kind.cls.__name__, field.name) for field in kind.fields}
        if not names <= found:
            found |= names
            for field in kind.fields:
                fields_of(field.type, found)
    for part in ("types", "item_types"):
        for one in getattr(kind, part, ()):
            fields_of(one, found)
    for part in ("item_type", "value_type"):
        if hasattr(kind, part):
            fields_of(getattr(kind, part), found)
    return found


def test_each_field_of_a_policy_is_compared() -> None:
    """Each edit is told, in texts that differ, and the edits reach all fields.

    So a field that is added to the types and not compared is noticed.
    """
    policy = read(FULL)
    reached: set[tuple[str, str]] = set()
    for edit, other in edited():
        assert other != policy, edit
        reached |= differing(policy, other)
        for one, two in ((policy, other), (other, policy)):
            found = differences([one], [two])
            assert found, edit
            assert all(each.before != each.now for each in found), (edit, found)
    fields = fields_of(msgspec.inspect.type_info(Policy), set())
    assert {("Cap", "days"), ("Scope", "not_"), ("Deadline", "amount")} <= fields
    assert fields - reached == NEVER_WRITTEN


def test_order_that_counts_is_compared() -> None:
    """The first `instead` that matches counts, and exemptions apply one after the other."""
    policy = read(FULL)
    for part, about in (("accounts", "accounts"), ("sanctions", "sanctions"),
                        ("exemptions", "exemptions")):  # fmt: skip
        turned = replace(policy, **{part: tuple(reversed(getattr(policy, part)))})
        assert [each.about for each in differences([policy], [turned])] == [f"order of {about}"]
    kind = policy.kinds["late-ship"]
    kinds = policy.kinds | {"late-ship": replace(kind, instead=tuple(reversed(kind.instead)))}
    (found,) = differences([policy], [replace(policy, kinds=kinds)])
    assert found.about == "late-ship, other deadlines"


def test_equal_rules_differ_in_nothing() -> None:
    """Whatever they say."""
    assert differences([read(FULL)], [read(FULL)]) == []


def test_holidays_of_a_new_release_are_told() -> None:
    """The file is the same, the days are others."""
    policy = read(SMALL)
    week = WorkWeek(holidays="US", holiday_ordinals=(738_000, 738_001))
    moved = replace(week, holiday_ordinals=(738_000, 738_002))
    found = differences([replace(policy, work_week=week)], [replace(policy, work_week=moved)])
    assert list(map(str, found)) == [
        "public holidays that the other does not have: now 2021-07-31; before: 2021-07-30"
    ]
    other = differences([policy], [replace(policy, work_week=WorkWeek(holidays="VN"))])
    assert list(map(str, other)) == ["public holidays of: new: VN"]


def test_parts_of_one_name_are_compared_in_their_order() -> None:
    """Steps of one sanction: the second is the one that differs, or that is new."""
    first = read(FULL).sanctions[1]
    steps = [replace(first, more_than=more_than) for more_than in (100, 200, 300)]
    one, two, other = (
        replace(FIRST, sanctions=each)
        for each in ((steps[0],), (steps[0], steps[1]), (steps[0], steps[2]))
    )
    (found,) = differences([two], [other])
    assert found.before == (
        "limit for more than 200 violations (late-ship or other) of the shop within 30 days, "
        "for 14 d"
    )
    assert found.now is not None
    assert "more than 300" in found.now
    (found,) = differences([one], [two])
    assert (found.before, found.now is None) == (None, False)


def version(number: int, hours: int, since: str = "", platform: str = "acme") -> Policy:
    """Return a version of some rules."""
    text = f'platform = "{platform}"\n' + SMALL.replace("48h", f"{hours}h")
    text = text.replace("version = 1", f"version = {number}")
    return read(f"effective_from = {since}T00:00:00\n{text}" if since else text)


NORMAL = "late-ship, order in mode normal"
FIRST = version(1, 72)
SECOND = version(2, 48, "2024-02-01")
THIRD = version(3, 24, "2025-02-01")


def test_added_version_is_compared_with_the_one_it_takes_over_from() -> None:
    """And the versions that stay differ in nothing."""
    assert list(map(str, differences([FIRST, SECOND], [FIRST, SECOND, THIRD]))) == [
        "rules@3: rules: new: for orders placed from 2025-02-01 00:00:00 on",
        f"rules@3: {NORMAL}: now due 24 h after placing; before: due 48 h after placing",
    ]


def test_removed_version_is_compared_with_the_one_that_stays() -> None:
    """Its orders are judged by that."""
    assert list(map(str, differences([FIRST, THIRD, SECOND], [SECOND, FIRST]))) == [
        "rules@3: rules: no longer; before: for orders placed from 2025-02-01 00:00:00 on",
        f"rules@3: {NORMAL}: now due 48 h after placing; before: due 24 h after placing",
    ]


def test_changed_version_of_several_is_named() -> None:
    """The others have nothing to tell."""
    changed_second = version(2, 36, "2024-02-01")
    (found,) = differences([FIRST, SECOND, THIRD], [FIRST, changed_second, THIRD])
    assert str(found) == (
        f"rules@2: {NORMAL}: now due 36 h after placing; before: due 48 h after placing"
    )


def test_version_that_starts_at_another_time_is_the_same_version() -> None:
    """It is not one less and one more."""
    (found,) = differences([FIRST, SECOND], [FIRST, version(2, 48, "2024-03-01")])
    assert str(found) == (
        "rules@2: for orders: now placed from 2024-03-01 00:00:00 on; "
        "before: placed from 2024-02-01 00:00:00 on"
    )


def test_versions_of_other_platforms_are_not_compared() -> None:
    """Each platform with itself; one that comes or goes is told as a whole."""
    other = replace(version(1, 10, platform="other"), name="others")
    (found,) = differences([FIRST], [FIRST, other])
    assert str(found) == "others@1: rules: new: for orders from the beginning"
    (found,) = differences([other, FIRST], [FIRST])
    assert str(found) == "others@1: rules: no longer; before: for orders from the beginning"


def test_rules_of_two_platforms_alone_are_compared_as_a_whole() -> None:
    """That is what was asked for."""
    assert list(map(str, differences([FIRST], [version(1, 48, platform="other")]))) == [
        "platform: now other; before: acme",
        f"{NORMAL}: now due 48 h after placing; before: due 72 h after placing",
    ]


def test_kind_that_comes_is_told_with_all_it_says() -> None:
    """Its stops and repeats are as new as its deadline."""
    more = FIRST.kinds | {"late-scan": read(FULL).kinds["other"]}
    (found,) = differences([FIRST], [replace(FIRST, kinds=more)])
    assert str(found) == (
        "violation late-scan: new: stopped by nothing; found again every 24 h, 2 times in all; "
        "the shop is warned never; a fact exactly at the deadline is late; "
        "one scanned number suffices"
    )
