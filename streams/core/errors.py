"""The error whose cause a person can put right: its words are all that person gets to see.

Here, because every room raises it and the command line ends with it: one line of what is wrong, a
hint what to do, an exit code. What a partition refuses about a record is no error but a dead
letter, and what must never happen is no error for a person either.
"""

from __future__ import annotations


class UserError(Exception):
    """Say what is wrong in one line, and a hint; `exit_code` 1: failed, 2: wrong usage."""

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
