"""What is logged of a stage's partitions: one line for all that have the same to say."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from streams.runtime.logs import Standing, event, ranges

_AT_MAX = 16
_NO_SUMS: Mapping[str, int] = MappingProxyType({})
_NO_TIMES: Mapping[str, float] = MappingProxyType({})


class _Own(NamedTuple):
    """What a line says of one partition alone."""

    at: str
    sums: Mapping[str, int]
    longest: Mapping[str, float]


class _Line(NamedTuple):
    level: int
    name: str
    fields: dict[str, Any]
    own: dict[int, _Own]


def shared(text: str, number: int) -> str:
    """Leave the partition's number out of a text, so that it is the one of other partitions."""
    return text.replace(f"[{number}]", "")


class Reports:
    """Gathers lines that differ in their partition alone, or in what is said of it at `at`.

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
        key = self._note(self._waiting, level, name, number, _Own(at, {}, {}), fields)
        if shared:
            self._named.setdefault(key, set()).add(number)

    def add_once(
        self, level: int, name: str, number: int, *, at: str = "",
        sums: Mapping[str, int] = _NO_SUMS, longest: Mapping[str, float] = _NO_TIMES,
        **fields: Any,
    ) -> None:  # fmt: skip
        """Note a line for a partition, of something that has happened.

        Args:
            at: What only this partition has to say, such as an offset.
            sums: Numbers of which the line gives the sums over its partitions.
            longest: Numbers of which it gives the largest.
        """
        self._note(self._once, level, name, number, _Own(at, sums, longest), fields)

    @staticmethod
    def _note(
        lines: dict[Hashable, _Line], level: int, name: str, number: int, own: _Own,
        fields: dict[str, Any],
    ) -> Hashable:  # fmt: skip
        said = {
            key: shared(value, number) if isinstance(value, str) else value
            for key, value in fields.items()
        }
        key = name, *map(str, said.values())
        lines.setdefault(key, _Line(level, name, said, {})).own[number] = own
        return key

    def flush(self) -> None:
        """Log what has happened, and what is new or was last logged a minute ago."""
        happened, self._once = self._once, {}
        for line in happened.values():
            self._write(line)
        for key, line in list(self._waiting.items()):
            named = self._named.setdefault(key, set())
            if not (self._standing.news(str(key)) or line.own.keys() - named):
                continue
            named.update(line.own)
            del self._waiting[key]
            self._write(line)

    def _write(self, line: _Line) -> None:
        all_own = [own for _, own in sorted(line.own.items())]
        places = [own.at for own in all_own if own.at]
        at = "; ".join(places[:_AT_MAX]) + ("; …" if len(places) > _AT_MAX else "")
        sums = {name: sum(own.sums[name] for own in all_own) for name in all_own[0].sums}
        longest = {name: max(own.longest[name] for own in all_own) for name in all_own[0].longest}
        event(self._log, line.name, level=line.level, stage=self._stage,
              partitions=ranges(line.own), **{"at": at} if at else {}, **sums, **longest,
              **line.fields)  # fmt: skip

    def over(self) -> None:
        """Forget them: all partitions work."""
        self.flush()
        self._waiting.clear()
        self._named.clear()
        self._standing.over()
