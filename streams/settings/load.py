"""Settings from a file, the environment and flags: later ones win; every mistake is reported."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from streams.core.errors import UserError
from streams.core.words import counted
from streams.kafka.connection import Connection
from streams.runtime.settings import Settings
from streams.settings.checks import connection_problems, named_at, worker_problems
from streams.settings.keys import ENVIRONMENT_PREFIX, KEYS, Key, Program

CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"
# Ours, but not settings.
_OTHER_VARIABLES = {CONFIG_VARIABLE, "SHIPCLOCK_TRACEBACK", "SHIPCLOCK_CI_RUN"}
# What Kubernetes gives each container where a service is called shipclock, or shipclock-metrics.
_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)")
_SERVICE_ADDRESS = ("tcp://", "udp://")
_PROBE_MS_MIN = 15


class SettingsError(UserError):
    """Settings that cannot be used: where, and what would be right."""

    def __init__(self, problems: list[str]) -> None:
        more = len(problems) - 1
        hint = "list the settings with: shipclock config show --all"
        if more:
            hint = f"{counted(more, 'more mistake')}: shipclock config check"
        super().__init__(problems[0], hint, exit_code=2)
        self.problems = problems


class Value(NamedTuple):
    """A setting's value and where it comes from, for people."""

    value: Any
    origin: str


class Sources(NamedTuple):
    """What settings are made of."""

    file: Path | None
    environment: Mapping[str, str]
    flags: Mapping[str, tuple[str, Any]]
    """By setting: the flag's name and its value, text if it came as KEY=VALUE."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All settings, and for each that was given its value and origin."""

    settings: Settings
    policies: list[str]
    workers: int
    given: Mapping[str, Value] = field(repr=False)

    @property
    def connection(self) -> Connection:
        """How to reach Kafka."""
        return self.settings.connection


def load(sources: Sources) -> Loaded:
    """Make the settings.

    Raises:
        SettingsError: There are mistakes.
    """
    given, problems = gather(sources)
    loaded = _made(given)
    problems += connection_problems(loaded.connection, _where(given))
    problems += worker_problems(loaded.settings, loaded.workers, _where(given))
    if problems:
        raise SettingsError(problems)
    return loaded


def gather(sources: Sources) -> tuple[dict[str, Value], list[str]]:
    """Return the valid values, the winning one of each setting, and all mistakes."""
    given: dict[str, Value] = {}
    problems: list[str] = []
    if (file := sources.file) is None and (named := sources.environment.get(CONFIG_VARIABLE)):
        file = Path(named)
    if file is not None:
        _from_file(file, given, problems)
    for variable, text in sorted(sources.environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        service = variable.endswith("_PORT") and text.startswith(_SERVICE_ADDRESS)
        if service or _SERVICE_LINK.fullmatch(variable):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name in KEYS and variable.isupper():
            _take(KEYS[name], text, f"environment {variable}", given, problems)
        else:
            problems.append(f"environment {variable} {_unknown(name, ENVIRONMENT_PREFIX)}")
    for name, (flag, value) in sources.flags.items():
        if name not in KEYS:
            problems.append(f"{flag} {name} {_unknown(name)}")
        elif KEYS[name].secret:
            ways = f"{KEYS[name].variable}" + (f" or {name}_file" * (f"{name}_file" in KEYS))
            problems.append(f"{flag} {name}: a secret on a command line shows in the list of "
                            f"processes: set {ways}")  # fmt: skip
        else:
            _take(KEYS[name], value, flag, given, problems)
    return given, problems


def environment_of(connection: Connection) -> dict[str, str]:
    """Return the variables that give a command this connection."""
    return {
        KEYS[each.name].variable: str(value)
        for each in fields(connection)
        if (value := getattr(connection, each.name)) != each.default
    }


def _from_file(file: Path, given: dict[str, Value], problems: list[str]) -> None:
    try:
        text = file.read_text(encoding="utf-8-sig")
        entries = tomllib.loads(text)
    except OSError as error:
        problems.append(f"{file}: {error.strerror}")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{file}: not valid TOML: {error}")
        return
    for name, entry in entries.items():
        where = f"{file}:{_line_of(text, name)}"
        if isinstance(entry, dict):
            problems.append(f"{where}: [{name}]: settings stand without tables")
        elif name not in KEYS:
            problems.append(f"{where}: {name} {_unknown(name)}")
        else:
            key = KEYS[name]
            value = _beside(file.parent, key, entry)
            _take(key, value, where, given, problems, is_text=False)


def _beside(folder: Path, key: Key, entry: Any) -> Any:
    """Let the names of files in a settings' file count from where that file is."""
    if key.name == "policy" and isinstance(entry, list):
        return [_beside(folder, key, each) for each in entry]
    if not isinstance(entry, str):
        return entry
    is_file = key.name == "policy" and (entry.endswith(".toml") or "/" in entry)
    return str(folder / entry) if key.is_file or is_file else entry


def _line_of(text: str, name: str) -> int:
    found = re.search(rf"""^[ \t]*\[?["']?{re.escape(name)}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return 1 if found is None else text.count("\n", 0, found.start()) + 1


def _take(
    key: Key, value: Any, origin: str, given: dict[str, Value], problems: list[str],
    *, is_text: bool = True,
) -> None:  # fmt: skip
    try:
        is_text = is_text and isinstance(value, str)
        given[key.name] = Value(key.read(value) if is_text else key.checked(value), origin)
    except ValueError as error:
        problems.append(f"{named_at(key.name, origin)}: {error}")


def _unknown(name: str, prefix: str = "") -> str:
    close = get_close_matches(name.lower().replace("-", "_"), KEYS, n=1, cutoff=0.5)
    if not close:
        return "is not a setting"
    nearest = prefix + (close[0].upper() if prefix else close[0])
    return f"is not a setting, did you mean {nearest}?"


def _made(given: Mapping[str, Value]) -> Loaded:
    def of(owner: type) -> dict[str, Any]:
        return {name: each.value for name, each in given.items() if KEYS[name].owner is owner}

    settings = Settings(connection=Connection(**of(Connection)), **of(Settings))
    if "probe_interval_ms" not in given:
        # Asking seldom would add to a short slack what it saves.
        short = max(_PROBE_MS_MIN, settings.idle_slack_ms * 3 // 10)
        settings = replace(settings, probe_interval_ms=min(settings.probe_interval_ms, short))
    if "app_id" not in given:
        # Groups and transactional ids are the whole cluster's: two prefixes must not share them.
        settings = replace(settings, app_id=settings.connection.topic_prefix + settings.app_id)
    program = Program(**of(Program))
    policies = [each.strip() for each in program.policy.split(",")]
    return Loaded(settings, policies, program.workers, given)


def _where(given: Mapping[str, Value]) -> dict[str, str]:
    return {name: each.origin for name, each in given.items()}
