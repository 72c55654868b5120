"""Why a demo cannot go on."""

from streams.core.errors import UserError


class DemoError(UserError):
    """What went wrong with the worker or the broker, or does not suit a demo."""
