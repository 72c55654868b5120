"""How each end of a program is told: a line, a hint and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from streams.core.errors import UserError

# As of a program that SIGPIPE ends, as it does those that are not Python's.
READER_GONE = 128 + signal.SIGPIPE


def told(work: Callable[[], int | None]) -> int:
    """Return the exit code of some work, its errors told."""
    try:
        return work() or 0
    except UserError as error:
        say(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has all it wants.
        _output_refused()
        return READER_GONE
    except UnicodeEncodeError:
        # Files are read strictly, so only an argument can hold what was no text.
        say("an argument is no text in UTF-8", "only names of files may be other bytes")
        return 2
    except OSError as error:
        reason = error.strerror or str(error)
        if _output_refused():
            say(f"standard output: {reason}", "what was written until then is not complete")
        elif error.filename:
            say(f"{error.filename}: {reason}", "look at the file, or give another")
        else:
            say(reason, "standard output, a file or the network refused it")
        return 1
    except Exception as error:  # a traceback tells a person nothing
        if "SHIPCLOCK_TRACEBACK" in os.environ:
            raise
        say(
            f"internal error: {type(error).__name__}: {error}",
            "set SHIPCLOCK_TRACEBACK=1 to see where, and report it",
        )
        return 1


def _output_refused() -> bool:
    """Tell whether standard output does not take what is left, which is then dropped.

    At the exit of the interpreter it would be a second error, with a traceback and code 120.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


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
