"""The settings of all commands, from a file, the environment and flags, in this order."""

from streams.settings.keys import KEYS, Key
from streams.settings.load import Loaded, SettingsError, Sources, environment_of, gather, load

__all__ = [
    "KEYS", "Key", "Loaded", "SettingsError", "Sources", "environment_of", "gather", "load",
]  # fmt: skip
