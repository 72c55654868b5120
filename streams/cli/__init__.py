"""The `shipclock` command: one file a subcommand.

Importing this package imports next to nothing, so that Ctrl-C is heard from the start.
"""

import os
import sys
from collections.abc import Callable

INTERRUPTED = 130


def _command_line() -> Callable[[], int]:
    from streams.cli.commands import program_named, run

    program = program_named()
    return lambda: run(program)


def main(load: Callable[[], Callable[[], int]] = _command_line) -> None:
    """Load and run a program, by default the command line.

    Whatever goes wrong ends as one line, a hint and an exit code.
    """
    if sys.stdout is None or sys.stdin is None:
        os.write(2, b"error: standard input or output is closed\nhint: give /dev/null instead\n")
        sys.exit(1)
    try:
        code = _run(load)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _run(load: Callable[[], Callable[[], int]]) -> int:
    import signal

    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        # There is nothing to tidy up yet, and an import tells of an interrupt at length.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    run = load()
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run()
    if code == INTERRUPTED:
        # A further Ctrl-C ends the interpreter's own end, without a story.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code
