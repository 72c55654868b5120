"""From the text of a policy file to a policy, or to all its mistakes.

What lives here: the walk over a file's sections, and what their values must be together. What must
not: single values (`values`), keys and defaults (`grammar`), several files (`loading`).
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from typing import Any, Literal, cast

from streams.core.facts.events import Effect, ExemptionGranted, Scope
from streams.core.rules.phrases import deadline_text
from streams.core.rules.policy import (
    BAN,
    Account,
    Deadline,
    Kind,
    KindInstead,
    Policy,
    Processing,
    Retention,
    Sanction,
    WorkWeek,
)
from streams.core.time.calendar import Span
from streams.rulebook import grammar, older, values
from streams.rulebook.accounts import AccountsWalk
from streams.rulebook.holidays import holiday_ordinals
from streams.rulebook.lines import Path
from streams.rulebook.money import Unit
from streams.rulebook.walk import Mistake

_OF_SHOP = re.compile(r"the shop, (.+)")
_OF_ACCOUNT = re.compile(r"account ([a-z0-9-]+), (.+)")
_LAST_DAYS = re.compile(r"last ([0-9]{1,3}) days?")
_THIS: dict[str, Span] = {
    "this week": "week",
    "this month": "month",
    "this quarter": "quarter",
    "today": "day",
}
_OF_EXAMPLES = '"one order", "the shop, last 30 days" or "account points, this week"'


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


class _Walk(AccountsWalk):
    """Reads all of a file."""

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
