"""What is logged of a stage's partitions: one line for all that have the same to say."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

from streams.runtime.logs import Standing, event, ranges


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
        self._waiting: dict[Hashable, tuple[int, str, dict[str, Any], set[int]]] = {}

    def add(
        self, level: int, name: str, number: int, *, shared: bool = False, **fields: Any
    ) -> None:
        """Note a line for a partition.

        Args:
            shared: It concerns all partitions: one that joins later waits for the next minute.
        """
        key = name, *map(str, fields.values())
        _, _, _, numbers = self._waiting.setdefault(key, (level, name, fields, set()))
        numbers.add(number)
        if shared:
            self._named.setdefault(key, set()).add(number)

    def flush(self) -> None:
        """Log what is new or was last logged a minute ago."""
        for key, (level, name, fields, numbers) in list(self._waiting.items()):
            named = self._named.setdefault(key, set())
            if not (self._standing.news(str(key)) or numbers - named):
                continue
            named |= numbers
            del self._waiting[key]
            event(self._log, name, level=level, stage=self._stage, partitions=ranges(numbers),
                  **fields)  # fmt: skip

    def over(self) -> None:
        """Forget them: all partitions work."""
        self.flush()
        self._waiting.clear()
        self._named.clear()
        self._standing.over()
