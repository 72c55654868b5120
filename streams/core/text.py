"""Text from files, which editors and shells write with or without a byte order mark.

Here, because rules and events are read in different rooms, and take the same files.
"""

from __future__ import annotations

import codecs

from streams.core.errors import UserError

_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def without_mark(start: bytes, name: str) -> bytes:
    """Take the byte order mark from the start of a file's content.

    Args:
        name: The file, for the message.

    Raises:
        UserError: The mark is that of UTF-16, which nothing here reads.
    """
    if start.startswith(_OTHER_MARKS):
        raise UserError(
            f"{name}: the byte order mark at its start says UTF-16", "save it as UTF-8", 2
        )
    return start.removeprefix(codecs.BOM_UTF8)
