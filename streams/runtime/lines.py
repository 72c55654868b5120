"""Lines of a file or pipe as they come, without holding more than a chunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BufferedIOBase, UnsupportedOperation

from streams.core.text import without_mark

# Some thousand events: enough for a transaction to be cheap, few enough to hold.
_CHUNK_BYTES = 1024 * 1024
# Twice the largest event a topic takes: an endless line must not fill the memory.
_LINE_BYTES_MAX = 16 * 1024 * 1024


class LineTooLongError(ValueError):
    """A line is longer than any event may be."""


async def line_batches(stream: BufferedIOBase) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Read the lines that have come, with their numbers from 1; empty ones are left out.

    A batch ends where the source pauses, so what comes slowly is passed on at once.

    Raises:
        LineTooLongError: A line is longer than any event may be.
        NotUtf8Error: A byte order mark says that the text is in another encoding.
    """
    rest, number = b"", 0
    while True:
        await _readable(stream)
        chunk = stream.read1(_CHUNK_BYTES)
        *lines, rest = (rest + chunk).split(b"\n")
        if not chunk and rest:
            lines, rest = [rest], b""
        if len(rest) > _LINE_BYTES_MAX:
            number += len(lines) + 1
            raise LineTooLongError(f"line {number} is longer than any event may be")
        if lines and number == 0:
            lines[0] = without_mark(lines[0])
        batch = [(at, line) for at, line in enumerate(lines, number + 1) if line.strip()]
        number += len(lines)
        if batch:
            yield batch
        if not chunk:
            return


async def _readable(stream: BufferedIOBase) -> None:
    """Wait until reading does not block, so that Ctrl-C is heard; files never block."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        descriptor = stream.fileno()
        loop.add_reader(descriptor, ready.set)
    except (PermissionError, UnsupportedOperation):
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
