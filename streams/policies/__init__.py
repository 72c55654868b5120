"""The policies that come with shipclock, and how a policy is found by name or file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from streams.core.errors import UserError
from streams.core.rules.policy import Policy, PolicyError, parse_policy
from streams.core.text import NotUtf8Error, without_mark


def policy_names() -> list[str]:
    """Names of the policies that come with shipclock, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(entry.name[:-5] for entry in files if entry.name.endswith(".toml"))


def load_policy(name_or_file: str) -> Policy:
    """Load a policy by its name, or from a TOML file.

    Raises:
        UserError: There is no such policy, or its file cannot be read.
        PolicyError: It is wrong.
    """
    origin = f"{name_or_file}.toml" if name_or_file in policy_names() else f"{Path(name_or_file)}"
    return parse_policy(policy_text(name_or_file), origin)


def policy_text(name_or_file: str) -> str:
    """Read a policy by its name, or a file, without a look at what it says.

    Raises:
        UserError: There is no such policy, or its file cannot be read.
        PolicyError: It is not text in UTF-8.
    """
    if name_or_file in policy_names():
        packaged = resources.files(__package__) / f"{name_or_file}.toml"
        return packaged.read_text(encoding="utf-8")
    path = Path(name_or_file)
    try:
        return without_mark(path.read_bytes()).decode()
    except FileNotFoundError:
        raise UserError(
            f"no policy or file named {name_or_file}", f"policies: {', '.join(policy_names())}", 2
        ) from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "give a TOML file, or a name", 2) from None
    except NotUtf8Error as error:
        raise PolicyError(f"{path}: {error}", "a policy is TOML") from None
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not TOML: {error}", "save it as UTF-8") from None
