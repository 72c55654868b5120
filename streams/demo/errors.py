"""Why a demo cannot go on."""


class DemoError(Exception):
    """Say what went wrong in one line, and a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
