"""Any rules and any log: what stands is what a naive program finds in the files' own text."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.core.rules.book import Rulebook
from streams.engine.simulate import simulate
from streams.rulebook.reader import read_policy
from tests.auditor.fold import Output, fold_bans, fold_journal, parse
from tests.auditor.rules import judge_by
from tests.property.driver import Chaos, play
from tests.property.toml_rules import Facts, as_events, draw_facts, draw_files

SEEDS = st.integers(min_value=0, max_value=2**32)


def rulebook_of(files: list[str]) -> Rulebook:
    """Read files; they must have no mistakes."""
    policies = []
    for number, text in enumerate(files):
        policy, mistakes = read_policy(text, f"{number}.toml")
        assert policy is not None, "\n".join(map(str, mistakes)) + text
        policies.append(policy)
    return Rulebook(policies)


def run(events: list[dict[str, Any]], rulebook: Rulebook) -> list[Output]:
    """Return what comes of a log."""
    return parse(simulate([json.dumps(event).encode() for event in events], rulebook))


def stands(outputs: list[Output]) -> dict[str, Any]:
    """Return what stands after some outputs: violations, journal and bans."""
    standing: dict[str, dict[str, int]] = {}
    for output in outputs:
        value = output["value"]
        if output["topic"] != "timeout":
            continue
        if value["type"] == "timeout.determined":
            times = {name: value[name] for name in ("deadline", "determined_at")}
            standing[value["violation_id"]] = times
        else:
            del standing[value["violation_id"]]
    by_topic = {
        topic: [output for output in outputs if output["topic"] == topic]
        for topic in ("penalty", "product-ban")
    }
    return {
        "standing": standing,
        "journal": fold_journal(by_topic["penalty"]),
        "bans": sorted(
            fold_bans(by_topic["product-ban"]), key=lambda ban: ban["shop_id"] + ban["product_id"]
        ),
    }


def _by_product(ban: dict[str, str]) -> tuple[str, str]:
    return ban["shop_id"], ban["product_id"]


def drawn(seed: int) -> tuple[random.Random, list[str], Facts]:
    """Return files and facts of a seed."""
    rng = random.Random(seed)
    return rng, draw_files(rng), draw_facts(rng)


@given(seed=SEEDS)
def test_what_stands_is_what_the_files_say(seed: int) -> None:
    """However the facts arrive: violations, charges within caps, bans."""
    rng, files, facts = drawn(seed)
    outputs = run(as_events(rng, facts), rulebook_of(files))
    assert stands(outputs) == judge_by(files, facts)


@given(seed=SEEDS)
def test_accidents_change_no_byte(seed: int) -> None:
    """Batches of any size, lost commits and restarts leave every output as it was."""
    rng, files, facts = drawn(seed)
    rulebook, log = rulebook_of(files), as_events(rng, facts)
    calm = play(log, rulebook, Chaos(random.Random(seed)))
    chaos = Chaos(
        rng,
        batch_max=rng.choice((1, 3, 10)),
        outputs_max=rng.choice((1, 2, 10, 100)),
        crash=rng.choice((0.0, 0.1, 0.5)),
        lost_commit=rng.choice((0.0, 0.1, 0.5)),
        mark=rng.random(),
    )
    assert play(log, rulebook, chaos) == calm


@given(seed=SEEDS)
def test_waiving_penalties_changes_no_timeout(seed: int) -> None:
    """The violations stand and are told as they would be without it, and cost nothing."""
    rng, files, facts = drawn(seed)
    events, rulebook = as_events(rng, facts), rulebook_of(files)
    waiver = {
        "topic": "exemption-granted",
        "timestamp": rng.choice(events)["timestamp"],
        "value": {
            "exemption_id": "FREE", "source": "platform", "granted_at": 1_700_000_000_000,
            "effect": {"waive_penalty": True}, "scope": {},
        },
    }  # fmt: skip
    waiver["value"]["granted_at"] = waiver["timestamp"]
    before = run(events, rulebook)
    events.insert(rng.randrange(len(events) + 1), waiver)
    after = run(events, rulebook)
    assert stands(after) == {"standing": stands(before)["standing"], "journal": [], "bans": []}


@given(seed=SEEDS)
def test_a_stricter_limit_removes_no_violation(seed: int) -> None:
    """Without exemptions, whoever was late by a longer limit is late by a shorter one."""
    rng, files, facts = drawn(seed)
    # A shorter limit may come before the upload of a second parcel that is never scanned.
    plain = [
        text.split("[[exemption]]")[0].replace('parcels = "all"', 'parcels = "any"')
        for text in files
    ]
    stricter = [text.replace('"48h after', '"6h after').replace('"36h after', '"6h after')
                for text in plain]  # fmt: skip
    facts = [fact for fact in facts if fact[0] != "exemption-granted"]
    events = as_events(rng, facts)
    loose, strict = (
        stands(run(events, rulebook_of(each)))["standing"] for each in (plain, stricter)
    )
    assert not loose.keys() - strict.keys()


@given(seed=SEEDS)
def test_no_cap_is_ever_exceeded(seed: int) -> None:
    """At no point of the journal does a shop owe more for a day than the largest daily cap."""
    rng, files, facts = drawn(seed)
    rulebook = rulebook_of(files)
    limits: dict[tuple[str, str], int | None] = {}
    for policy in rulebook.policies:
        for account in policy.accounts:
            caps = [cap.limit for cap in account.caps if cap.span == "day"]
            other = bool(account.instead) or not caps
            for kind in account.kinds:
                known = limits.get((account.name, kind), 0)
                limits[account.name, kind] = None if other or known is None else max(known, caps[0])
    owed: Counter[tuple[str, ...]] = Counter()
    for output in run(as_events(rng, facts), rulebook):
        if output["topic"] != "penalty":
            continue
        value = output["value"]
        kind = value["violation_id"].split(":")[1]
        place = value["shop_id"], value["account"], kind, value["unit"], value["day"]
        owed[place] += value["amount"]
        limit = limits[value["account"], kind]
        # Reversals come first within a re-run, so no prefix is above the cap of one platform.
        assert limit is None or owed[place] <= limit * len(rulebook.versions)
