"""What a stage did since its last summary; the metrics count the same since the start."""

from __future__ import annotations

from collections import Counter as Tally
from operator import attrgetter

from streams.engine.records import FRONTIER_MARKS, META_KEY, Checkpoint, Columns
from streams.telemetry import metrics

_TOPIC = attrgetter("topic")


class Counters:
    """What a stage has done since its last summary; the metrics have it since the start."""

    def __init__(self, stage: str) -> None:
        self._records = metrics.RECORDS.labels(stage)
        self._transactions = metrics.TRANSACTIONS.labels(stage)
        self.clear()

    def clear(self) -> None:
        """Count from zero again."""
        self.records = self.outputs = self.states = self.marks = self.transactions = 0

    @property
    def idle(self) -> bool:
        """Whether nothing but frontier marks came or went."""
        return not (self.records or self.outputs or self.states)

    def took(self, records: Columns) -> None:
        """Count records read."""
        count = len(records.keys)
        self.records += count
        self._records.inc(count)

    def wrote(self, checkpoint: Checkpoint) -> None:
        """Count a transaction."""
        written = Tally(map(_TOPIC, checkpoint.outputs))
        marks = written.pop(FRONTIER_MARKS, 0)
        for topic, count in written.items():
            metrics.OUTPUTS.labels(topic).inc(count)
        self.outputs += len(checkpoint.outputs) - marks
        self.marks += marks
        changelog = checkpoint.changelog
        self.states += len(changelog) - (META_KEY in changelog)
        self.transactions += 1
        self._transactions.inc()
