"""Say in a line what an output record means; of the many, say few."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from streams.core.facts.outputs import (
    DeadLetter,
    DeadlineWarning,
    Penalty,
    ProductBan,
    Timeout,
    Value,
)
from streams.core.rules.book import Rulebook
from streams.demo.cast import Shop
from streams.demo.surge import HOUR_MS, Record
from streams.demo.tally import points, yuan

# Of a shop with a story, the first lines of each kind are told; of the crowd, one a round.
_TOLD_MAX = 3
_CROWD_MAX = 1

WORDS = (
    "order", "scan", "late scan", "exemption", "appeal", "warning", "dead letter",
    "timeout", "corrected", "reversed", "points", "settled", "ban", "ban lifted",
)  # fmt: skip
"""Kinds of lines, causes before effects."""
_ALWAYS = ("ban", "ban lifted")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Line(NamedTuple):
    """One thing that happened: when in the story, a word for its kind, and what."""

    at_ms: int
    word: str
    text: str


class Narrator:
    """Turns rounds of records into lines, in the order of the story."""

    def __init__(self, shops: Mapping[str, Shop], rulebook: Rulebook) -> None:
        self._shops = shops
        self._zone = ZoneInfo(rulebook.time_zone)
        caps = {
            (account.name, cap.span): cap.limit
            for policy in rulebook.policies
            for account in policy.accounts
            for cap in account.caps
        }
        self._day_max = caps.get(("deposit", "day"))
        self._week_max = caps.get(("points", "week"))
        self._told: Counter[tuple[str, str]] = Counter()
        self._points: Counter[str] = Counter()

    def clock(self, at_ms: int) -> str:
        """Write an instant as people of the shops' zone do."""
        moment = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(self._zone)
        return f"{moment:%m-%d %H:%M}"

    def tell(self, records: Iterable[Record], values: Iterable[Value]) -> list[Line]:
        """Tell of what was sent and of what came out since the last round."""
        lines = [Line(one.at_ms, one.word, self._of_record(one)) for one in records if one.story]
        entries: defaultdict[tuple[str, str, int], list[Penalty]] = defaultdict(list)
        crowd: list[Line] = []
        for value in values:
            if isinstance(value, Penalty):
                entries[value.shop_id, value.type, value.effective_at].append(value)
                continue
            line = self._of_value(value)
            if line is None:
                continue
            if isinstance(value, DeadLetter) or self._told_of(value.shop_id, line.word):
                lines.append(line)
            elif not self._shops[value.shop_id].story:
                crowd.append(line)
        lines += self._of_entries(entries)
        crowd.sort(key=lambda line: line.word not in _ALWAYS)
        lines += crowd[:_CROWD_MAX]
        return sorted(lines, key=lambda line: (line.at_ms, WORDS.index(line.word)))

    def _told_of(self, shop_id: str, word: str) -> bool:
        """Tell whether a line is to be shown because of its shop's story."""
        if not self._shops[shop_id].story:
            return False
        self._told[shop_id, word] += 1
        return word in _ALWAYS or self._told[shop_id, word] <= _TOLD_MAX

    def _of_record(self, record: Record) -> str:
        return f"{record.order_id}: {record.story}" if record.order_id else record.story

    def _of_value(self, value: Value) -> Line | None:
        match value:
            case Timeout():
                return self._of_timeout(value)
            case ProductBan():
                where = f"{value.product_id} of {self._name(value.shop_id)}"
                if value.type == "product-ban.imposed":
                    text = f"{where} is banned: {value.order_id} timed out three times"
                    return Line(value.effective_at, "ban", text)
                return Line(value.effective_at, "ban lifted", f"{where} may be sold again")
            case DeadlineWarning() if self._shops[value.shop_id].story:
                hours = value.lead // HOUR_MS
                text = f"{value.order_id} must be scanned within {hours} h"
                return Line(value.warned_at, "warning", f"{text} ({self._name(value.shop_id)})")
            case DeadLetter():
                source = value.source
                text = f"{source.topic}[{source.partition}]@{source.offset}: {value.reason}"
                return Line(source.timestamp, "dead letter", f"{text} ({value.detail})")
        return None

    def _of_timeout(self, value: Timeout) -> Line:
        name = f"{value.order_id} #{value.occurrence} {value.kind}"
        if value.revoked_at is None:
            text = f"{name} ({self._name(value.shop_id)})"
            return Line(value.determined_at, "timeout", text)
        why = {
            "late-evidence": "the scan arrived late",
            "exemption": f"exempted by {value.cause}",
            "appeal": f"appeal {value.cause} was granted",
        }[value.reason or "late-evidence"]
        text = f"{name} is revoked: {why} ({self._name(value.shop_id)})"
        return Line(value.revoked_at, "corrected", text)

    def _of_entries(self, entries: Mapping[tuple[str, str, int], list[Penalty]]) -> Iterable[Line]:
        """Tell of journal entries: one line for what a shop is charged or given back at once."""
        others: defaultdict[tuple[int, str], Counter[str]] = defaultdict(Counter)
        for (shop_id, type_, at_ms), group in entries.items():
            fen = sum(entry.amount for entry in group if entry.account == "deposit")
            tenths = sum(entry.amount for entry in group if entry.account == "points")
            self._points[shop_id] += tenths
            if not self._shops[shop_id].story:
                if fen > 0:
                    others[at_ms, group[0].day]["shops"] += 1
                    others[at_ms, group[0].day]["fen"] += fen
                continue
            name = self._name(shop_id)
            if type_ == "penalty.reversed":
                back = " and ".join([yuan(-fen)] * (fen < 0) + [points(-tenths)] * (tenths < 0))
                yield Line(at_ms, "reversed", f"{name} gets {back} back")
                continue
            if fen:
                limit = ", the day's limit" if fen == self._day_max else ""
                text = f"{name} pays {yuan(fen)} for {group[0].day}{limit}"
                yield Line(at_ms, "settled", text)
            tenths_of_week = self._points[shop_id]
            if tenths and tenths_of_week == self._week_max:
                text = f"{name} has {points(tenths_of_week)}, the week's limit: no more is charged"
                yield Line(at_ms, "points", text)
            elif tenths and self._told_of(shop_id, "points"):
                yield Line(
                    at_ms, "points", f"{name} is charged {points(tenths)} ({group[0].order_id})"
                )
        for (at_ms, day), sums in others.items():
            who = "1 other shop pays" if sums["shops"] == 1 else f"{sums['shops']} other shops pay"
            text = f"{who} {yuan(sums['fen'])} for {day}"
            yield Line(at_ms, "settled", text)

    def _name(self, shop_id: str) -> str:
        return self._shops[shop_id].name
