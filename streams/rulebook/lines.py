"""Where a key of a TOML file stands: from a key path to a line.

What lives here: a scan of headers and keys, which `tomllib` does not report. What must not: what
the keys mean.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[{1,2})\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def lines_of(text: str) -> dict[Path, int]:
    """Map each key path that a text spells out to its line, arrays of tables by their index.

    What stands within a value, such as an inline table, has the line of its key.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None:
            table = _resolved(_parts(header[2]), counts)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            found.setdefault(table, number)
        elif key is not None:
            found.setdefault((*table, *_parts(key[1])), number)
    return found


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """Return the line of a path, or of the nearest that is spelled out around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def path_text(path: Path) -> str:
    """Write a path as people do: `account[2].caps.per_day`, the first of an array being 1."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _parts(text: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(text))


def _resolved(path: Path, counts: dict[Path, int]) -> Path:
    """Put the index of the last table of an array behind each part that is one."""
    found: Path = ()
    for place, part in enumerate(path):
        found = (*found, part)
        if found in counts and place < len(path) - 1:
            found = (*found, counts[found])
    return found
