"""What a stage did since its last summary; the metrics count the same since the start."""

from __future__ import annotations

from collections import Counter as Tally
from operator import attrgetter

from streams.engine.records import META_KEY, SHOP_VIOLATIONS, Checkpoint, Columns
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

    def took(self, topic: str, records: Columns) -> None:
        """Count records read; of those between the stages the marks have no key."""
        marks = records.keys.count(None) if topic == SHOP_VIOLATIONS else 0
        count = len(records.keys) - marks
        self.records += count
        self._records.inc(count)
        self.marks += marks

    def wrote(self, checkpoint: Checkpoint) -> None:
        """Count a transaction; of its outputs only marks name their partition."""
        written = Tally(map(_TOPIC, checkpoint.outputs))
        marks = 0
        if SHOP_VIOLATIONS in written:
            marks = sum(output.partition is not None for output in checkpoint.outputs)
            written[SHOP_VIOLATIONS] -= marks
        for topic, count in written.items():
            metrics.OUTPUTS.labels(topic).inc(count)
        self.outputs += len(checkpoint.outputs) - marks
        self.marks += marks
        changelog = checkpoint.changelog
        self.states += len(changelog) - (META_KEY in changelog)
        self.transactions += 1
        self._transactions.inc()
