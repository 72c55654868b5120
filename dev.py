#!/usr/bin/env python3
"""The front door of a checkout: makes .venv once, then runs what you ask for.

python3 dev.py demo   [options]        a real Kafka and a surge of orders, to watch
python3 dev.py test   [pytest options] the checks, then every test
python3 dev.py check                   format, lint, types, architecture: no network, no broker
python3 dev.py run    COMMAND ...      anything installed in .venv, such as `shipclock --help`

It needs Python 3.11 or newer with pip, and installs nothing outside .venv.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
PYTHON = BIN / "python"
LOCK = ROOT / "requirements.lock"
COMPILED = ("streams.engine.native", "streams.runtime.native")
STAMP = VENV / "installed.sha256"

CHECKS = ("ruff format --check", "ruff check", "mypy", "lint-imports --no-logo")
# Two processes, each with a broker of its own: what waits for a broker leaves a core to the other.
# Whoever is done first takes over tests from the other.
PYTEST = ("pytest", "--numprocesses=2", "--dist=worksteal")


def say(text: str) -> None:
    """Tell the person what happens, beside whatever the command prints."""
    print(text, file=sys.stderr, flush=True)


def fail(message: str, hint: str, code: int = 1) -> NoReturn:
    """End with one clear line and what to do about it."""
    say(f"error: {message}\nhint: {hint}")
    raise SystemExit(code)


def works(*command: str | Path) -> bool:
    """Run a command for its exit code alone."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_environment() -> None:
    """Create .venv unless one with a living interpreter and pip is there."""
    if works(PYTHON, "-m", "pip", "--version"):
        return
    say("shipclock: making .venv")
    if works(sys.executable, "-m", "venv", "--clear", VENV):
        return
    # Debian packs ensurepip apart; the pip beside this interpreter can then put one into .venv.
    bare = works(sys.executable, "-m", "venv", "--clear", "--without-pip", VENV)
    pip = (sys.executable, "-m", "pip", "--python", PYTHON)
    if not (bare and works(*pip, "install", "pip")):
        fail(
            f"{sys.executable} cannot make a virtual environment with pip in {VENV}",
            "on Debian and Ubuntu: apt install python3-venv; or use another Python 3.11+",
        )


def pip_install(what: str, total: int, *args: str) -> None:
    """Run pip install, showing one line of progress instead of its hundreds."""
    seen, log, live = 0, [], sys.stderr.isatty()
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    command += args
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in pip.stdout or ():
        log.append(line)
        seen += line.startswith(("Collecting ", "Requirement already satisfied"))
        if live:
            sys.stderr.write(f"\r\033[K  {what}: {seen} of {total}")
    if live:
        sys.stderr.write("\r\033[K")
    if pip.wait():
        say("".join(log[-15:]))
        fail(f"pip could not install the {what}", "is a package index reachable? then run it again")


def install() -> None:
    """Bring .venv to what the lock and pyproject.toml say, unless it is there already."""
    # All that decides what .venv must hold, its own place and a compiler included.
    compiled = (ROOT / f"{name.replace('.', '/')}.pyx" for name in COMPILED)
    sources = (
        LOCK,
        ROOT / "pyproject.toml",
        ROOT / "hatch_build.py",
        *compiled,
        ROOT / "streams/__main__.py",
    )
    place = f"{ROOT} {shutil.which('cc')}"
    parts = (*(source.read_bytes() for source in sources), place.encode())
    wanted = hashlib.sha256(b"\0".join(parts)).hexdigest()
    if PYTHON.exists() and STAMP.is_file() and STAMP.read_text() == wanted:
        return
    make_environment()
    STAMP.unlink(missing_ok=True)
    total = LOCK.read_text().count("==")
    say(f"shipclock: installing {total} pinned packages into .venv (once, a minute or two)")
    pip_install("packages", total, "--no-deps", "--require-hashes", "-r", str(LOCK))
    pip_install("shipclock itself", 1, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    if not works(PYTHON, "-c", f"import {', '.join(COMPILED)}"):
        say(f"shipclock: {' and '.join(COMPILED)} are not compiled: all works, a third slower")
        say(f"hint: it needs a C compiler and Python.h; to try again, remove {STAMP} first")
    say("shipclock: compiling their bytecode")
    # On all cores, unlike pip; and where Python may write no bytecode, each process would compile
    # what it imports: a second of CPU and 4 MB of every worker.
    works(PYTHON, "-m", "compileall", "-qq", "-j", "0", VENV / "lib")
    STAMP.write_text(wanted)


def check() -> None:
    """Run every check, so that one run shows all that is wrong."""
    failed = []
    for line in CHECKS:
        say(f"── {line}")
        tool, *options = line.split()
        if subprocess.run([BIN / tool, *options], cwd=ROOT, check=False).returncode:
            failed.append(line)
    if failed:
        hint = "python3 dev.py run ruff format; python3 dev.py run ruff check --fix"
        fail(f"failed: {', '.join(failed)}", hint)


def execute(*command: str) -> NoReturn:
    """Become a command of .venv, so that signals and the exit code are its own."""
    found = shutil.which(command[0], path=str(BIN))
    if found is None:
        fail(f"no command {command[0]!r} in .venv", "python3 dev.py run shipclock --help", 2)
    os.execv(found, [found, *command[1:]])


def main(verb: str = "--help", *args: str) -> None:
    """Dispatch on the first word of the command line."""
    if verb in ("help", "-h", "--help"):
        print(__doc__)
        return
    if verb not in ("demo", "test", "check", "run") or (verb == "run" and not args):
        fail(f"unknown or incomplete command: {verb}", "python3 dev.py --help", 2)
    install()
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    if verb == "demo":
        execute("shipclock", "demo", *args)
    if verb == "run":
        execute(*args)
    os.chdir(ROOT)
    check()
    if verb == "test":
        execute(*PYTEST, *args)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python must hear this, not a traceback
        fail(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}",
            "call a newer one by name, such as: python3.11 dev.py demo",
        )
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        fail("interrupted", "run it again to go on", 130)
