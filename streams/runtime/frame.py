"""Faust without what a worker never uses: what is left are agents on channels, and services.

With itself Faust brings an HTTP client for the name of a type, cron expressions and YAML; an app
brings tables, a router and assignors, and makes a consumer with a thread of its own. All of that
is 15 MB and 0.6 CPU-seconds of each worker. Leaving it out goes by what one version of Faust
looks at, so `BARE` says whether that is the one installed; with any other, everything is there.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from importlib.metadata import version
from types import ModuleType
from typing import Any

from streams.runtime.logs import warn

log = logging.getLogger(__name__)

_VERSION = version("faust-streaming")
BARE = _VERSION == "0.15.3"


class Unused:
    """Stands for a class of which a worker makes nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("left out of Faust: see streams/runtime/frame.py")


def _holding(name: str) -> ModuleType:
    """Make a module in which one class can be found."""
    module = ModuleType(name)
    setattr(module, name, Unused)
    return module


# In a package that was imported already its modules are not looked for. None: not installed.
_LEFT_OUT = {
    "aiohttp": ModuleType("aiohttp"),
    "aiohttp.client": _holding("ClientSession"),
    "croniter": ModuleType("croniter"),
    "croniter.croniter": _holding("croniter"),
    "yaml": None,
}


@contextlib.contextmanager
def _imported_without(left_out: dict[str, ModuleType | None]) -> Iterator[None]:
    modules: dict[str, Any] = sys.modules
    before = {name: modules[name] for name in left_out if name in modules}
    modules.update(left_out)
    try:
        yield
    finally:
        for name in left_out:
            del modules[name]
        modules.update(before)


with _imported_without(_LEFT_OUT if BARE else {}):
    from faust.app.base import App, BootStrategy
    from mode.services import Service
    from mode.utils.trees import Node

__all__ = ["App", "BootStrategy", "Service", "settings", "without_kafka"]


def settings() -> dict[str, Any]:
    """Name the classes for Faust's app to use instead of those that it would import."""
    names = (
        "Table", "SetTable", "GlobalTable", "SetGlobalTable", "TableManager", "Worker", "Router",
        "PartitionAssignor", "LeaderAssignor", "HttpClient",
    )  # fmt: skip
    return dict.fromkeys(names, Unused) if BARE else {}


class _Conductor:
    """Looked at by each stream for the topics to acknowledge: there are none."""

    def __init__(self) -> None:
        self.beacon = Node("no conductor")
        self.acking_topics = self._acking_topics = frozenset[str]()

    def acks_enabled_for(self, topic: str) -> bool:  # noqa: ARG002
        return False


class _Consumer:
    """Looked at by each stream for messages to acknowledge, and by the app when it stops."""

    def __init__(self) -> None:
        self.beacon = Node("no consumer")
        self._unacked_messages = self.unacked = set[object]()

    def assignment(self) -> frozenset[object]:
        return frozenset()


class _Transport:
    """Makes what an app asks of its transport before it starts."""

    def create_conductor(self, **_: object) -> _Conductor:
        return _Conductor()


def without_kafka(app: Any) -> None:
    """Let the app make no consumer: nothing would start it, but its thread's loop has sockets."""
    if BARE:
        app.transport, app.consumer = _Transport(), _Consumer()
    else:
        warn(log, "plain-faust", faust=_VERSION,
             detail="it takes more memory than it must: this version is not known")  # fmt: skip


def free(app: Any) -> None:
    """Free what a consumer holds that was made all the same."""
    if not BARE:
        app.consumer._thread.thread_loop.close()
