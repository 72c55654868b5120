"""The one exception of the embedded broker."""

from streams.core.errors import UserError


class BrokerError(UserError):
    """Why the broker cannot do what was asked."""
