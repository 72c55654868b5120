"""Rules as people write them: TOML files to rulebooks, and back to words."""

from streams.rulebook.loading import (
    PolicyError,
    PolicyFile,
    load_rulebook,
    pack_names,
    policy_files,
)

__all__ = ["PolicyError", "PolicyFile", "load_rulebook", "pack_names", "policy_files"]
