"""Tokens for OAUTHBEARER, from a file or a command, as fresh as a new connection needs them."""

from __future__ import annotations

import asyncio
import shlex
import time
from pathlib import Path

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError

_COMMAND_TIMEOUT_S = 10.0
# A worker opens some dozens of connections at its start: they share what a command printed.
_SHARED_S = 5.0

_printed: dict[str, tuple[float, str]] = {}


class TokenError(KafkaError):  # type: ignore[misc]
    """There is no token: why."""


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Gives a token to each connection that logs in; a broker ends it when the token expires."""

    def __init__(self, file: str | None, command: str | None) -> None:
        self._file = file
        self._command = command

    async def token(self) -> str:
        """Return a token.

        Raises:
            TokenError: The file or the command gives none.
        """
        if self._file is not None:
            try:
                return _checked(Path(self._file).read_text(), self._file)  # noqa: ASYNC240
            except (OSError, UnicodeDecodeError) as error:
                raise TokenError(f"oauth_token_file: {error}") from None
        command = self._command or ""
        printed_s, token = _printed.get(command, (0.0, ""))
        if not token or time.monotonic() - printed_s > _SHARED_S:
            token = await _run(command)
            _printed[command] = time.monotonic(), token
        return token


async def _run(command: str) -> str:
    try:
        program, *arguments = shlex.split(command) or [""]
    except ValueError as error:
        raise TokenError(f"oauth_token_command: {error}") from None
    try:
        process = await asyncio.create_subprocess_exec(
            program, *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise TokenError(f"oauth_token_command: {program}: {error.strerror}") from None
    try:
        async with asyncio.timeout(_COMMAND_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise TokenError(
            f"oauth_token_command: {program} has not ended after {_COMMAND_TIMEOUT_S:.0f} s"
        ) from None
    finally:
        # Also when whoever wanted the token gives up.
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise TokenError(f"oauth_token_command: {program} ended with {process.returncode}")
    return _checked(output.decode(errors="replace"), program)


def _checked(text: str, source: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise TokenError(f"{source} gives no token: one line of printable ASCII")
    return token
