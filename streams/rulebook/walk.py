"""The walk over a policy file: tables with their keys, and every mistake on the way.

What lives here: what all sections have in common. What must not: single values (`values`), keys and
defaults (`grammar`), what sections mean (`reader`, `accounts`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from streams.core.rules.policy import When
from streams.rulebook import grammar, older, values
from streams.rulebook.grammar import REQUIRED, Section
from streams.rulebook.lines import Path, line_of, lines_of, path_text


class Mistake(NamedTuple):
    """Something wrong in a file; `line` is 0 where the file does not spell it out."""

    origin: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.origin}:{self.line}" if self.line else self.origin
        return f"{place}: {self.path} {self.message}" if self.path else f"{place}: {self.message}"


class Walk:
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
