"""The `shipclock` command: one file a subcommand."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer
from rich.console import Console

from streams.cli.errors import UserError

app = typer.Typer(
    name="shipclock",
    help="Keeps the shipping clocks of paid orders: timeouts, penalties and product bans from "
    "Kafka topics, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

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
)

for _name in _COMMANDS:
    _module = import_module(f"streams.cli.{_name}")
    if hasattr(_module, "app"):
        app.add_typer(_module.app, name=_name)
    else:
        app.command(_name)(getattr(_module, _name))


def main() -> None:
    """Run the command line; whatever goes wrong ends as one line, a hint and an exit code."""
    if sys.stdout is None or sys.stdin is None:
        os.write(2, b"error: standard input or output is closed\nhint: give /dev/null instead\n")
        sys.exit(1)
    try:
        app()
    except UserError as error:
        _say(error.message, error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone; flushing at exit would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _say(f"{error.strerror or error}", "the output, a file or the network refused it")
        sys.exit(1)
    except Exception as error:  # a traceback tells a person nothing
        if "SHIPCLOCK_TRACEBACK" in os.environ:
            raise
        _say(
            f"internal error: {type(error).__name__}: {error}",
            "set SHIPCLOCK_TRACEBACK=1 to see where, and report it",
        )
        sys.exit(1)


def _say(message: str, hint: str | None) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]error:[/]", end=" ")
    console.print(message, markup=False)
    if hint:
        console.print("[bold]hint:[/]", end=" ")
        console.print(hint, markup=False)
