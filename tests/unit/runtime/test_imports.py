"""What the processes of `shipclock worker` hold for as long as they run."""

import subprocess
import sys


def brought(*modules: str) -> set[str]:
    """Return the third-party packages that importing modules brings into a fresh interpreter."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"import {', '.join(modules)}\n"
        "print(*{name.partition('.')[0] for name in sys.modules.keys() - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split()) - sys.stdlib_module_names - {"streams"}


def test_a_supervisor_brings_nothing_but_the_standard_library() -> None:
    """It only waits: what its workers need would be there once more."""
    assert brought("streams.cli.worker_process", "streams.runtime.supervise") == set()


def test_a_worker_brings_nothing_of_no_use() -> None:
    """It is left with nothing of the command line, and with neither web, YAML nor cron."""
    found = brought("streams.cli.worker_process", "streams.runtime.app")
    assert {"aiokafka", "faust"} <= found
    assert not found & {
        "aiohttp", "attr", "croniter", "dateutil", "prometheus_client", "pydantic", "pytz", "rich",
        "typer", "yaml",
    }  # fmt: skip
