"""Logs for people: one line an event, `key=value`, on standard error."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}
_STANDING_INTERVAL_S = 60.0
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


def event(log: logging.Logger, name: str, /, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log one event with its fields, in the order given."""
    if log.isEnabledFor(level):
        parts = [name, *(f"{key}={_text(value)}" for key, value in fields.items())]
        log.log(level, " ".join(parts))


def warn(log: logging.Logger, name: str, /, **fields: Any) -> None:
    """Log an event that mends itself or that somebody should know of."""
    event(log, name, level=logging.WARNING, **fields)


def error(log: logging.Logger, name: str, /, **fields: Any) -> None:
    """Log an event that wants somebody to act."""
    event(log, name, level=logging.ERROR, **fields)


def reason(exc: BaseException) -> str:
    """Say an exception in one line."""
    text = " ".join(str(exc).split())
    name = type(exc).__name__
    return text if text.startswith(name) else f"{name}: {text}" if text else name


def ranges(numbers: Iterable[int]) -> str:
    """Write {0, 1, 2, 5} as 0-2,5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"


def duration(ms: int) -> str:
    """Write milliseconds for people, in their two largest units: 29d4h, 3h12m, 1m5s, 0.3s."""
    for (unit, size), (unit_below, size_below) in pairwise(_UNITS):
        if ms >= size:
            return f"{ms // size}{unit}{ms % size // size_below}{unit_below}"
    return f"{ms / 1000:.1f}s"


class Standing:
    """Failures of one thing: each kind is news at first, and once a minute while it stands."""

    def __init__(self) -> None:
        self._next_s: dict[str, float] = {}

    def news(self, kind: str) -> bool:
        """Tell whether to say it now."""
        now_s = time.monotonic()
        if now_s < self._next_s.get(kind, 0.0):
            return False
        self._next_s[kind] = now_s + _STANDING_INTERVAL_S
        return True

    def over(self) -> None:
        """Forget them: the thing works again."""
        self._next_s.clear()


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    plain = text and not any(char in text for char in ' "=\n\r\t')
    return text if plain else '"' + " ".join(text.replace('"', "'").split()) + '"'


class _LineFormatter(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = "" if worker is None else f" worker={worker}"

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _LEVELS.get(record.levelname, record.levelname)
        line = f"{stamp}.{int(record.msecs):03d}Z {level:<5} {record.getMessage()}{self._worker}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _ClientNoise(logging.Filter):
    """Turn the Kafka client's complaints into one line a minute of each kind.

    Each lost connection is reported by every producer and consumer, with a traceback; what counts
    for a person is that the broker is away, and why.
    """

    def __init__(self) -> None:
        super().__init__()
        self._standing = Standing()

    def filter(self, record: logging.LogRecord) -> bool:
        # What differs between two of a kind comes later in the text.
        kind = str(record.msg)[:30]
        if isinstance(record.args, tuple):
            # Many an exception of the client's has no text.
            record.args = tuple(
                reason(each) if isinstance(each, BaseException) else each for each in record.args
            )
        detail = " ".join(record.getMessage().split())
        if record.exc_info and record.exc_info[1] and (why := reason(record.exc_info[1])):
            # The traceback is left out, and with it what it was.
            detail += "" if why in detail else f": {why}"
        detail = detail.replace('"', "'")
        # A first connection that fails is the caller's to report.
        if detail.startswith("Unable connect to '") or not self._standing.news(kind):
            return False
        record.msg, record.args = f'kafka-client detail="{detail[:300]}"', None
        record.exc_info = record.exc_text = None
        return True


def setup(level: int = logging.INFO, worker: int | None = None) -> None:
    """Send the process's logs to standard error, quieting Faust and the Kafka client."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("streams").setLevel(level)
    client = logging.StreamHandler()
    client.setFormatter(_LineFormatter(worker))
    client.addFilter(_ClientNoise())
    for name in ("aiokafka", "asyncio"):
        library = logging.getLogger(name)
        library.handlers[:] = [client]
        library.propagate = False
        library.setLevel(logging.ERROR)
    # Rebalances and retries, which our own events tell better.
    for name in ("aiokafka.consumer.group_coordinator", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
