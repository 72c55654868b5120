"""Recompute what stands under any rules, straight from the text of their files.

Nothing here is shared with the product: files are read with `tomllib` and a few regular
expressions, days are walked one by one with `datetime`, and public holidays are asked for date by
date. It judges the facts of a finished log, however they arrived, so it fits logs of which nothing
was refused and nothing forgotten.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import holidays

Value = dict[str, Any]

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
NO_MINOR_UNITS = ("VND", "JPY")
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
FACTS = {
    "uploaded": ("tracking-number-uploaded", "uploaded_at"),
    "scanned": ("first-scan", "scanned_at"),
    "closed": ("order-closed", "closed_at"),
}
ANCHORS = {
    "placed": "placed_at",
    "paid": "paid_at",
    "promised": "promised_ship_by",
    "agreed": "agreed_ship_by",
}


def length(text: str) -> int:
    """Read a duration."""
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def epoch_ms(moment: datetime) -> int:
    """Return the instant of an aware moment."""
    return round(Fraction(moment.timestamp()).limit_denominator(1000) * 1000)


@dataclass
class Standing:
    """A violation that holds."""

    at: int
    name: str
    order: Value
    kind: str
    number: int
    deadline: int
    rules: Rules
    free: bool


class Rules:
    """One file."""

    def __init__(self, text: str) -> None:
        self.said = tomllib.loads(text)
        self.zone = ZoneInfo(self.said["time_zone"])
        self.platform = self.said.get("platform", "any")
        week = self.said.get("working_days", {})
        self.week = week
        self.holidays = (
            holidays.country_holidays(week["holidays"]) if "holidays" in week else frozenset()
        )

    # Time

    def instant(self, moment: datetime) -> int:
        """Return an instant of the file."""
        return epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=self.zone))

    def day(self, at: int) -> date:
        """Return the local date of an instant."""
        return datetime.fromtimestamp(at // 1000, self.zone).date()

    def end(self, day: date) -> int:
        """Return when a local date ends."""
        after = day + timedelta(days=1)
        return epoch_ms(datetime(after.year, after.month, after.day, tzinfo=self.zone))

    def is_work(self, day: date) -> bool:
        """Tell whether people work on a date."""
        if day in self.week.get("make_up_days", []):
            return True
        return not (
            WEEKDAYS[day.weekday()] in self.week.get("weekend", [])
            or day in self.holidays
            or day in self.week.get("days_off", [])
        )

    def deadline(self, said: Any, order: Value, uploaded: int | None) -> int | None:
        """Return a deadline of an order, None without its start."""
        if isinstance(said, datetime):
            return self.instant(said)
        if said.startswith("as "):
            given: int | None = order.get(ANCHORS[said[3:]])
            return given
        start_name = said.rsplit(" ", 1)[1]
        start = uploaded if start_name == "uploaded" else order.get(ANCHORS[start_name])
        if start is None:
            return None
        words = said.split()
        if words[1:3] == ["calendar", "days"]:
            return self.end(self.day(start) + timedelta(days=int(words[0])))
        if words[1:3] == ["working", "days"]:
            return self.end(self.last_working_day(start, int(words[0])))
        if said.startswith("end of the day "):
            return self.end(self.day(start)) + length(words[4])
        return int(start) + length(words[0])

    def last_working_day(self, start: int, count: int) -> date:
        """Return the n-th working day after a start, or the first from it on."""
        day = self.day(start)
        if "cut_off" in self.week:
            local = datetime.fromtimestamp(start // 1000, self.zone)
            if f"{local:%H:%M}" >= self.week["cut_off"]:
                day += timedelta(days=1)
        if count == 0:
            while not self.is_work(day):
                day += timedelta(days=1)
            return day
        while count:
            day += timedelta(days=1)
            count -= self.is_work(day)
        return day

    # What the rules say of an order

    def starts(self) -> tuple[int | None, str]:
        """Return from when on, by which fact of an order, the file holds."""
        since = self.said.get("effective_from")
        return (None if since is None else self.instant(since)), ANCHORS[
            self.said.get("effective_by", "placed")
        ]

    def modes(self) -> set[str]:
        """Return all shipping modes."""
        found = set()
        for kind in self.said["violation"].values():
            found |= set(kind["deadline"])
            for other in kind.get("instead", []):
                found |= set(other["deadline"])
        return found

    def rule(self, kind: Value, order: Value) -> Any:
        """Return the deadline of a kind for an order."""
        mode = order["shipping_mode"]
        for other in kind.get("instead", []):
            if mode in other["deadline"] and self.when(other["when"], order):
                return other["deadline"][mode]
        return kind["deadline"].get(mode)

    @staticmethod
    def when(said: Value, order: Value) -> bool:
        """Tell whether an `instead` is for an order."""
        return all(
            order.get({"shop_levels": "shop_level", "categories": "category"}[name]) in names
            for name, names in said.items()
        )


def applying(files: list[Rules], order: Value) -> Rules | None:
    """Return the version that an order is judged by."""
    platforms = sorted({rules.platform for rules in files})
    defaults = [rules.platform for rules in files if rules.said.get("default_platform")]
    name = order.get("platform")
    if platforms == ["any"]:
        name = "any"
    elif name is None:
        name = defaults[0] if defaults else platforms[0] if len(platforms) == 1 else None
    best: tuple[int, Rules] | None = None
    for rules in files:
        since, anchor = rules.starts()
        if rules.platform == name and (since is None or since <= order[anchor]):
            start = -1 if since is None else since
            if best is None or start > best[0]:
                best = start, rules
    return None if best is None else best[1]


def matches(scope: Value, order: Value, deadline: int, rules: Rules) -> bool:
    """Tell whether a scope of an event or of a file covers an order at a deadline."""
    fields = {
        "order_ids": order["order_id"],
        "shop_ids": order["shop_id"],
        "regions": order.get("region"),
        "ship_from_regions": order.get("ship_from_region"),
        "shipping_modes": order["shipping_mode"],
        "platforms": rules.platform,
        "shop_levels": order.get("shop_level"),
        "categories": order.get("category"),
    }
    for name, wanted in scope.items():
        if name in fields:
            good = fields[name] is not None and fields[name] in wanted
        elif name == "agreed":
            good = wanted == (order.get("agreed_ship_by") is not None)
        elif name == "not":
            good = not matches(wanted, order, deadline, rules)
        else:
            at = order["paid_at"] if name.startswith("paid") else deadline
            bound = rules.instant(wanted) if isinstance(wanted, datetime) else wanted
            if isinstance(wanted, datetime) and name.endswith("until") and bound % 1000 == 0:
                bound += 999
            good = at >= bound if name.endswith("from") else at <= bound
        if not good:
            return False
    return True


def exempted(
    kind: str, base: int, order: Value, uploaded: int | None, rules: Rules, granted: list[Value]
) -> tuple[int | None, bool]:
    """Return the deadline after all exemptions, and whether violations cost nothing."""
    own = [
        {
            "scope": each.get("for", {}),
            "kinds": each.get("kinds", []),
            "effect": {k: v for k, v in each.items() if k not in ("name", "for", "kinds")},
        }
        for each in rules.said.get("exemption", [])
    ]
    later = sorted(granted, key=lambda each: (each["granted_at"], each["exemption_id"]))
    deadline: int | None = base
    free = False
    for each in [*own, *later]:
        if (each.get("kinds") and kind not in each["kinds"]) or not matches(
            each["scope"], order, base, rules
        ):
            continue
        ((effect, given),) = each["effect"].items()
        if effect == "waive":
            return None, free
        if effect == "waive_penalty":
            free = True
        elif effect in ("limit", "deadline"):
            deadline = rules.deadline(given, order, uploaded)
        elif deadline is None:
            continue
        elif effect == "extend_by":
            deadline += length(given) if isinstance(given, str) else given
        else:
            at = rules.instant(given) if isinstance(given, datetime) else given
            deadline = at if effect == "set_to" else max(deadline, at)
    return deadline, free


def violations(
    order: Value, facts: list[tuple[str, Value]], rules: Rules, granted: list[Value]
) -> list[Standing]:
    """Return the violations of an order that hold."""
    found = []
    times = {
        name: [value[field] for topic, value in facts if topic == wanted]
        for name, (wanted, field) in FACTS.items()
    }
    uploaded = min(times["uploaded"], default=None)
    pardoned = {
        value["violation_id"]
        for topic, value in facts
        if topic == "appeal-decided" and value["outcome"] == "granted"
    }
    for kind, said in rules.said["violation"].items():
        rule = rules.rule(said, order)
        base = None if rule is None else rules.deadline(rule, order, uploaded)
        if base is None:
            continue
        deadline, free = exempted(kind, base, order, uploaded, rules, granted)
        if deadline is None:
            continue
        each_parcel = said.get("parcels") == "all" and "scanned" in said["until"]
        stops = [name for name in said["until"] if not (each_parcel and name == "scanned")]
        for number in range(1, said.get("times", 1) + 1):
            due = deadline + (number - 1) * length(said.get("every", "24h"))
            late = due
            if said.get("limit") == "on-time-at-limit":
                late += 1000 if deadline % 1000 == 0 else 1
            name = f"{order['order_id']}:{kind}:{number}"
            if any(at < late for stop in stops for at in times[stop]) or name in pardoned:
                continue
            if each_parcel and all_scanned(facts, late):
                continue
            found.append(Standing(due, name, order, kind, number, deadline, rules, free))
    return found


def all_scanned(facts: list[tuple[str, Value]], before: int) -> bool:
    """Tell whether each number uploaded, and not replaced, by then was scanned by then."""
    uploads = [v for t, v in facts if t == FACTS["uploaded"][0] and v["uploaded_at"] < before]
    replaced = {value.get("replaces") for value in uploads}
    wanted = {value["tracking_number"] for value in uploads} - replaced
    scanned = {
        v["tracking_number"] for t, v in facts if t == "first-scan" and v["scanned_at"] < before
    }
    return bool(wanted) and wanted <= scanned


# Money


def smallest(text: Any, account: Value) -> int:
    """Read an amount of an account."""
    if "unit" in account:
        return int(text)
    digits = 1 if "points" in account else 0 if account["currency"] in NO_MINOR_UNITS else 2
    return int(Decimal(text).scaleb(digits))


def cost(said: Any, account: Value, order: Value) -> int:
    """Return what a violation of an order costs before caps."""
    if not isinstance(said, dict):
        return smallest(said, account)
    basis = order.get(said["of"])
    if basis is None:
        basis = order["paid_amount"]
    for tier in said.get("tiers", [said]):
        if "up_to" in tier and basis > smallest(tier["up_to"], account):
            continue
        if "below" in tier and basis >= smallest(tier["below"], account):
            continue
        charge = smallest(tier["charge"], account) if "charge" in tier else 0
        if "share" in tier:
            charge = int(basis * Fraction(tier["share"].rstrip(" %")) / 100)
        charge = max(charge, smallest(tier.get("at_least", "0"), account))
        return min(charge, smallest(tier["at_most"], account)) if "at_most" in tier else charge
    return 0


def first_of(span: str, day: date) -> date:
    """Return the first day of a calendar span."""
    if span == "per_week":
        return day - timedelta(days=day.weekday())
    if span == "per_month":
        return day.replace(day=1)
    if span == "per_quarter":
        return day.replace(month=day.month - (day.month - 1) % 3, day=1)
    return day


def unit(account: Value) -> str:
    """Return the unit that entries carry."""
    if "points" in account:
        return f"tenth-point:{account['points']}"
    name: str = account.get("currency") or account["unit"]
    return name


def journal(standing: list[Standing]) -> list[dict[str, Any]]:
    """Charge the violations of one shop and platform within the caps."""
    entries: list[dict[str, Any]] = []
    # What was charged: account, unit, kind, day, order, amount.
    charged: list[tuple[str, str, str, date, str, int]] = []
    for one in sorted(standing, key=lambda each: (each.at, each.name)):
        rules, day, order = one.rules, one.rules.day(one.at), one.order
        every_kind = list(rules.said["violation"])
        for account in rules.said.get("account", []):
            kinds = account.get("kinds", every_kind)
            if one.kind not in kinds or one.free:
                continue
            said, caps = account["amount"], account.get("caps", {})
            for other in account.get("instead", []):
                if "amount" in other and Rules.when(other["when"], order):
                    said = other["amount"]
                    break
            for other in account.get("instead", []):
                if "caps" in other and Rules.when(other["when"], order):
                    caps = other["caps"]
                    break
            amount = cost(said, account, order)
            same = [
                each
                for each in charged
                if each[:2] == (account["name"], unit(account)) and each[2] in kinds
            ]
            limits = []
            for name, limit in caps.items():
                if name == "charges_per_order":
                    continue
                first = first_of(name, day)
                most = limit
                if name == "rolling":
                    first = day - timedelta(days=limit["days"] - 1)
                    most = limit["amount"]
                used = sum(each[5] for each in same if first <= each[3] <= day)
                limits.append(used + amount <= smallest(most, account))
            of_order = sum(each[4] == order["order_id"] for each in same)
            charges = 1 if account.get("once_per_order") else caps.get("charges_per_order", 10**6)
            if amount and all(limits) and of_order < charges:
                charged.append(
                    (account["name"], unit(account), one.kind, day, order["order_id"], amount)
                )
                entries.append(
                    {
                        "violation_id": one.name,
                        "account": account["name"],
                        "unit": unit(account),
                        "day": day.isoformat(),
                        "amount": amount,
                    }
                )
    return entries


def judge_by(files: list[str], events: list[tuple[str, Value]]) -> dict[str, Any]:
    """Return what stands of some facts under some files: violations, journal and bans.

    Args:
        events: Topic and value of what was accepted, copies left out.
    """
    rulebook = [Rules(text) for text in files]
    granted = [value for topic, value in events if topic == "exemption-granted"]
    facts: dict[str, list[tuple[str, Value]]] = defaultdict(list)
    for topic, value in events:
        if topic not in ("exemption-granted", "order-paid"):
            facts[value["order_id"]].append((topic, value))
    standing: dict[str, dict[str, int]] = {}
    shops: dict[tuple[str, str], list[Standing]] = defaultdict(list)
    bans: set[tuple[str, str]] = set()
    for topic, order in events:
        rules = applying(rulebook, order) if topic == "order-paid" else None
        if rules is None or order["shipping_mode"] not in rules.modes():
            continue
        holding = violations(order, facts[order["order_id"]], rules, granted)
        for one in holding:
            standing[one.name] = {"deadline": one.deadline, "determined_at": one.at}
        shops[order["shop_id"], rules.platform] += holding
        for sanction in rules.said.get("sanction", []):
            counts = sanction.get("counts", list(rules.said["violation"]))
            much = sum(one.kind in counts and not one.free for one in holding)
            if sanction["action"] == "product-ban" and much > sanction["more_than"]:
                bans |= {(order["shop_id"], product) for product in order["product_ids"]}
    entries = [entry for of_shop in shops.values() for entry in journal(of_shop)]
    return {
        "standing": standing,
        "journal": sorted(entries, key=lambda entry: sorted(entry.items())),
        "bans": [{"shop_id": shop, "product_id": product} for shop, product in sorted(bans)],
    }
