"""The exception for whatever a person can cause, and therefore put right."""


class UserError(Exception):
    """Say what is wrong in one line, and a hint; `exit_code` 1: failed, 2: wrong usage."""

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
