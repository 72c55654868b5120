"""The `shipclock` command: one file a subcommand.

Importing this package imports next to nothing, so that Ctrl-C is heard from the start.
"""

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; whatever goes wrong ends as one line, a hint and an exit code."""
    if sys.stdout is None or sys.stdin is None:
        os.write(2, b"error: standard input or output is closed\nhint: give /dev/null instead\n")
        sys.exit(1)
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _run() -> int:
    import signal

    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        # There is nothing to tidy up yet, and an import tells of an interrupt at length.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from streams.cli.commands import program_named, run

    program = program_named()
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(program)
    if code == INTERRUPTED:
        # A further Ctrl-C ends the interpreter's own end, without a story.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code
