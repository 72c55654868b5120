"""All commands as one program, and how each of its ends is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import typer

from streams.cli.printable import printable
from streams.core.errors import UserError

_COMMANDS = (
    "demo",
    "broker",
    "topics",
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
    # Without this, one command alone would be the program and have no name.
    app.callback()(lambda: None)
    for name in commands:
        module = import_module(f"streams.cli.{name.replace('-', '_')}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def program_named() -> typer.Typer:
    """Bring the command that was named, and all of them only for help or for a wrong word."""
    return program([name for name in _COMMANDS if sys.argv[1:2] == [name]] or _COMMANDS)


def run(app: typer.Typer) -> int:
    """Run the command of the command line; return its exit code, its errors told."""
    try:
        return app(prog_name="shipclock", standalone_mode=False) or 0
    except UserError as error:
        _say(error.message, error.hint)
        return error.exit_code
    except _UsageError as error:
        return _wrong_usage(error)
    except typer.Abort:
        _say("not confirmed", "nothing was done")
        return 1
    except BrokenPipeError:
        # The reader (head, less) has gone; flushing at exit would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _say(f"{error.strerror or error}", "the output, a file or the network refused it")
        return 1
    except Exception as error:  # a traceback tells a person nothing
        if "SHIPCLOCK_TRACEBACK" in os.environ:
            raise
        _say(
            f"internal error: {type(error).__name__}: {error}",
            "set SHIPCLOCK_TRACEBACK=1 to see where, and report it",
        )
        return 1


def _wrong_usage(error: Any) -> int:
    """Tell in our form what the parser says of arguments and options."""
    message, context = error.format_message(), error.ctx
    if context is not None and message == context.get_help():
        # A group of commands, and none was named.
        typer.echo(message, err=True)
        return 2
    message = " ".join(message.split()).removesuffix(".").replace("Value error, ", "")
    usage = "" if context is None else " ".join(context.get_usage().split()) + "; "
    _say(_lowered(message), f"{_lowered(usage)}--help tells more")
    return 2


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _say(message: str, hint: str | None) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for style, word, text in (("bold red", "error:", message), ("bold", "hint:", hint)):
        if text:
            console.print(word, style=style, end=" ")
            # A log may be quoted in lines of its own.
            console.print("\n".join(map(printable, text.split("\n"))), markup=False, emoji=False)
