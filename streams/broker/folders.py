"""Where a user's files are kept: the folders of the XDG base directory specification."""

import os
from pathlib import Path

from streams.broker.errors import BrokerError


def home_folder(variable: str, default: str, hint: str) -> Path:
    """Return shipclock's folder below the one that an environment variable names.

    Args:
        variable: Such as `XDG_DATA_HOME`.
        default: The folder below the user's home if the variable is not set.
        hint: What else to do where neither is known.

    Raises:
        BrokerError: The variable is not set, and the user has no home directory.
    """
    named = os.environ.get(variable)
    try:
        return (Path(named) if named else Path.home() / default) / "shipclock"
    except RuntimeError:
        raise BrokerError(
            f"there is no home directory, and {variable} is not set",
            hint=f"set {variable} to a folder you may write to, or {hint}",
        ) from None
