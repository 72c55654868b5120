"""Every setting there is: its name, its type, what it means; read off the dataclasses."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from streams.kafka.connection import Connection
from streams.runtime.settings import Settings

ENVIRONMENT_PREFIX = "SHIPCLOCK_"
# What may be wanted of one start must not stand in a file for all of them.
_FOR_ONE_RUN = ("policy_change",)
# A command may hold a secret among its arguments.
_SECRETS = ("sasl_password", "ssl_key_password", "oauth_token_command")
# May stand as lists in a file.
_LISTS = ("bootstrap", "policy")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class Program:
    """What a command needs besides the worker's settings."""

    policy: str = "douyin-first-scan"
    """The rules: names of policies, TOML files or folders of some, separated by commas."""
    workers: int = 1
    """Worker processes; one a core."""


@dataclass(frozen=True, slots=True)
class Key:
    """A setting as people write it; `choices` are the only values of one that has some."""

    name: str
    kind: type
    default: Any
    choices: tuple[str, ...]
    meaning: str
    owner: type

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def secret(self) -> bool:
        """Whether nobody may see its value."""
        return self.name in _SECRETS

    @property
    def is_file(self) -> bool:
        """Whether it names a file: beside the settings' file, if that says so."""
        return self.name.endswith("_file")

    def read(self, text: str) -> Any:
        """Read a value that came as text.

        Raises:
            ValueError: It is not valid; what would be.
        """
        if self.kind is bool:
            if text.lower() not in _WORDS:
                raise ValueError(f"{text!r} is not true or false")
            return _WORDS[text.lower()]
        if self.kind is int:
            try:
                return self.checked(int(text))
            except ValueError:
                raise ValueError(f"{text!r} is not {self._expected}") from None
        return self.checked(text)

    def checked(self, value: Any) -> Any:
        """Return a value of the right type.

        Raises:
            ValueError: It is not valid; what would be. The value of a secret is not shown.
        """
        if self.name in _LISTS and isinstance(value, list):
            value = ",".join(map(str, value))
        shown = "the value" if self.secret else repr(value)
        if type(value) is not self.kind:
            raise ValueError(f"{shown} is not {self._expected}")
        if self.choices and value not in self.choices:
            close = str(value).upper()
            guess = next(
                (one for one in (close, close.replace("_", "-")) if one in self.choices), ""
            )
            raise ValueError(
                f"{shown} is not {self._expected}" + (f"; did you mean {guess}?" if guess else "")
            )
        if isinstance(value, int) and not 0 <= value <= _LARGEST:
            raise ValueError(f"{shown} is not {self._expected}")
        if value == "" and self.default is None:
            raise ValueError("it is empty")
        return value

    @property
    def _expected(self) -> str:
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return {int: "a whole number from 0 on", bool: "true or false", str: "text"}[self.kind]


def _keys_of(owner: type) -> list[Key]:
    meanings = _meanings(owner)
    found = []
    for name, hint in get_type_hints(owner).items():
        kinds = [hint] if get_origin(hint) not in (UnionType, Union) else list(get_args(hint))
        kind = next(each for each in kinds if each is not NoneType)
        choices: tuple[str, ...] = ()
        if get_origin(kind) is Literal:
            choices, kind = get_args(kind), str
        if kind in (str, int, bool) and name not in _FOR_ONE_RUN:
            default = next(field.default for field in fields(owner) if field.name == name)
            found.append(Key(name, kind, default, choices, meanings[name], owner))
    return found


def _meanings(owner: type) -> dict[str, str]:
    """Read the sentence below each field."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    found: dict[str, str] = {}
    name = ""
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = ""
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                found[name] = " ".join(text.split())
    return found


KEYS: dict[str, Key] = {
    key.name: key for owner in (Connection, Program, Settings) for key in _keys_of(owner)
}
