"""Fold output records into what stands, and check the laws that every output log must keep."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.auditor.naive import DAY_MS, HOUR_MS, MINUTE_MS, local_day

Output = dict[str, Any]

CHINA_MS = 8 * HOUR_MS
NOTIFIED = {
    "timeout": ("timeout.determined", "timeout.revoked"),
    "product-ban": ("product-ban.imposed", "product-ban.lifted"),
}


class BrokenLawError(AssertionError):
    """An output log contradicts itself."""


def require(condition: bool, law: str, record: Output) -> None:
    """Raise BrokenLawError unless `condition` holds."""
    if not condition:
        raise BrokenLawError(f"{law}: {json.dumps(record, sort_keys=True)}")


def parse(lines: Iterable[bytes]) -> list[Output]:
    """Parse the lines that `simulate` writes."""
    return [json.loads(line) for line in lines]


def standing_of(outputs: Iterable[Output]) -> dict[str, Any]:
    """Return what stands after `outputs`, in the shape of `naive.judge`.

    Raises BrokenLawError for a record that no history can contain: a revocation of what does not
    stand, a gap in the revisions or in the k of a journal entry, a reversal without its charge, a
    second closure of a path.
    """
    by_topic: dict[str, list[Output]] = defaultdict(list)
    for output in outputs:
        by_topic[output["topic"]].append(output)
        if output["topic"] != "dead-letter":
            require(output["key"] == output["value"]["shop_id"], "key is the shop", output)
    check_notifications(by_topic)
    return {
        "standing": fold_timeouts(by_topic["timeout"]),
        "journal": fold_journal(by_topic["penalty"]),
        "bans": fold_bans(by_topic["product-ban"]),
        "closures": fold_closures(by_topic["order-closure"]),
    }


def fold_timeouts(records: list[Output]) -> dict[str, dict[str, int]]:
    """Return the violations determined and not revoked."""
    standing: dict[str, dict[str, int]] = {}
    revisions: Counter[str] = Counter()
    for record in records:
        value = record["value"]
        id_ = value["violation_id"]
        name = f"{value['order_id']}:{value['kind']}:{value['occurrence']}"
        require(id_ == name, "violation_id names order, kind and occurrence", record)
        due = value["deadline"] + (value["occurrence"] - 1) * DAY_MS
        require(value["determined_at"] == due, "determined_at is the due time", record)
        times = {"deadline": value["deadline"], "determined_at": value["determined_at"]}
        if value["type"] == "timeout.determined":
            require(id_ not in standing, "determined once at a time", record)
            revisions[id_] += 1
            standing[id_] = times
        else:
            require(value["type"] == "timeout.revoked", "timeout type", record)
            require(standing.pop(id_, None) == times, "revoked as it stood", record)
            require(value["reason"] in ("exemption", "appeal", "late-evidence"), "reason", record)
            require(value["revoked_at"] >= value["determined_at"], "revoked after due", record)
        require(value["revision"] == revisions[id_], "revisions count from 1", record)
    return standing


def fold_journal(records: list[Output]) -> list[dict[str, Any]]:
    """Return the journal's sums by violation, account, unit and day, zeros left out."""
    entries: Counter[tuple[str, str]] = Counter()
    charged: dict[tuple[str, str], tuple[str, str, int]] = {}
    sums: Counter[tuple[str, str, str, str]] = Counter()
    for record in records:
        value = record["value"]
        place = value["violation_id"], value["account"]
        entries[place] += 1
        entry_id = f"{value['violation_id']}:{value['account']}:{entries[place]}"
        require(value["entry_id"] == entry_id, "k counts from 1", record)
        if "batch_id" in value:
            batch_id = f"{value['shop_id']}:{value['day']}"
            require(value["batch_id"] == batch_id, "batch is the shop's day", record)
        if value["type"] == "penalty.charged":
            require(place not in charged and value["amount"] > 0, "charged once", record)
            charged[place] = value["unit"], value["day"], value["amount"]
        else:
            require(value["type"] == "penalty.reversed", "penalty type", record)
            booked = value["unit"], value["day"], -value["amount"]
            require(charged.pop(place, None) == booked, "reversed as charged", record)
        if "batch_id" in value:
            opens = day_end_ms(value["day"])
            require(value["effective_at"] >= opens, "deposit waits for the next day", record)
        sums[(*place, value["unit"], value["day"])] += value["amount"]
    journal = [
        {"violation_id": id_, "account": account, "unit": unit, "day": day, "amount": amount}
        for (id_, account, unit, day), amount in sums.items()
        if amount
    ]
    return sorted(journal, key=lambda entry: sorted(entry.items()))


def fold_bans(records: list[Output]) -> list[dict[str, str]]:
    """Return the bans imposed and not lifted."""
    banned: set[tuple[str, str]] = set()
    for record in records:
        value = record["value"]
        place = value["shop_id"], value["product_id"]
        imposed = value["type"] == "product-ban.imposed"
        require(imposed or value["type"] == "product-ban.lifted", "ban type", record)
        require((place in banned) != imposed, "bans alternate", record)
        banned ^= {place}
    bans = [{"shop_id": shop_id, "product_id": product} for shop_id, product in banned]
    return sorted(bans, key=lambda entry: sorted(entry.items()))


def fold_closures(records: list[Output]) -> list[dict[str, str]]:
    """Return the closure records by order and refund path."""
    paths: dict[str, list[str]] = defaultdict(list)
    for record in records:
        value = record["value"]
        require(value["reason"] == "unshipped", "closure reason", record)
        paths[value["order_id"]].append(value["refund"]["path"])
        require(
            ["original", "alternative"][: len(paths[value["order_id"]])]
            == paths[value["order_id"]],
            "original first, each path once",
            record,
        )
    closures = [{"order_id": id_, "path": path} for id_, some in paths.items() for path in some]
    return sorted(closures, key=lambda entry: sorted(entry.items()))


def check_notifications(by_topic: dict[str, list[Output]]) -> None:
    """Require one notification for each timeout, ban, warning and closure, and none too many."""
    told = Counter(record["value"]["template"] for record in by_topic["notification"])
    for topic, types in NOTIFIED.items():
        written = Counter(record["value"]["type"] for record in by_topic[topic])
        for type_ in types:
            if told.pop(type_, 0) != written[type_]:
                raise BrokenLawError(f"{written[type_]} {type_} records, other count notified")
    for record in by_topic["notification"]:
        require(record["value"]["channel"] == "in-site-message", "channel", record)
    pointed = len(by_topic["deadline-warning"]) + len(by_topic["order-closure"])
    booked = {record["value"].get("batch_id") for record in by_topic["penalty"]} - {None}
    rest = sum(told.values())
    if rest < pointed + bool(booked):
        raise BrokenLawError(f"{rest} notifications left for {pointed} warnings and closures")
    if rest > pointed + len(by_topic["penalty"]):
        raise BrokenLawError(f"{rest} notifications left for {len(by_topic['penalty'])} entries")


def warnings_of(outputs: Iterable[Output]) -> list[tuple[str, int, int]]:
    """Return the (order_id, warned_at, lead) of all warnings; one given twice breaks a law."""
    given = []
    for output in outputs:
        if output["topic"] == "deadline-warning":
            value = output["value"]
            due = value["deadline"] - value["lead"]
            require(value["warned_at"] == due, "warned_at is deadline - lead", output)
            given.append((value["order_id"], value["warned_at"], value["lead"]))
    if len(set(given)) < len(given):
        raise BrokenLawError(f"a warning was given twice: {sorted(given)}")
    return sorted(given)


def refusals_of(outputs: Iterable[Output]) -> list[tuple[str, str, int, int]]:
    """Return (reason, topic, partition, offset) of the dead letters, sorted."""
    return sorted(
        (value["reason"], source["topic"], source["partition"], source["offset"])
        for output in outputs
        if output["topic"] == "dead-letter"
        for value in [output["value"]]
        for source in [value["source"]]
    )


def day_end_ms(day: str) -> int:
    """Return the first instant after the local day, computed without a zone database."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
    end_ms = int(midnight.timestamp()) * 1000 - CHINA_MS
    if local_day(end_ms).isoformat() <= day or local_day(end_ms - MINUTE_MS).isoformat() != day:
        raise BrokenLawError(f"the day {day} is no day of 24 hours in China")
    return end_ms
