"""Where rules come from: packs, files and folders, checked together.

What lives here: how a source is found, and what several files must not say at once. What must not:
what a file says (`reader`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from streams.core.errors import UserError
from streams.core.rules.book import ANY_PLATFORM, Rulebook
from streams.core.rules.policy import Policy
from streams.core.text import NotUtf8Error, without_mark
from streams.core.words import counted
from streams.rulebook.lines import line_of, lines_of
from streams.rulebook.reader import read_policy
from streams.rulebook.walk import Mistake

_PACKS = Path(str(resources.files("streams.rulebook") / "packs"))


class PolicyError(UserError):
    """Rules that are wrong: to name them for some other work is wrong usage of it.

    Attributes:
        mistakes: All of them.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        more = len(mistakes) - 1
        hint = "shipclock policy check FILE explains the file"
        if more:
            hint = f"{counted(more, 'more mistake')}: shipclock policy check FILE"
        super().__init__(str(mistakes[0]), hint, exit_code=2)
        self.mistakes = list(mistakes)


class PolicyFile(NamedTuple):
    """A file of rules: how messages name it, and what it holds."""

    origin: str
    text: str


def pack_names() -> list[str]:
    """Names of the rules that come with shipclock, sorted."""
    return sorted(entry.stem for entry in _PACKS.iterdir() if entry.name != "__pycache__")


def policy_files(source: str) -> list[PolicyFile]:
    """Read the files of a pack, a folder, or one file, without a look at what they say.

    Raises:
        UserError: There is no such pack or file, or it cannot be read.
    """
    if source in pack_names():
        found = _PACKS / source
        paths = sorted(found.glob("*.toml")) if found.is_dir() else [_PACKS / f"{source}.toml"]
        return [_read(path, str(path.relative_to(_PACKS))) for path in paths]
    path = Path(source)
    if not source:
        raise UserError("the name of a policy is empty", f"policies: {', '.join(pack_names())}", 2)
    if os.path.isdir(source):  # noqa: PTH112 - a name too long is not a folder, and no error yet
        paths = sorted(path.glob("*.toml"))
        if not paths:
            raise UserError(f"{source} has no *.toml file", "give a file, or a name", 2)
        return [_read(each, str(each)) for each in paths]
    return [_read(path, str(path))]


def read_policies(sources: Sequence[str]) -> list[tuple[PolicyFile, Policy]]:
    """Read all files of some sources.

    Raises:
        UserError: A source cannot be read.
        PolicyError: There are mistakes in what they say.
    """
    found: list[tuple[PolicyFile, Policy]] = []
    mistakes: list[Mistake] = []
    for source in sources:
        for file in policy_files(source):
            policy, wrong = read_policy(file.text, file.origin)
            mistakes += wrong
            if policy is not None:
                found.append((file, policy))
    mistakes += _contradictions(found)
    if mistakes:
        raise PolicyError(mistakes)
    return found


def load_rulebook(sources: Sequence[str]) -> Rulebook:
    """Load rules by packs' names, files and folders.

    Raises:
        UserError: A source cannot be read.
        PolicyError: There are mistakes in what they say.
    """
    return Rulebook([policy for _, policy in read_policies(sources)])


def _read(path: Path, origin: str) -> PolicyFile:
    try:
        return PolicyFile(origin, without_mark(path.read_bytes()).decode())
    except FileNotFoundError:
        raise UserError(
            f"no policy or file named {origin}", f"policies: {', '.join(pack_names())}", 2
        ) from None
    except OSError as error:
        raise UserError(f"{origin}: {error.strerror}", "give a TOML file, or a name", 2) from None
    except NotUtf8Error as error:
        raise PolicyError([Mistake(origin, 0, "", f"{error}; a policy is TOML")]) from None
    except UnicodeDecodeError as error:
        mistake = Mistake(origin, 0, "", f"is not valid TOML: {error}; save it as UTF-8")
        raise PolicyError([mistake]) from None


def _contradictions(found: Sequence[tuple[PolicyFile, Policy]]) -> Iterator[Mistake]:
    """Find what several files must not say at once."""

    def wrong(file: PolicyFile, key: tuple[str, ...], message: str) -> Mistake:
        line = line_of(lines_of(file.text), key) or 1
        return Mistake(file.origin, line, ".".join(key), message)

    for place, (file, policy) in enumerate(found):
        if policy.platform == ANY_PLATFORM and len(found) > 1:
            yield wrong(
                file, ("name",),
                'is of rules for every order, beside other rules. Add platform = "..." above it',
            )  # fmt: skip
        for other_file, other in found[:place]:
            if (policy.name, policy.version) == (other.name, other.version):
                yield wrong(
                    file, ("version",), f"{policy.label} is what {other_file.origin} is called, too"
                )
            if policy.platform == other.platform and policy.effective_from == other.effective_from:
                since = "no effective_from" if policy.effective_from is None else "the same start"
                yield wrong(
                    file, ("effective_from",),
                    f"platform {policy.platform}: {other_file.origin} has {since}, too; an order "
                    "would have two versions. Give one of them another start",
                )  # fmt: skip
            both = policy.default_platform and other.default_platform
            if both and policy.platform != other.platform:
                yield wrong(
                    file, ("default_platform",),
                    f"{other_file.origin} says so of platform {other.platform}; there is one",
                )  # fmt: skip
        first = found[0][1].processing
        if policy.processing != first:
            for name in policy.processing.__struct_fields__:
                if getattr(policy.processing, name) != getattr(first, name):
                    yield wrong(
                        file, ("processing", name),
                        f"differs from {found[0][0].origin}: it holds for a whole rulebook",
                    )  # fmt: skip
