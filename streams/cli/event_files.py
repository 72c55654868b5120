"""How commands read files of events: `-` is standard input, a byte order mark is taken off."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from streams.core.errors import UserError
from streams.core.text import NotUtf8Error, without_mark

if TYPE_CHECKING:
    from io import BufferedIOBase

_HINT = "give a file of JSON lines, or - for standard input"


@contextmanager
def event_lines(path: Path) -> Iterator[BinaryIO]:
    """Open a file of event lines, to be read within the block.

    Raises:
        UserError: It cannot be read, or one of its lines is not an event line.
    """
    from streams.engine.event_file import BadLine

    try:
        if str(path) == "-":
            yield sys.stdin.buffer
        else:
            with path.open("rb") as file:
                yield file
    except OSError as error:
        raise _unreadable(path, error) from None
    except BadLine as error:
        raise UserError(f"{path}: {error}", error.hint, exit_code=2) from None


async def line_batches_of(path: Path) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Read the lines of a file as they come, with their numbers from 1.

    Raises:
        UserError: It cannot be read, or a line is longer than any event.
    """
    from streams.runtime.lines import LineTooLongError, line_batches

    try:
        stdin = nullcontext(cast("BufferedIOBase", sys.stdin.buffer))
        with stdin if str(path) == "-" else path.open("rb") as stream:
            async for lines in line_batches(stream):
                yield lines
    except OSError as error:
        raise _unreadable(path, error) from None
    except (LineTooLongError, NotUtf8Error) as error:
        raise UserError(f"{path}: {error}", "give one event a line", exit_code=2) from None


def whole_event(path: Path) -> bytes:
    """Read a file that holds one event.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return without_mark(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from None
    except NotUtf8Error as error:
        raise UserError(f"{path}: {error}", _HINT, exit_code=2) from None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: {error.strerror}", _HINT, exit_code=2)
