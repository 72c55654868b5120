"""The repository's own rules: functions from text to complaints, so that tests see each fail."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "streams"
PACKAGE_LINES_MAX = 500

# Folders that are no part of the project: builds, and what is hidden (environments, caches).
SKIPPED = {"__pycache__", "build", "dist", "target"}
HIDDEN = {".ci"}
# Ids, clocks and hash order differ between two runs of the same log.
IMPURE_CALLS = {"float", "hash", "id", "input", "open", "print"}
IMPURE_METHODS = {"now", "today", "utcnow"}

MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:home|root|work|Users)/\w")
LEFTOVER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK|NotImplementedError)\b")


def files(under: Path = ROOT) -> Iterator[Path]:
    """Walk the project's own files."""
    for path in sorted(under.iterdir()):
        if not path.is_dir():
            yield path
        elif path.name not in SKIPPED and (path.name[0] != "." or path.name in HIDDEN):
            yield from files(path)


def text_of(path: Path) -> str:
    """Read a file's text; a binary file has none."""
    data = path.read_bytes()
    return "" if b"\0" in data else data.decode()


def core_purity(source: str) -> list[str]:
    """Find what makes two runs over the same facts differ, or a check vanish under `python -O`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=float()):
                found.append((node.lineno, "a float literal: money, points and time are integers"))
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                found.append((node.lineno, "true division makes a float: use //"))
            case ast.Assert():
                found.append((node.lineno, "assert vanishes under -O: raise InvariantViolation"))
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
                found.append((node.lineno, f"{name}() has no place in the core"))
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_METHODS:
                found.append((node.lineno, f".{name}() reads the wall clock"))
            case ast.For(iter=walked) | ast.comprehension(iter=walked) if _makes_set(walked):
                found.append((walked.lineno, "a set has no order: sort it before walking it"))
    return [f"line {line}: {what}" for line, what in sorted(found)]


def _makes_set(node: ast.expr) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.BitXor() | ast.Sub(), left=a, right=b):
            return _makes_set(a) or _makes_set(b)
    return False


def machine_paths(text: str) -> list[str]:
    """Find absolute paths of somebody's machine."""
    return [match.group() for match in MACHINE_PATH.finditer(text)]


def leftovers(text: str) -> list[str]:
    """Find marks of unfinished work."""
    return LEFTOVER.findall(text)


def has_header(source: str) -> bool:
    """Tell whether a core module opens with what lives in it, in more than a line."""
    return len((ast.get_docstring(ast.parse(source)) or "").splitlines()) > 1


def third_parties(source: str) -> set[str]:
    """Name the top-level packages a module imports from outside the standard library and us."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names - set(sys.stdlib_module_names) - {"streams"}


# A verb as an order, and what nobody may be told to do it to; adjectives and reports are neither.
_DELETION = re.compile(
    r"\b(?:(?:delete|wipe|purge|truncate|remove|drop|recreate)\b|(?:and|or|to|with) empty\b"
    r"|emptied\b)[^.;:\n]{0,40}?\b(?:topics?|changelogs?|journals?|facts?|states?"
    r"|consumer groups?)\b",
    re.IGNORECASE,
)


def deletion_advice(text: str) -> list[str]:
    """Find advice to delete facts, journals, changelogs or state in a message or a document."""
    return [" ".join(match.group().split()) for match in _DELETION.finditer(text)]


def messages(source: str) -> list[str]:
    """Return the texts a module may show: its strings, but docstrings and bare words."""
    tree = ast.parse(source)
    notes = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            found.append(" ".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and id(node) not in notes and " " in str(node.value):
            found.append(str(node.value))
    return found


def made_clients(source: str) -> list[str]:
    """Find calls that make a client of aiokafka's."""
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = (
        func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls
    )
    return [name for name in names if name.startswith("AIOKafka")]


def pins(lock: str) -> dict[str, str]:
    """Read the name and version of every pinned requirement of a lock."""
    return {
        name.lower().replace("_", "-"): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)
    }


def required_names(requirements: list[str]) -> set[str]:
    """Strip requirements such as `aiokafka[zstd]>=0.14` to their distribution names."""
    return {
        re.match(r"[\w.-]+", each).group().lower().replace("_", "-")  # type: ignore[union-attr]
        for each in requirements
    }
