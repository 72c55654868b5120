"""All commands as one program, and what is wrong with a command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer

from streams.cli.ends import say, told

_COMMANDS = (
    "demo",
    "broker",
    "topics",
    "config",
    "worker",
    "simulate",
    "explain",
    "policy",
    "exempt",
    "appeal",
    "send",
    "dead-letters",
)

# Typer names one of its usage errors, not what they have in common.
_UsageError: Any = typer.BadParameter.__base__


def program(commands: Iterable[str] = _COMMANDS) -> typer.Typer:
    """Put the program together of these commands; each brings modules of its own."""
    app = typer.Typer(
        name="shipclock",
        help="Keeps the shipping clocks of paid orders: timeouts, penalties and product bans from "
        "Kafka topics, exactly once.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    # Without a callback, one command alone would be the program and have no name.
    app.callback()(_shipclock)
    for name in commands:
        module = import_module(f"streams.cli.{name.replace('-', '_')}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shipclock {version('shipclock')}")
        raise typer.Exit


def _shipclock(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    pass


def program_named() -> typer.Typer:
    """Bring the command that was named, and all of them only for help or for a wrong word."""
    return program([name for name in _COMMANDS if sys.argv[1:2] == [name]] or _COMMANDS)


def run(app: typer.Typer) -> int:
    """Run the command of the command line; return its exit code, its errors told."""
    return told(lambda: _parsed(app))


def _parsed(app: typer.Typer) -> int:
    try:
        return app(prog_name="shipclock", standalone_mode=False) or 0
    except _UsageError as error:
        return _wrong_usage(error)
    except typer.Abort:
        say("not confirmed", "nothing was done")
        return 1
    except SystemExit as end:
        # So Typer ends what nobody reads on.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise


def _wrong_usage(error: Any) -> int:
    """Tell in our form what the parser says of arguments and options."""
    message, context = error.format_message(), error.ctx
    if context is not None and message == context.get_help():
        # A group of commands, and none was named.
        typer.echo(message, err=True)
        return 2
    message = " ".join(message.split()).removesuffix(".").replace("Value error, ", "")
    usage = "" if context is None else " ".join(context.get_usage().split()) + "; "
    say(_lowered(message), f"{_lowered(usage)}--help tells more")
    return 2


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
