"""The `shipclock` command: one file a subcommand.

Importing this package imports next to nothing, so that Ctrl-C and SIGTERM work from the start.
"""

import os
import sys
from collections.abc import Callable

from streams.cli.interrupt import INTERRUPTED, end_at_once


def _command_line() -> Callable[[], int]:
    from streams.cli.commands import program_named, run

    program = program_named()
    return lambda: run(program)


def main(load: Callable[[], Callable[[], int]] = _command_line) -> None:
    """Load and run a program, by default the command line.

    Whatever goes wrong ends as one line, a hint and an exit code.
    """
    end_at_once()
    if sys.stdout is None or sys.stdin is None:
        os.write(2, b"error: standard input or output is closed\nhint: give /dev/null instead\n")
        sys.exit(1)
    try:
        code = load()()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
