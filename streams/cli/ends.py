"""How each end of a program is told: a line, a hint and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from streams.core.errors import UserError


def told(work: Callable[[], int | None]) -> int:
    """Return the exit code of some work, its errors told."""
    try:
        return work() or 0
    except UserError as error:
        say(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has all it wants; flushing at exit would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UnicodeEncodeError:
        # Files are read strictly, so only an argument can hold what was no text.
        say("an argument is no text in UTF-8", "only names of files may be other bytes")
        return 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(
            f"{place}{error.strerror or error}",
            "standard output, a file or the network refused it",
        )
        return 1
    except Exception as error:  # a traceback tells a person nothing
        if "SHIPCLOCK_TRACEBACK" in os.environ:
            raise
        say(
            f"internal error: {type(error).__name__}: {error}",
            "set SHIPCLOCK_TRACEBACK=1 to see where, and report it",
        )
        return 1


def say(message: str, hint: str | None) -> None:
    """Say what went wrong on standard error, and what to do about it."""
    from rich.console import Console

    from streams.cli.printable import printable

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for style, word, text in (("bold red", "error:", message), ("bold", "hint:", hint)):
        if text:
            console.print(word, style=style, end=" ")
            # A log may be quoted in lines of its own.
            console.print("\n".join(map(printable, text.split("\n"))), markup=False, emoji=False)
