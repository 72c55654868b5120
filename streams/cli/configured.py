"""Commands by their settings: the flags that all share, and what these flags and others give."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.core.errors import UserError
from streams.settings import Loaded, Sources, load
from streams.settings.checks import PORT_MAX, WORKERS_MAX

_GIVES: dict[str, Callable[[Sources], object]] = {
    "connection": lambda sources: load(sources).connection,
    "guest_at": lambda sources: load(sources).connection if _names_kafka(sources) else None,
    "loaded": load,
    "sources": lambda sources: sources,
}
"""By the name of a command's parameter, what it gets of the settings."""
_WITH_WORKER_FLAGS = ("loaded", "sources")
_OWN_SETTINGS: dict[str, Callable[[Loaded], Any]] = {
    "app_id": lambda loaded: loaded.settings.app_id,
    "policies": lambda loaded: loaded.policies,
}
"""Parameters of a command's own that are settings, too."""


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of settings, in place of the parameter that wants what they give.

    That is `connection`; or `guest_at`, a connection that is None unless flags name a cluster; or
    `loaded`, all settings, which brings the worker's flags too; or `sources`, of which settings
    would be made. `policies` or an `app_id` that no flag gives comes from the settings as well.
    """
    signature = inspect.signature(command, eval_str=True)
    (wanted,) = (name for name in _GIVES if name in signature.parameters)
    flags = [*_SHARED, *(_OF_WORKERS if wanted in _WITH_WORKER_FLAGS else [])]
    own = [each for each in signature.parameters.values() if each.name != wanted]
    of_settings = [each.name for each in own if each.name in _OWN_SETTINGS]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {flag.name: arguments.pop(flag.name) for flag in flags}
        given |= {name: arguments.pop(name) for name in of_settings}
        sources = _sources(**given)
        if of_settings:
            loaded = load(sources)
            arguments |= {name: _OWN_SETTINGS[name](loaded) for name in of_settings}
        command(**{wanted: _GIVES[wanted](sources)}, **arguments)

    parameters = [
        each.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            default=None if each.name in of_settings else each.default,
        )
        for each in (*own, *flags)
    ]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _names_kafka(sources: Sources) -> bool:
    """Whether flags name a cluster: the environment alone must not make somebody's one a stage."""
    return sources.file is not None or "bootstrap" in sources.flags


def _parameters(carrier: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(carrier, eval_str=True).parameters.values())


def _shared(
    bootstrap: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Addresses of brokers, separated by commas.",
        ),
    ] = None,
    topic_prefix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the names of all topics begin with.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Settings, security among them; SHIPCLOCK_… variables and flags win.",
            show_default="SHIPCLOCK_CONFIG",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting but a secret; `shipclock config show --all` lists them.",
        ),
    ] = None,
) -> None:
    """Carry the flags that every command gets."""


def _of_workers(
    app_id: Annotated[
        str | None,
        typer.Option(
            help="Prefix of the consumer groups; workers of one id share the partitions.",
            show_default="shipclock",
        ),
    ] = None,
    idle_slack: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="MS",
            help="A topic read to its end counts as read up to this long ago.",
            show_default="500",
        ),
    ] = None,
    refuse_wrong_partition: Annotated[
        bool | None,
        typer.Option(
            "--refuse-wrong-partition",
            help="Make records in another partition than their key's dead letters; without it they "
            "are judged where they are, and reported.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=WORKERS_MAX, help="Processes; one a core.", show_default="1"),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=PORT_MAX,
            metavar="PORT",
            help="Serve metrics for Prometheus at 127.0.0.1; several workers take the next ports.",
        ),
    ] = None,
) -> None:
    """Carry the flags of what a worker has settings for."""


_SHARED = _parameters(_shared)
_OF_WORKERS = _parameters(_of_workers)
# Where a flag and its setting have different names.
_SETTING_OF = {"idle_slack": "idle_slack_ms"}


def _sources(
    config: Path | None, setting: list[str] | None, policies: list[str] | None = None, **given: Any
) -> Sources:
    given["policy"] = ",".join(policies) if policies else None
    flags: dict[str, tuple[str, Any]] = {}
    for text in setting or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set: {text!r} is not KEY=VALUE", "as in: --set client_rack=a", 2)
        flags[name.strip()] = "--set", value.strip()
    for name, value in given.items():
        if value is not None:
            flags[_SETTING_OF.get(name, name)] = f"--{name.replace('_', '-')}", value
    return Sources(config, os.environ, flags)
