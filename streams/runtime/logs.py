"""Logs for people: one line an event, `key=value`, on standard error."""

from __future__ import annotations

import logging
import time
from typing import Any

_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}
_CLIENT_LINE_INTERVAL_S = 5.0
_STANDING_INTERVAL_S = 60.0


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
    """Turn the Kafka client's complaints into at most one line each few seconds.

    Each lost connection is reported by every producer and consumer, with a traceback; what counts
    for a person is that the broker is away, and why.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        detail = " ".join(record.getMessage().split()).replace('"', "'")
        # A first connection that fails is the caller's to report.
        if now < self._next or detail.startswith("Unable connect to '"):
            return False
        self._next = now + _CLIENT_LINE_INTERVAL_S
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
