"""Text from files, which editors and shells write with or without a byte order mark.

Here, because rules and events are read in different rooms, and all take the same files.
"""

from __future__ import annotations

import codecs

_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotUtf8Error(ValueError):
    """A file's byte order mark says that it is in another encoding."""


def without_mark(start: bytes) -> bytes:
    """Take the byte order mark from the start of a file's content.

    Raises:
        NotUtf8Error: The mark is that of UTF-16, which nothing here reads.
    """
    if start.startswith(_OTHER_MARKS):
        raise NotUtf8Error("the byte order mark at its start says UTF-16; save it as UTF-8")
    return start.removeprefix(codecs.BOM_UTF8)
