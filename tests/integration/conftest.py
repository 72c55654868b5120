"""What the integration tests share: one real broker for each process, and logs of what fails."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker

_LOG_CHARS = 20_000


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the embedded broker once and hand out its bootstrap address."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running.bootstrap


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the workers of a failed test have said."""
    report = yield
    folder = item.funcargs.get("tmp_path")
    if report.failed and isinstance(folder, Path):
        report.sections += [
            (path.name, path.read_text(errors="replace")[-_LOG_CHARS:])
            for path in sorted(folder.glob("*.log"))
            if path.is_file()
        ]
    return report
