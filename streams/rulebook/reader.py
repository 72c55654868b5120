"""From the text of a policy file to a policy, or to all its mistakes.

What lives here: the walk over a file's sections, and what their values must be together. What must
not: single values (`values`), keys and defaults (`grammar`), several files (`loading`).
"""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, cast

from streams.core.facts.events import Effect, ExemptionGranted, Scope
from streams.core.rules.phrases import deadline_text
from streams.core.rules.policy import (
    BAN,
    Account,
    AccountInstead,
    Amount,
    Cap,
    Deadline,
    Kind,
    KindInstead,
    Policy,
    Processing,
    Retention,
    Sanction,
    Tier,
    When,
    WorkWeek,
)
from streams.core.time.calendar import Span
from streams.rulebook import grammar, money, older, values
from streams.rulebook.grammar import REQUIRED, Section
from streams.rulebook.holidays import holiday_ordinals
from streams.rulebook.lines import Path, line_of, lines_of, path_text
from streams.rulebook.money import Unit

_CURRENCY = re.compile("[A-Z]{3}")
_OF_SHOP = re.compile(r"the shop, (.+)")
_OF_ACCOUNT = re.compile(r"account ([a-z0-9-]+), (.+)")
_LAST_DAYS = re.compile(r"last ([0-9]{1,3}) days?")
_PER: dict[str, Span] = {
    "per_day": "day",
    "per_week": "week",
    "per_month": "month",
    "per_quarter": "quarter",
}
_THIS: dict[str, Span] = {
    "this week": "week",
    "this month": "month",
    "this quarter": "quarter",
    "today": "day",
}
_OF_EXAMPLES = '"one order", "the shop, last 30 days" or "account points, this week"'


class Mistake(NamedTuple):
    """Something wrong in a file; `line` is 0 where the file does not spell it out."""

    origin: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.origin}:{self.line}" if self.line else self.origin
        return f"{place}: {self.path} {self.message}" if self.path else f"{place}: {self.message}"


def read_policy(text: str, origin: str) -> tuple[Policy | None, list[Mistake]]:
    """Read a policy file.

    Args:
        origin: Names it in messages.

    Returns:
        The policy, `None` if there are mistakes; all of these, by line.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # More than its own error: of numbers with thousands of digits, of depth.
        return None, [Mistake(origin, 0, "", f"is not valid TOML: {error}")]
    walk = _Walk(origin, text)
    policy = walk.policy(data)
    mistakes = sorted(walk.mistakes, key=lambda mistake: mistake.line)
    return (None if mistakes else policy), mistakes


class _Walk:
    """Goes over a file, and on after each mistake."""

    def __init__(self, origin: str, text: str) -> None:
        self.mistakes: list[Mistake] = []
        self._origin = origin
        self._lines = lines_of(text)
        self._old_paths: Mapping[Path, Path] = {}
        self._zone = "UTC"

    # Mistakes

    def _wrong(self, path: Path, message: str, value: Any = REQUIRED) -> None:
        path = older.old_path(self._old_paths, path)
        name = path_text(path)
        if value is not REQUIRED:
            name += f" = {values.shown(value)}"
        line = line_of(self._lines, path) or 0
        self.mistakes.append(Mistake(self._origin, line, name, message))

    def _section(self, value: Any, path: Path, section: Section) -> dict[str, Any] | None:
        """Read a table; `None` if it is not one, or any of its keys is wrong."""
        if not isinstance(value, dict):
            self._wrong(path, "is not a table", value)
            return None
        before = len(self.mistakes)
        known = [key.name for key in section.keys]
        meant: list[str] = []
        for name in value:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"Did you mean {close[0]}?" if close else f"Keys: {', '.join(known)}"
                self._wrong((*path, name), f"is not a key here. {hint}")
                meant += close
        found = {}
        for key in section.keys:
            if key.name in value:
                found[key.name] = self._value(value[key.name], (*path, key.name), key.value.read)
            elif key.default is REQUIRED and key.name in meant:
                found[key.name] = None
            elif key.default is REQUIRED:
                what = f"such as {key.example}" if key.example else f"which is {key.value.allowed}"
                self._wrong(path, f"lacks {key.name}, {what}")
                found[key.name] = None
            else:
                found[key.name] = key.default
        return found if len(self.mistakes) == before else None

    def _value(self, value: Any, path: Path, read: Callable[[Any, str], Any]) -> Any:
        try:
            return read(value, self._zone)
        except ValueError as error:
            self._wrong(path, str(error), value)
            return None

    def _list(self, value: Any, path: Path) -> list[Any]:
        if isinstance(value, list):
            return value
        header = path_text(path)
        self._wrong(path, f"is not a list of tables. Write [[{header}]] above each", value)
        return []

    # The file

    def policy(self, data: dict[str, Any]) -> Policy | None:
        """Read all of a file."""
        for path, message in older.mixed(data):
            self._wrong(path, message)
        data, self._old_paths = older.modernised(data)
        if "time_zone" in data:
            with contextlib.suppress(ValueError):  # `_section` reports it
                self._zone = values.zone(data["time_zone"], "")
        header = self._section(data, (), grammar.HEADER)
        known = header or {key.name: key.default for key in grammar.HEADER.keys} | data
        kinds = self._kinds(known["violation"])
        names = tuple(known["violation"]) if isinstance(known["violation"], dict) else ()
        units: dict[str, Unit] = {}
        accounts = [
            self._account(each, ("account", place), names, units)
            for place, each in enumerate(self._list(known["account"], ("account",)))
        ]
        self._check_accounts(accounts)
        sanctions = [
            self._sanction(each, ("sanction", place), names, units, accounts)
            for place, each in enumerate(self._list(known["sanction"], ("sanction",)))
        ]
        exemptions = [
            self._exemption(each, ("exemption", place), names)
            for place, each in enumerate(self._list(known["exemption"], ("exemption",)))
        ]
        given = [each.exemption_id for each in exemptions if each is not None]
        for place, one in enumerate(exemptions):
            if one is not None and one.exemption_id in given[:place]:
                self._wrong(("exemption", place, "name"), "names another exemption, too")
        work_week = self._work_week(known["working_days"])
        retention = self._section(known["retention"], ("retention",), grammar.RETENTION)
        processing = self._section(known["processing"], ("processing",), grammar.PROCESSING)
        if retention and processing and processing["late_payment"] > retention["clean"]:
            self._wrong(
                ("processing", "late_payment"),
                "is longer than retention.clean: a stale copy could revive a forgotten order",
            )
        if header is None or self.mistakes or not retention or not processing or not work_week:
            return None
        return Policy(
            platform=header["platform"],
            name=header["name"],
            version=header["version"],
            time_zone=header["time_zone"],
            effective_from=header["effective_from"],
            effective_by=header["effective_by"],
            default_platform=header["default_platform"],
            kinds=kinds,
            accounts=tuple(each for each in accounts if each is not None),
            sanctions=tuple(each for each in sanctions if each is not None),
            exemptions=tuple(each for each in exemptions if each is not None),
            work_week=work_week,
            close_unshipped=header["close_unshipped"],
            retention=Retention(**retention),
            processing=Processing(**processing),
        )

    def _kinds(self, table: Any) -> dict[str, Kind]:
        if not isinstance(table, dict) or not table:
            self._wrong((), "has no kind of violation. Write a table such as [violation.late-ship]")
            return {}
        kinds = {}
        for name, value in table.items():
            path = "violation", name
            self._value(name, path, lambda each, _zone: values.kind_name(each))
            kind = self._kind(value, path)
            if kind is not None:
                kinds[name] = kind
        return kinds

    def _kind(self, value: Any, path: Path) -> Kind | None:
        section = self._section(value, path, grammar.VIOLATION)
        deadlines = value.get("deadline") if isinstance(value, dict) else None
        found = self._deadlines(deadlines, (*path, "deadline")) if deadlines is not None else None
        instead = []
        for place, one in enumerate(self._list_at(value, "instead", path)):
            at = (*path, "instead", place)
            other = self._section(one, at, grammar.KIND_INSTEAD)
            if other is not None:
                when = self._when(other["when"], (*at, "when"))
                theirs = self._deadlines(other["deadline"], (*at, "deadline"))
                if when is not None and theirs is not None:
                    instead.append(KindInstead(when=when, deadlines=theirs))
        if section is None or found is None:
            return None
        return Kind(
            deadlines=found,
            until=section["until"],
            every=section["every"],
            times=section["times"],
            warn_before=section["warn_before"],
            on_time_at_limit=section["limit"] == "on-time-at-limit",
            parcels=section["parcels"],
            instead=tuple(instead),
        )

    def _list_at(self, value: Any, key: str, path: Path) -> list[Any]:
        found = value.get(key, []) if isinstance(value, dict) else []
        return self._list(found, (*path, key))

    def _deadlines(self, table: Any, path: Path) -> dict[str, Deadline] | None:
        if not isinstance(table, dict):
            self._wrong(path, 'is not a table of modes. Write normal = "48h after placed"', table)
            return None
        before = len(self.mistakes)
        found = {}
        for mode, value in table.items():
            self._value(mode, (*path, mode), values.name)
            found[mode] = self._value(value, (*path, mode), values.deadline)
        return found if len(self.mistakes) == before else None

    def _when(self, table: Any, path: Path) -> When | None:
        section = self._section(table, path, grammar.WHEN)
        if section is None:
            return None
        if section["shop_levels"] is None and section["categories"] is None:
            self._wrong(path, "names neither shop_levels nor categories, so it would be for all")
            return None
        return When(**section)

    def _kinds_named(
        self, names: tuple[str, ...] | None, path: Path, known: tuple[str, ...]
    ) -> tuple[str, ...]:
        for name in names or ():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                guess = f" Did you mean {close[0]}?" if close else ""
                self._wrong(path, f"names {name}, of which there is no [violation.{name}].{guess}")
        return known if names is None else names

    # Accounts

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

    # Sanctions

    def _sanction(
        self, value: Any, path: Path, known: tuple[str, ...], units: dict[str, Unit],
        accounts: list[Account | None],
    ) -> Sanction | None:  # fmt: skip
        section = self._section(value, path, grammar.SANCTION)
        if section is None:
            return None
        before = len(self.mistakes)
        counted = self._counted(section["of"], (*path, "of"))
        if counted is None:
            return None
        of, span, days, account = counted
        kinds = section["counts"]
        if account:
            named = [each for each in accounts if each is not None and each.name == account]
            if account not in units:
                names = ", ".join(units) or "none"
                self._wrong((*path, "of"), f"counts account {account}; accounts: {names}")
                return None
            kinds = kinds or tuple(kind for each in named for kind in each.kinds)
        counts = self._kinds_named(kinds, (*path, "counts"), known)
        limit = section["more_than"]
        more_than: int | None
        if account:
            more_than = self._charge(limit, (*path, "more_than"), units[account])
        else:
            more_than = self._value(limit, (*path, "more_than"), grammar.number_from_0.read)
        if section["action"] == BAN and of != "order":
            self._wrong(
                (*path, "action"), 'bans products, which goes with of = "one order" only', BAN
            )
        if section["action"] == BAN and section["lasts"] is not None:
            self._wrong((*path, "lasts"), "does not go with product-ban, which lasts until lifted")
        if more_than is None or len(self.mistakes) > before:
            return None
        return Sanction(
            counts=counts, of=of, span=span, days=days, account=account, more_than=more_than,
            action=section["action"], lasts=section["lasts"],
        )  # fmt: skip

    def _counted(
        self, value: Any, path: Path
    ) -> tuple[Literal["order", "shop", "account"], Span, int, str] | None:
        if value == "one order":
            return "order", "rolling", 0, ""
        of_shop = _OF_SHOP.fullmatch(value) if isinstance(value, str) else None
        of_account = _OF_ACCOUNT.fullmatch(value) if isinstance(value, str) else None
        words = of_shop[1] if of_shop else of_account[2] if of_account else ""
        last = _LAST_DAYS.fullmatch(words)
        of = "shop" if of_shop else "account"
        account = of_account[1] if of_account else ""
        if words in _THIS:
            return cast(Literal["shop", "account"], of), _THIS[words], 0, account
        if last is not None and 1 <= int(last[1]) <= grammar.DAYS_MAX:
            return cast(Literal["shop", "account"], of), "rolling", int(last[1]), account
        self._wrong(path, f"is not what a sanction can count. Write {_OF_EXAMPLES}", value)
        return None

    # Exemptions

    def _exemption(self, value: Any, path: Path, known: tuple[str, ...]) -> ExemptionGranted | None:
        section = self._section(value, path, grammar.EXEMPTION)
        if section is None:
            return None
        before = len(self.mistakes)
        kinds = section["kinds"]
        if kinds is not None:
            self._kinds_named(kinds, (*path, "kinds"), known)
        scope = self._scope(section["for"], (*path, "for"))
        given = [name for name in grammar.EFFECTS if section[name] is not None]
        if len(given) != 1:
            said = "has no effect" if not given else f"has {len(given)} effects"
            names = ", ".join(given or grammar.EFFECTS)
            what = "Give one of" if not given else "Write an [[exemption]] for each of"
            self._wrong(path, f"{said}. {what} {names}")
            return None
        (name,) = given
        effect = {name: section[name]}
        if name == "deadline":
            effect = {"limit": deadline_text(section[name])}
        if scope is None or len(self.mistakes) > before:
            return None
        return ExemptionGranted(
            exemption_id=section["name"],
            source="platform",
            granted_at=0,
            effect=Effect(**effect),
            scope=scope,
            kinds=list(kinds or ()),
        )

    def _scope(self, table: Any, path: Path) -> Scope | None:
        section = self._section(table, path, grammar.SCOPE)
        if section is None:
            return None
        fields: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in section.items()
            if value is not None and name != "not"
        }
        if section["not"] is not None:
            excluded = self._scope(section["not"], (*path, "not"))
            if excluded is None:
                return None
            fields["not_"] = excluded
        for first, last in (("paid_from", "paid_until"), ("deadline_from", "deadline_until")):
            if fields.get(first, 0) > fields.get(last, fields.get(first, 0)):
                self._wrong((*path, first), f"lies after {last}: no order would match")
        return Scope(**fields)

    # Calendar

    def _work_week(self, table: Any) -> WorkWeek | None:
        path: Path = ("working_days",)
        section = self._section(table, path, grammar.WORKING_DAYS)
        if section is None:
            return None
        if len(section["weekend"]) == len(values.WEEKDAYS):
            self._wrong((*path, "weekend"), "leaves no day to work on")
        country = section["holidays"]
        ordinals = self._value(
            country,
            (*path, "holidays"),
            lambda one, _: () if one is None else holiday_ordinals(one),
        )
        if ordinals is None:
            return None
        return WorkWeek(**section, holiday_ordinals=ordinals)
