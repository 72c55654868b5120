"""What is logged of a stage's partitions: one line for all that have the same to say."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any, NamedTuple

from streams.runtime.logs import Standing, event, ranges

_AT_MAX = 16


class _Line(NamedTuple):
    level: int
    name: str
    fields: dict[str, Any]
    at: dict[int, str]
    """For each partition what differs between them; may be empty."""


class Reports:
    """Gathers lines that differ in their partition alone.

    Each is logged at the next flush, also for a partition that joins later, and then once a minute
    for as long as it is added.
    """

    def __init__(self, log: logging.Logger, stage: str) -> None:
        self._log = log
        self._stage = stage
        self._standing = Standing()
        self._named: dict[Hashable, set[int]] = {}
        self._waiting: dict[Hashable, _Line] = {}
        self._once: dict[Hashable, _Line] = {}

    def add(
        self, level: int, name: str, number: int, *, at: str = "", shared: bool = False,
        **fields: Any,
    ) -> None:  # fmt: skip
        """Note a line for a partition, of something that lasts.

        Args:
            at: What only this partition has to say, such as an offset.
            shared: It concerns all partitions: one that joins later waits for the next minute.
        """
        key = self._note(self._waiting, level, name, number, at, fields)
        if shared:
            self._named.setdefault(key, set()).add(number)

    def add_once(self, level: int, name: str, number: int, *, at: str = "", **fields: Any) -> None:
        """Note a line for a partition, of something that has happened."""
        self._note(self._once, level, name, number, at, fields)

    @staticmethod
    def _note(
        lines: dict[Hashable, _Line], level: int, name: str, number: int, at: str,
        fields: dict[str, Any],
    ) -> Hashable:  # fmt: skip
        key = name, *map(str, fields.values())
        lines.setdefault(key, _Line(level, name, fields, {})).at[number] = at
        return key

    def flush(self) -> None:
        """Log what has happened, and what is new or was last logged a minute ago."""
        happened, self._once = self._once, {}
        for line in happened.values():
            self._write(line)
        for key, line in list(self._waiting.items()):
            named = self._named.setdefault(key, set())
            if not (self._standing.news(str(key)) or line.at.keys() - named):
                continue
            named.update(line.at)
            del self._waiting[key]
            self._write(line)

    def _write(self, line: _Line) -> None:
        places = [at for _, at in sorted(line.at.items()) if at]
        at = "; ".join(places[:_AT_MAX]) + ("; …" if len(places) > _AT_MAX else "")
        event(self._log, line.name, level=line.level, stage=self._stage,
              partitions=ranges(line.at), **{"at": at} if at else {}, **line.fields)  # fmt: skip

    def over(self) -> None:
        """Forget them: all partitions work."""
        self.flush()
        self._waiting.clear()
        self._named.clear()
        self._standing.over()
