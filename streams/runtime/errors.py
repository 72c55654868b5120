"""What can stop a worker, in words for people."""


class WorkerError(Exception):
    """A worker that cannot go on: `message` says why, `hint` what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class PartitionRefused(Exception):
    """One partition whose log and state do not fit together; the others go on."""
