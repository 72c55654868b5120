"""An order's explanation as text: what a seller who was fined wants to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from streams.cli.record_lines import entry_text, event_text, fact_text
from streams.core.facts.events import Effect
from streams.core.facts.instants import NEVER_MS, format_instant
from streams.core.facts.money import money
from streams.engine.charges import Charge
from streams.engine.exemption_steps import ExemptionStep, Outside
from streams.engine.explain import (
    ClockStep,
    Determination,
    Explanation,
    KindExplanation,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_MS = (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
# Exemptions that leave the order out are told up to this many; --json has all.
_OUTSIDE_MAX = 8
_MEMBERS_MAX = 5

_START_WORDS = {
    "placed": "placed",
    "paid": "paid",
    "uploaded": "first upload",
    "promised": "promised shipping",
    "agreed": "agreed shipping",
}
_NO_START_WORDS = {
    "uploaded": "no clock yet: it starts with the first tracking number, and none is uploaded",
    "promised": "no clock: the order promises no shipping time",
    "agreed": "no clock: no shipping time was agreed for the order",
}
_STOP_WORDS = {
    "tracking-number-uploaded": "upload",
    "first-scan": "first scan",
    "order-closed": "closing",
}


_SPAN_WORDS = {
    "day": "that day",
    "week": "that week",
    "month": "that month",
    "quarter": "that quarter",
}


class Line(NamedTuple):
    """One line of text and how it is meant."""

    text: str
    tone: Literal["plain", "heading", "bad", "good", "quiet"] = "plain"


def told(explanation: Explanation, violation_id: str | None = None) -> Iterator[Line]:
    """Render an explanation, the answer first; a violation asked for comes before its order.

    Raises:
        KeyError: The order has no such violation.
    """
    return _Teller(explanation).told(violation_id)


def duration(length_ms: int) -> str:
    """Write a duration for people: `72h`, `1h 30m`; days from 100 hours on."""
    rest, parts = abs(length_ms), []
    units = _UNITS_MS if rest < 360_000_000 else (("d", 86_400_000), *_UNITS_MS)
    for name, unit in units:
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts) or "0s"


def resent(at_ms: int | None) -> str:
    """Say when a refused record was repaired and sent again; nothing if it was not."""
    return "" if at_ms is None else f"; resent {format_instant(at_ms)}"


class _Teller:
    def __init__(self, explanation: Explanation) -> None:
        self._explanation = explanation
        self._zone = ZoneInfo(explanation.time_zone)

    def told(self, violation_id: str | None) -> Iterator[Line]:
        it = self._explanation
        if violation_id is not None:
            yield from self._violation(violation_id)
            yield Line("")
        yield from self._answer()
        yield from self._versions()
        yield from self._facts()
        for kind in it.kinds:
            yield from self._kind(kind)
        yield from self._consequences()
        if it.refused:
            yield Line("")
            yield Line("Refused records of this order", "heading")
            for letter in it.refused:
                source = letter.source
                yield Line(
                    f"  {source.topic}[{source.partition}] offset {source.offset}: "
                    f"{letter.reason}: {letter.detail}{resent(letter.resent_at)}"
                )

    def _violation(self, violation_id: str) -> Iterator[Line]:
        (kind, one), *_ = [
            (kind, one)
            for kind in self._explanation.kinds
            for one in kind.determinations
            if one.violation_id == violation_id
        ]
        totals: dict[str, int] = {}
        for charge in one.charges:
            totals[charge.unit] = totals.get(charge.unit, 0) + charge.balance
        yield Line(
            f"Violation {violation_id} of shop {self._explanation.order['shop_id']}: "
            + ("stands, " if one.standing else "does not stand, ")
            + self._costs(totals, one.charges),
            "bad" if one.standing else "good",
        )
        yield from self._determination(kind, one)

    def _costs(self, totals: Mapping[str, int], charges: Iterable[Charge]) -> str:
        """Say what is charged, and what is not settled yet."""
        found = list(charges)
        costs = [money(amount, unit) for unit, amount in totals.items() if amount]
        instants = [charge.settles_at for charge in found if charge.settles_at is not None]
        ahead = ""
        if instants:
            ahead = f"not settled yet (settles at {self._at(min(instants))})"
        elif any(charge.status == "waiting" for charge in found):
            ahead = "not settled yet (the shop's account has not come to this)"
        if not costs:
            return f"{ahead or 'nothing is charged'}."
        return f"charged {' and '.join(costs)}" + (f"; the rest is {ahead}." if ahead else ".")

    def _answer(self) -> Iterator[Line]:
        it = self._explanation
        standing = {
            kind.kind: sum(one.standing for one in kind.determinations) for kind in it.kinds
        }
        count = sum(standing.values())
        found = ", ".join(f"{number} {kind}" for kind, number in standing.items() if number)
        found += " violation stands" if count == 1 else " violations stand"
        charges = [
            charge for kind in it.kinds for one in kind.determinations for charge in one.charges
        ]
        yield Line(
            f"Order {it.order['order_id']} of shop {it.order['shop_id']}: "
            + (found if count else "no violation stands")
            + f", {self._costs(it.totals, charges)}",
            "bad" if count else "good",
        )
        until = it.processed_until
        progress = "the whole log" if until is None else f"the log up to {self._at(until)}"
        yield Line(f"Judged by {it.judged_by} over {progress}; times are {it.time_zone}.", "quiet")
        if it.judged_by != it.policy:
            yield Line(
                f"Explained by {it.policy}: where the two differ, what stands is the judgement's.",
                "bad",
            )
        if it.forgotten:
            yield Line("The order has been forgotten since: nothing can change it any more.", "bad")
        if it.stale:
            yield Line(
                "Its last state is older than what was written since: what stands and is charged "
                "is as written, and later facts are not known here.",
                "bad",
            )

    def _versions(self) -> Iterator[Line]:
        """Say which version of the rules holds, and why."""
        it = self._explanation
        if not it.versions or (len(it.versions) == 1 and it.versions[0].effective_from is None):
            return
        yield Line("")
        yield Line("Rules", "heading")
        for version in it.versions:
            since = "from the beginning"
            if version.effective_from is not None:
                since = f"orders {version.effective_by} from {self._at(version.effective_from)} on"
            own = f"this one was {version.effective_by} at {self._at(version.at)}"
            if version.applies:
                yield Line(f"  {version.policy} applies, {since}: {own}")
            elif version.effective_from is not None and version.at < version.effective_from:
                yield Line(f"  {version.policy} is for {since}: {own}", "quiet")
            else:
                yield Line(f"  {version.policy} held {since}, and a later version applies", "quiet")

    # Facts

    def _facts(self) -> Iterator[Line]:
        order = self._explanation.order
        yield Line("")
        yield Line("Facts", "heading")
        yield self._row(order["placed_at"], "placed")
        details = [f"{order['shipping_mode']}", f"products {', '.join(order['product_ids'])}"]
        details += [
            f"{word} {order[field]}"
            for field, word in (
                ("region", "to"),
                ("ship_from_region", "from"),
                ("platform", "platform"),
                ("shop_level", "shop level"),
                ("category", "category"),
                ("warehouse", "warehouse"),
            )
            if order[field] is not None
        ]
        paid = money(order["paid_amount"], order["currency"])
        yield self._row(order["paid_at"], f"paid {paid}: {', '.join(details)}")
        if order["promised_ship_by"] is not None:
            yield self._row(order["promised_ship_by"], "promised to ship by")
        if order["agreed_ship_by"] is not None:
            yield self._row(order["agreed_ship_by"], "agreed to ship by")
        for fact in self._explanation.facts:
            yield self._row(fact.at, fact_text(fact))

    def _row(self, at: int, text: str, indent: int = 2) -> Line:
        return Line(f"{' ' * indent}{self._at(at):<23}  {at:>13}  {text}")

    # Deadline

    def _kind(self, kind: KindExplanation) -> Iterator[Line]:
        yield Line("")
        yield Line(f"Deadline of {kind.kind}", "heading")
        if kind.clock is None:
            mode = self._explanation.order["shipping_mode"]
            none = f"no clock: {self._explanation.policy} sets none for {mode} orders"
            yield Line("  " + (none if kind.needs is None else _NO_START_WORDS[kind.needs]))
        else:
            yield from self._clock(kind.clock)
            yield from self._exemptions(kind.exemptions)
        if kind.clock is not None and kind.deadline is None:
            yield Line("  no deadline is left: the violation is waived", "good")
        elif kind.clock is not None and kind.deadline != kind.clock.deadline:
            yield self._row(kind.deadline or 0, "the deadline that holds")
        if kind.clock is None and not any(one.history for one in kind.determinations):
            return
        yield Line("")
        yield Line(f"Determinations of {kind.kind}", "heading")
        for one in kind.determinations:
            yield from self._determination(kind, one)

    def _clock(self, clock: ClockStep) -> Iterator[Line]:
        yield self._row(clock.started_at, f"the clock starts: {_START_WORDS[clock.start]}")
        if clock.form == "elapsed":
            yield self._row(clock.deadline, f"+ {duration(clock.limit)}: the deadline")
            return
        for day in clock.days:
            yield Line(f"  {day.date}  {day.why}{'' if day.works else ', does not count'}", "quiet")
        yield self._row(clock.deadline, f"{clock.rule}: the deadline")

    def _exemptions(self, steps: list[ExemptionStep]) -> Iterator[Line]:
        left_out = [step for step in steps if not step.covers]
        for step in steps:
            if step.covers:
                origin = f"{step.source}, granted {self._at(step.granted_at)}"
                if step.source == "policy":
                    origin = "of the rules themselves"
                text = f"exemption {step.exemption_id} ({origin}): {self._effect(step.effect)}"
                if step.deadline_after is None or step.effect.waive_penalty:
                    yield Line(f"  {text}")
                elif step.deadline_after == step.deadline_before:
                    yield Line(f"  {text}, which changes nothing")
                else:
                    yield self._row(step.deadline_after, text)
        for step in left_out[-_OUTSIDE_MAX:]:
            if step.outside is not None:
                yield Line(
                    f"  exemption {step.exemption_id} leaves it out: {self._outside(step.outside)}",
                    "quiet",
                )
        if len(left_out) > _OUTSIDE_MAX:
            more = len(left_out) - _OUTSIDE_MAX
            they = "1 earlier exemption leaves" if more == 1 else f"{more} earlier exemptions leave"
            yield Line(f"  {they} it out too (--json tells)", "quiet")

    def _effect(self, effect: Effect) -> str:
        if effect.waive:
            return "waives it"
        if effect.waive_penalty:
            return "waives what it costs"
        if effect.limit is not None:
            return f"makes it due {effect.limit}"
        if effect.set_to is not None:
            return f"sets it to {self._at(effect.set_to)}"
        if effect.extend_to is not None:
            return f"extends it to {self._at(effect.extend_to)}"
        return f"extends it by {duration(effect.extend_by or 0)}"

    def _outside(self, outside: Outside) -> str:
        if outside.field in ("paid", "deadline"):
            first, last = (None if at is None else self._at(at) for at in outside.wanted)
            wanted = " ".join(
                part for part in (first and f"from {first}", last and f"until {last}") if part
            )
            return f"{outside.field} {wanted}, the order's is {self._at(int(outside.given or 0))}"
        if outside.field == "not":
            return "it is one of those that the exemption excepts"
        if outside.field == "agreed":
            with_date, without = "with an agreed date", "without one"
            wanted, own = (with_date, without) if outside.wanted[0] else (without, with_date)
            return f"for orders {wanted}; this one is {own}"
        members = ", ".join(map(str, outside.wanted[:_MEMBERS_MAX]))
        more = len(outside.wanted) - _MEMBERS_MAX
        wanted = f"{members} and {more} more" if more > 0 else members or "nothing"
        given = "none" if outside.given is None else outside.given
        return f"{outside.field.replace('_', ' ')} {wanted}; this one is {given}"

    # Determinations

    def _determination(self, kind: KindExplanation, one: Determination) -> Iterator[Line]:
        verdict, tone = self._verdict(kind, one)
        if one.due is None:
            yield Line(f"  {one.number}.  {verdict}", tone)
        else:
            yield Line(
                f"  {one.number}.  due {self._at(one.due):<23}  {one.due:>13}  {verdict}", tone
            )
        # What happened to it on both sides, told as one story.
        story = [
            (
                event.determined_at if event.revoked_at is None else event.revoked_at,
                event_text(event),
            )
            for event in one.history
        ]
        story += [
            (entry.effective_at, entry_text(entry))
            for charge in one.charges
            for entry in charge.entries
        ]
        for at, text in sorted(story, key=itemgetter(0)):
            yield self._row(at, text, indent=6)
        for charge in one.charges:
            reason = self._no_charge(charge)
            if reason is not None:
                yield Line(f"      {charge.account}: {reason}")

    def _verdict(
        self, kind: KindExplanation, one: Determination
    ) -> tuple[str, Literal["plain", "bad", "good", "quiet"]]:
        why = self._why(kind, one)
        if one.standing:
            if one.expected == "stands":
                return f"STANDS: {why}", "bad"
            if self._explanation.stale:
                return "STANDS, as was written", "bad"
            return f"STANDS, though by these rules it would not: {why}", "bad"
        if one.expected == "stands":
            if self._explanation.stale and one.history:
                return "stands no more, as was written", "good"
            return f"does not stand, though by these rules it would: {why}", "bad"
        if one.expected == "pending":
            return f"not due yet: {why}", "plain"
        return f"none: {why}" if not one.history else f"stands no more: {why}", "good"

    def _why(self, kind: KindExplanation, one: Determination) -> str:
        stop, due = kind.stop, one.due or 0
        if one.expected == "no-clock":
            return "no clock runs"
        if one.expected == "waived":
            last = [step for step in kind.exemptions if step.covers][-1]
            if last.effect.waive:
                return f"exemption {last.exemption_id} waives it"
            return f"exemption {last.exemption_id} gives it another clock, which has not started"
        if one.expected == "appealed":
            return f"appeal {kind.appeals[one.violation_id]} was granted"
        if stop is None and one.expected == "stopped":
            return "each of its parcels had a scan by then"
        if stop is None:
            words = " or ".join(_STOP_WORDS[topic] for topic in kind.stopped_by)
            return f"no {words} is known"
        what = _STOP_WORDS[stop.topic]
        if stop.at < due:
            return f"the {what} came {duration(due - stop.at)} before"
        if stop.at >= due and stop.at < due + kind.late_after:
            return f"the {what} came within the second of the deadline, which is still on time"
        if one.expected == "stopped" and stop.at > due:
            return "each of its parcels had a scan by then"
        if stop.at == due:
            return f"the {what} came at that very instant, and on time means before it"
        return f"the {what} came {duration(stop.at - due)} after"

    def _no_charge(self, charge: Charge) -> str | None:
        if charge.status == "settles" and charge.settles_at is not None:
            return f"to be charged at {self._at(charge.settles_at)}"
        if charge.status == "waiting":
            return "the shop's account has not come to this yet"
        if charge.status == "gone":
            return "nothing is booked, and the account has forgotten why"
        if charge.status == "free":
            return "not charged, the rules it was determined by had no account"
        if charge.status == "waived":
            return "not charged, an exemption waives what it costs"
        if charge.status == "nothing":
            return "not charged, an order of this amount costs nothing"
        cap = charge.cap
        if cap is None:
            return None
        by = ", ".join(cap.used_by[:_MEMBERS_MAX])
        more = len(cap.used_by) - _MEMBERS_MAX
        by = f" (by {by}{f' and {more} more' if more > 0 else ''})" if by else ""
        if cap.span == "order":
            charges = "1 charge is" if cap.limit == 1 else f"{cap.limit} charges are"
            return f"not charged, the order's {charges} used up{by}"
        used, limit = money(cap.used, charge.unit), money(cap.limit, charge.unit)
        span = _SPAN_WORDS.get(cap.span, f"in {cap.days} days")
        return f"not charged, the shop had {used} of at most {limit} {span}{by}"

    # Consequences

    def _consequences(self) -> Iterator[Line]:
        it = self._explanation
        if it.bans:
            yield Line("")
            yield Line("Bans of its products", "heading")
            for ban in it.bans:
                verb = "banned" if ban.type == "product-ban.imposed" else "ban lifted"
                yield self._row(
                    ban.effective_at, f"{ban.product_id} {verb}, because of {ban.violation_id}"
                )
        for action in it.actions:
            if action is it.actions[0]:
                yield Line("")
                yield Line("Actions on its shop", "heading")
            verb = "imposed" if action.type == "shop-action.imposed" else "lifted"
            yield self._row(
                action.effective_at, f"{action.action} {verb}, because of {action.violation_id}"
            )
        yield from self._sanctions()
        if it.closures or it.closes_at is not None:
            yield Line("")
            yield Line("Closure", "heading")
        for closure in it.closures:
            refund = money(closure.refund.amount, closure.refund.currency)
            yield self._row(
                closure.closed_at,
                f"closed as unshipped, {refund} back on the {closure.refund.path} path",
            )
        if it.closes_at is not None:
            yield self._row(
                it.closes_at, "closes by itself, unless an upload, scan or close comes before"
            )

    def _sanctions(self) -> Iterator[Line]:
        """Say what each sanction counts, where anything does."""
        counted = [each for each in self._explanation.sanctions if each.counted]
        if not counted:
            return
        yield Line("")
        yield Line("What sanctions count", "heading")
        for each in counted:
            whose = "of the order" if each.of == "order" else f"of the shop, {each.span}"
            what = f"on account {each.account}" if each.account else "violations that stand"
            by = ", ".join(each.violations[:_MEMBERS_MAX])
            more = len(each.violations) - _MEMBERS_MAX
            yield Line(
                f"  {each.action}: {each.counted} {what} {whose}, more than {each.more_than} "
                f"{'is' if each.more_than == 1 else 'are'} too many "
                f"({by}{f' and {more} more' if more > 0 else ''})"
            )

    def _at(self, at: int) -> str:
        """Write an instant in the policy's zone, with milliseconds only where there are some."""
        if at >= NEVER_MS:
            return "never"
        local = (_EPOCH + timedelta(milliseconds=at)).astimezone(self._zone)
        fraction = f".{at % 1000:03}" if at % 1000 else ""
        return f"{local:%Y-%m-%d %H:%M:%S}{fraction}"
