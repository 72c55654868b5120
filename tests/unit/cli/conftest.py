"""Runs the command line within the test's process."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from streams.cli import main
from streams.cli.interrupt import SIGNALS


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: str


Shipclock = Callable[..., Finished]


@pytest.fixture
def shipclock(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Shipclock:
    """Run `shipclock` with arguments and standard input."""

    def run(*arguments: str, stdin: bytes = b"") -> Finished:
        monkeypatch.setattr(sys, "argv", ["shipclock", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = 0
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capsysbinary.readouterr()
        return Finished(code, out, err.decode())

    return run
