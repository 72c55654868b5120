"""Rules written out: as files that read back, as differences, as a reference page."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.rules.policy import Deadline, Policy, WorkWeek
from streams.rulebook import load_rulebook, pack_names
from streams.rulebook.check import warnings
from streams.rulebook.diff import differences
from streams.rulebook.grammar import SECTIONS
from streams.rulebook.loading import PolicyFile
from streams.rulebook.reader import read_policy
from streams.rulebook.reference import reference
from streams.rulebook.show import policy_text
from tests.property.test_rules import rulebook_of
from tests.property.toml_rules import draw_files

DOCS = Path(__file__).parents[3] / "docs"
SEEDS = st.integers(min_value=0, max_value=2**32)


def read(text: str) -> Policy:
    """Read a file without mistakes."""
    policy, mistakes = read_policy(text, "rules.toml")
    assert policy is not None, "\n".join(map(str, mistakes)) + text
    return policy


@pytest.mark.parametrize("name", pack_names())
def test_every_pack_reads_back_from_what_is_shown(name: str) -> None:
    """With every default spelled out."""
    for policy in load_rulebook([name]).policies:
        assert read(policy_text(policy)) == policy


@given(seed=SEEDS)
def test_any_rules_read_back_from_what_is_shown(seed: int) -> None:
    """Whatever a file says."""
    for policy in rulebook_of(draw_files(random.Random(seed))).policies:
        assert read(policy_text(policy)) == policy


@given(first=SEEDS, second=SEEDS)
def test_rules_differ_exactly_where_something_is_told(first: int, second: int) -> None:
    """Equal rules have no difference, others have one."""
    one, other = (rulebook_of(draw_files(random.Random(seed))).policies for seed in (first, second))
    assert differences(one, one) == []
    assert bool(differences(one, other)) == (sorted(map(repr, one)) != sorted(map(repr, other)))


DOUYIN = load_rulebook(["douyin-2022"]).policies[0]
KIND, ACCOUNT, SANCTION = DOUYIN.kinds["late-ship"], DOUYIN.accounts[0], DOUYIN.sanctions[0]


def with_kind(**fields: Any) -> Policy:
    """Return the rules with fields of a kind replaced."""
    kinds = DOUYIN.kinds | {"late-ship": msgspec.structs.replace(KIND, **fields)}
    return msgspec.structs.replace(DOUYIN, kinds=kinds)


def with_first(part: str, **fields: Any) -> Policy:
    """Return the rules with fields of the first account or sanction replaced."""
    first, *rest = getattr(DOUYIN, part)
    return msgspec.structs.replace(
        DOUYIN, **{part: (msgspec.structs.replace(first, **fields), *rest)}
    )


@pytest.mark.parametrize(
    "policy",
    [
        msgspec.structs.replace(DOUYIN, version=2),
        msgspec.structs.replace(DOUYIN, time_zone="Asia/Tokyo"),
        msgspec.structs.replace(DOUYIN, effective_from=0),
        msgspec.structs.replace(DOUYIN, default_platform=True),
        msgspec.structs.replace(DOUYIN, close_unshipped=None),
        msgspec.structs.replace(DOUYIN, work_week=WorkWeek(weekend=(6,))),
        msgspec.structs.replace(DOUYIN, work_week=WorkWeek(cut_off=0)),
        msgspec.structs.replace(DOUYIN, work_week=WorkWeek(holiday_ordinals=(738_000,))),
        msgspec.structs.replace(
            DOUYIN, processing=msgspec.structs.replace(DOUYIN.processing, earliest=1)
        ),
        msgspec.structs.replace(
            DOUYIN, retention=msgspec.structs.replace(DOUYIN.retention, clean=1)
        ),
        with_kind(until=("uploaded",)),
        with_kind(every=1),
        with_kind(times=2),
        with_kind(warn_before=()),
        with_kind(on_time_at_limit=True),
        with_kind(parcels="all"),
        with_kind(deadlines={"normal": Deadline("elapsed", "paid", 1)}),
        with_first("accounts", settle_at=1),
        with_first("accounts", caps=()),
        with_first("accounts", unit="CNY"),
        with_first("sanctions", more_than=1),
        with_first("sanctions", lasts=1),
        with_first("sanctions", of="shop", action="freeze", days=3),
    ],
)
def test_every_field_has_its_words(policy: Policy) -> None:
    """One thing that differs is one line or more, and both sides are in it."""
    found = differences([DOUYIN], [policy])
    assert found
    assert all(each.before != each.now for each in found)


def test_reference_page_is_that_of_the_grammar() -> None:
    """`python -m streams.rulebook.reference` writes it."""
    assert (DOCS / "policy-reference.md").read_text(encoding="utf-8") == reference()


def test_every_key_has_words() -> None:
    """The reference says what it means, and shows an example of what is not a table."""
    for section in SECTIONS:
        for key in section.keys:
            assert key.meaning.endswith((".", ":")) or "`" in key.meaning, key.name


def test_the_guide_ends_with_rules_that_hold() -> None:
    """Its pieces, put together, are a file without mistakes or warnings."""
    guide = (DOCS / "write-your-own-rules.md").read_text(encoding="utf-8")
    *pieces, version = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    first = "".join(pieces)
    second = first.replace("version = 1\n", version)
    policies = [read(text) for text in (first, second)]
    files = [PolicyFile(f"{n}.toml", text) for n, text in enumerate((first, second))]
    assert warnings(list(zip(files, policies, strict=True))) == []
    assert policies[1].effective_from == 1_793_462_400_000
    assert set(policies[0].kinds) == {"late-ship", "late-scan"}


WARNED = """\
platform = "acme"
name = "rules"
version = 1
time_zone = "Asia/Shanghai"

[violation.late-ship]
until = ["uploaded"]
deadline = { normal = "2 working days after paid" }
every = "12h"

[[account]]
name = "deposit"
currency = "CNY"
amount = "10.00"
caps = { per_day = "5.00" }
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (WARNED, "lacks closed: orders that were refunded will be fined"),
        (WARNED, "is below one charge of 10.00 CNY: it would never charge"),
        (WARNED, "has no effect, as times is 1"),
        (WARNED, "counts every day: [working_days] has neither"),
        (WARNED.replace("2 working", "2 calendar") + '[working_days]\nweekend = ["sunday"]\n',
         "has no effect: no deadline is in working days"),
        (WARNED.replace("version = 1", "version = 1\neffective_from = 2026-01-01T00:00:00"),
         "older orders are refused as no-policy"),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant_is_warned_of(text: str, told: str) -> None:
    """With file and line."""
    found = warnings([(PolicyFile("rules.toml", text), read(text))])
    assert any(told in str(each) and each.line for each in found)
