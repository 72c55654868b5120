"""What one setting alone cannot say: which of them belong together."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import get_args

from streams.kafka.connection import Connection, ConnectionSettingError, Protocol
from streams.runtime.settings import Settings

PORT_MAX = 65_535
# More than any machine has cores for; a slip of the finger must not stop it.
WORKERS_MAX = 256
_PREFIX_MAX = 200
_SCHEME = re.compile(r"([A-Za-z_]+)://(.*)")


def connection_problems(connection: Connection, where: Mapping[str, str]) -> list[str]:
    """List what is wrong with a connection; `where` has the origin of each setting given."""
    problems = _Problems(where)
    for address in connection.bootstrap.split(","):
        if wrong := _wrong_address(address.strip()):
            problems.add("bootstrap", wrong)
    if not re.fullmatch(r"[A-Za-z0-9._-]*", connection.topic_prefix):
        problems.add("topic_prefix", "give letters, digits and . _ - as in topic names")
    elif len(connection.topic_prefix) > _PREFIX_MAX:
        problems.add("topic_prefix", f"give at most {_PREFIX_MAX} characters")
    before = len(problems.found)
    _check_tls(connection, problems)
    _check_login(connection, problems)
    if len(problems.found) == before and connection.encrypted:
        try:
            connection.ssl_context()
        except ConnectionSettingError as error:
            problems.found.append(f"{error.message}; {error.hint}")
    return problems.found


def worker_problems(settings: Settings, workers: int, where: Mapping[str, str]) -> list[str]:
    """List what is wrong with a worker's settings."""
    problems = _Problems(where)
    if not re.fullmatch("[A-Za-z0-9._-]{1,100}", settings.app_id):
        problems.add("app_id", f"{settings.app_id!r} is not a valid app id: give letters, digits "
                     "and . _ - without spaces")  # fmt: skip
    if not 1 <= workers <= WORKERS_MAX:
        problems.add("workers", f"give 1 to {WORKERS_MAX}")
    port = settings.metrics_port
    if port is not None and not 1 <= port <= PORT_MAX:
        problems.add("metrics_port", f"give 1 to {PORT_MAX}")
    elif port is not None and port + workers - 1 > PORT_MAX:
        problems.add("metrics_port", f"{workers} workers from port {port} on need ports beyond "
                     f"{PORT_MAX}: give a smaller one")  # fmt: skip
    if settings.heartbeat_interval_ms * 3 > settings.session_timeout_ms:
        problems.add("heartbeat_interval_ms", "give at most a third of session_timeout_ms "
                     f"({settings.session_timeout_ms})")  # fmt: skip
    for name in ("marks_wait_ms", "idle_fetch_wait_ms", "fetch_wait_ms"):
        if getattr(settings, name) >= settings.request_timeout_ms:
            problems.add(name, f"give less than request_timeout_ms ({settings.request_timeout_ms})")
    for each in fields(settings):
        positive = type(each.default) is int and each.name not in _MAY_BE_ZERO
        if positive and getattr(settings, each.name) < 1:
            problems.add(each.name, "give 1 or more")
    return problems.found


_MAY_BE_ZERO = ("idle_slack_ms", "commit_interval_ms", "catch_up_ms", "catch_up_commit_interval_ms")


def named_at(name: str, origin: str | None) -> str:
    """Say where a setting stands, and its name unless the place says it."""
    if origin is None:
        return name
    words = origin.lower().replace("-", "_")
    return origin if words.endswith(name) or words == f"__{name}" else f"{origin}: {name}"


class _Problems:
    def __init__(self, where: Mapping[str, str]) -> None:
        self._where = where
        self.found: list[str] = []

    def add(self, name: str, what: str) -> None:
        self.found.append(f"{named_at(name, self._where.get(name))}: {what}")


def _wrong_address(address: str) -> str:
    if "@" in address:
        # What stands before it may be a password.
        return "give HOST:PORT alone; a login is set by sasl_username and sasl_password_file"
    if (scheme := _SCHEME.fullmatch(address)) and scheme[1].upper() in get_args(Protocol):
        return (
            f"{address!r} is not HOST:PORT: write bootstrap = {scheme[2]!r} and "
            f"security_protocol = {scheme[1].upper()!r}"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= PORT_MAX or "/" in host:
        return f"{address!r} is not HOST:PORT, as in 127.0.0.1:9092"
    return ""


def _check_tls(connection: Connection, problems: _Problems) -> None:
    given = [
        name
        for name in ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file", "ssl_key_password_file")
        if getattr(connection, name) is not None
    ]
    if given and not connection.encrypted:
        wanted = "SASL_SSL" if connection.logs_in or connection.sasl_mechanism else "SSL"
        problems.add(given[0], f"security_protocol is {connection.security_protocol}, which "
                     f"uses no certificates: set security_protocol = {wanted!r}")  # fmt: skip
    for name in given:
        _check_file(name, getattr(connection, name), problems)
    if connection.ssl_key_file is not None and connection.ssl_certificate_file is None:
        problems.add("ssl_key_file", "set ssl_certificate_file too: a key alone is of no use")
    if connection.ssl_key_password and connection.ssl_key_password_file:
        problems.add("ssl_key_password", "set it or ssl_key_password_file, not both")


def _check_login(connection: Connection, problems: _Problems) -> None:
    mechanism = connection.sasl_mechanism
    if not connection.logs_in:
        given = [
            name for name in ("sasl_mechanism", "sasl_username", "sasl_password",
                              "sasl_password_file", "oauth_token_file", "oauth_token_command")
            if getattr(connection, name) is not None
        ]  # fmt: skip
        if given:
            wanted = "SASL_SSL" if connection.encrypted else "SASL_SSL or SASL_PLAINTEXT"
            problems.add(given[0], f"security_protocol is {connection.security_protocol}, which "
                         f"has no login: set security_protocol to {wanted}")  # fmt: skip
        return
    if mechanism is None:
        problems.add("sasl_mechanism", f"it is missing, and security_protocol is "
                     f"{connection.security_protocol}: set PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or "
                     "OAUTHBEARER")  # fmt: skip
        return
    needed = ("sasl_password", "sasl_password_file")
    if mechanism == "OAUTHBEARER":
        needed = ("oauth_token_command", "oauth_token_file")
    elif not connection.sasl_username:
        problems.add("sasl_username", f"it is missing, and sasl_mechanism is {mechanism}")
    chosen = [name for name in needed if getattr(connection, name) is not None]
    if len(chosen) != 1:
        what = "set one of them, not both" if chosen else f"sasl_mechanism is {mechanism}: set one"
        problems.add(f"{needed[0]} or {needed[1]}", what)
    elif chosen[0].endswith("_file"):
        _check_file(chosen[0], getattr(connection, chosen[0]), problems)
    elif chosen[0] == "oauth_token_command":
        try:
            shlex.split(connection.oauth_token_command or "")
        except ValueError as error:
            problems.add(chosen[0], f"{error}")


def _check_file(name: str, file: str, problems: _Problems) -> None:
    if not os.path.isfile(file):  # noqa: PTH113 - it comes as text and goes as text
        problems.add(name, f"{file} is not a file")
    elif not os.access(file, os.R_OK):
        problems.add(name, f"{file} may not be read by this user")
