"""What all commands that talk to Kafka share: how they are told where it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from streams.core.errors import UserError
from streams.kafka.connection import DEFAULT_BOOTSTRAP, Connection


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a connection in place of its parameter `connection`."""
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        of_connection = parameter.name == "connection"
        parameters += _OPTIONS if of_connection else [parameter]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {option.name: arguments.pop(option.name) for option in _OPTIONS}
        command(connection=_connection(**given), **arguments)

    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _options(
    bootstrap: Annotated[
        str,
        typer.Option(
            envvar="SHIPCLOCK_BOOTSTRAP",
            metavar="HOST:PORT",
            help="The Kafka broker's address.",
        ),
    ] = DEFAULT_BOOTSTRAP,
) -> None:
    """Carry the options that every command gets."""


_OPTIONS = list(inspect.signature(_options, eval_str=True).parameters.values())


def _connection(bootstrap: str) -> Connection:
    refuse_other_than_addresses(bootstrap)
    return Connection(bootstrap)


def refuse_other_than_addresses(text: str) -> None:
    """Raise UserError for what is not a list of HOST:PORT, before anything tries to connect."""
    for address in text.split(","):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) <= 65_535:
            raise UserError(
                f"--bootstrap: {address!r} is not HOST:PORT",
                "give for example 127.0.0.1:9092",
                exit_code=2,
            )
