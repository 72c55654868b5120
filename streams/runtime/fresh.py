"""Fresh interpreters for workers, which then hold nothing of the program that asked for them."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def command(module: str, *arguments: object) -> list[str]:
    """Say how to run one of our modules in an interpreter of its own."""
    # -P: what lies in the current folder is no module of ours.
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return our environment, in which a fresh interpreter finds modules where this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def become(module: str, *arguments: object, stdin: bytes) -> NoReturn:
    """Run a module in place of this program, with the same process id.

    Raises:
        OSError: It cannot be run, or `stdin` does not fit into a pipe.
    """
    reading, writing = os.pipe()
    # Nobody reads yet: what does not fit must not be waited for.
    os.set_blocking(writing, False)
    if os.write(writing, stdin) < len(stdin):
        raise OSError("the policy is too large")
    os.dup2(reading, 0)
    os.execve(sys.executable, command(module, *arguments), environment())
