"""The one exception of the embedded broker."""


class BrokerError(Exception):
    """Say why the broker cannot do what was asked, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
