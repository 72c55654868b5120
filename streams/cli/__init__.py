"""The `shipclock` command: one file a subcommand.

Importing this package imports next to nothing, so that Ctrl-C is heard from the start.
"""

import os
import sys

from streams.cli.interrupt import INTERRUPTED, end_at_once


def main() -> None:
    """Run the command line; whatever goes wrong ends as one line, a hint and an exit code."""
    end_at_once()
    if sys.stdout is None or sys.stdin is None:
        os.write(2, b"error: standard input or output is closed\nhint: give /dev/null instead\n")
        sys.exit(1)
    from streams.cli.commands import run

    try:
        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
