"""The accounts of a policy file.

What lives here: units, amounts, tiers and caps of `[[account]]`. What must not: single amounts
(`money`).
"""

from __future__ import annotations

import re
from typing import Any

from streams.core.rules.policy import Account, AccountInstead, Amount, Cap, Tier
from streams.core.time.calendar import Span
from streams.rulebook import grammar, money
from streams.rulebook.lines import Path
from streams.rulebook.money import Unit
from streams.rulebook.walk import Walk

_CURRENCY = re.compile("[A-Z]{3}")
_PER: dict[str, Span] = {
    "per_day": "day",
    "per_week": "week",
    "per_month": "month",
    "per_quarter": "quarter",
}


class AccountsWalk(Walk):
    """Reads the accounts."""

    def _account(
        self, value: Any, path: Path, known: tuple[str, ...], units: dict[str, Unit]
    ) -> Account | None:
        section = self._section(value, path, grammar.ACCOUNT)
        if section is None:
            return None
        before = len(self.mistakes)
        kinds = self._kinds_named(section["kinds"], (*path, "kinds"), known)
        unit = self._unit(section, path)
        if unit is None:
            return None
        units.setdefault(section["name"], unit)
        amount = self._amount(section["amount"], (*path, "amount"), unit)
        once = section["once_per_order"]
        caps = self._caps(section["caps"], (*path, "caps"), unit, once=once)
        instead = []
        for place, one in enumerate(self._list(section["instead"], (*path, "instead"))):
            at = (*path, "instead", place)
            other = self._section(one, at, grammar.ACCOUNT_INSTEAD)
            if other is None:
                continue
            when = self._when(other["when"], (*at, "when"))
            if other["amount"] is None and other["caps"] is None:
                self._wrong(at, "gives neither amount nor caps")
            theirs, limits = None, None
            if other["amount"] is not None:
                theirs = self._amount(other["amount"], (*at, "amount"), unit)
            if other["caps"] is not None:
                limits = self._caps(other["caps"], (*at, "caps"), unit, once=once)
            if when is not None:
                instead.append(AccountInstead(when=when, amount=theirs, caps=limits))
        if amount is None or len(self.mistakes) > before:
            return None
        return Account(
            name=section["name"], kinds=kinds, unit=unit.name, amount=amount, caps=caps,
            settle_at=section["settle"], instead=tuple(instead),
        )  # fmt: skip

    def _unit(self, section: dict[str, Any], path: Path) -> Unit | None:
        given = [key for key in ("currency", "points", "unit") if section[key] is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "does not say what it counts"
            self._wrong(path, f'{said}. Give one of currency = "CNY", points = "B", unit = "..."')
            return None
        (key,) = given
        code = section[key]
        if not isinstance(code, str) or not code or len(code) > 32:
            self._wrong((*path, key), "is not text", code)
            return None
        if key == "points":
            return money.points(code)
        if key == "unit":
            return money.plain(code)
        if _CURRENCY.fullmatch(code) is None:
            self._wrong((*path, key), 'is not a currency. Write an ISO 4217 code: "CNY"', code)
            return None
        return money.currency(code)

    def _charge(self, value: Any, path: Path, unit: Unit) -> int | None:
        found: int | None = self._value(value, path, lambda one, _: money.parse_amount(one, unit))
        return found

    def _amount(self, value: Any, path: Path, unit: Unit) -> Amount | None:
        if not isinstance(value, dict):
            flat = self._charge(value, path, unit)
            if flat == 0:
                self._wrong(path, "charges nothing", value)
            return Amount(tiers=(Tier(flat=flat or 0),)) if flat else None
        section = self._section(value, path, grammar.AMOUNT)
        if section is None:
            return None
        before = len(self.mistakes)
        if (section["share"] is None) == (section["tiers"] is None):
            self._wrong(path, 'needs either share = "10 %" or tiers = [...]')
            return None
        if section["tiers"] is None:
            tiers = [self._tier(section, path, unit)]
        else:
            tiers = []
            for place, one in enumerate(self._list(section["tiers"], (*path, "tiers"))):
                at = (*path, "tiers", place)
                table = self._section(one, at, grammar.TIER)
                if table is not None:
                    tiers.append(self._tier(table, at, unit))
            bounds = [tier.up_to for tier in tiers]
            rising = [bound for bound in bounds if bound is not None]
            if rising != sorted(set(rising)) or None in bounds[:-1]:
                self._wrong((*path, "tiers"), "are not in rising order")
        if len(self.mistakes) > before:
            return None
        return Amount(of=section["of"], tiers=tuple(tiers))

    def _tier(self, table: dict[str, Any], path: Path, unit: Unit) -> Tier:
        found: dict[str, Any] = {}
        for key in ("up_to", "below", "charge", "at_least", "at_most"):
            if table.get(key) is not None:
                found[key] = self._charge(table[key], (*path, key), unit) or 0
        if table["share"] is not None:
            share = self._value(
                table["share"], (*path, "share"), lambda one, _: money.parse_share(one)
            )
            found["per_mille"] = share or 0
        if ("charge" in found) == ("per_mille" in found):
            self._wrong(path, 'needs either charge = "3.00" or share = "1 %"')
        if "below" in found:
            if "up_to" in found:
                self._wrong(path, "has both up_to and below")
            found["up_to"] = max(found.pop("below") - 1, 0)
        found["flat"] = found.pop("charge", 0)
        if "at_most" in found and found["at_most"] < found.get("at_least", 0):
            self._wrong((*path, "at_most"), "is below at_least")
        return Tier(**found)

    def _caps(self, table: Any, path: Path, unit: Unit, *, once: bool) -> tuple[Cap, ...]:
        section = self._section(table, path, grammar.CAPS)
        if section is None:
            return ()
        caps = [Cap(span="order", limit=1)] if once else []
        if section["charges_per_order"] is not None and not once:
            caps.append(Cap(span="order", limit=section["charges_per_order"]))
        for key, span in _PER.items():
            if section[key] is not None:
                limit = self._charge(section[key], (*path, key), unit)
                caps.append(Cap(span=span, limit=limit or 0))
        if section["rolling"] is not None:
            at = (*path, "rolling")
            rolling = self._section(section["rolling"], at, grammar.ROLLING)
            if rolling is not None:
                limit = self._charge(rolling["amount"], (*at, "amount"), unit)
                caps.append(Cap(span="rolling", limit=limit or 0, days=rolling["days"]))
        return tuple(caps)

    def _check_accounts(self, accounts: list[Account | None]) -> None:
        """One name may stand twice, of different kinds."""
        for place, account in enumerate(accounts):
            for other in accounts[:place]:
                if account is None or other is None or account.name != other.name:
                    continue
                both = [kind for kind in account.kinds if kind in other.kinds]
                if both:
                    self._wrong(
                        ("account", place, "name"),
                        f"names another account, too, which serves {', '.join(both)} as well",
                        account.name,
                    )
