"""Fetch Apache Kafka's jars from Maven Central once, and keep them in the user's cache."""

import shutil
import tempfile
import zipfile
from pathlib import Path

from streams.broker.errors import BrokerError
from streams.broker.folders import home_folder
from streams.broker.progress import Progress, ProgressListener

KAFKA_VERSION = "4.2.0"
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
)
MANIFEST = "MANIFEST"


def kafka_jars(listen: ProgressListener) -> list[Path]:
    """Return the jars of the broker, fetching them if the cache has not all of them."""
    cache = home_folder("XDG_CACHE_HOME", ".cache", "use a running Kafka with --bootstrap")
    folder = cache / f"kafka-{KAFKA_VERSION}"
    jars = _cached(folder)
    if jars is None:
        shutil.rmtree(folder, ignore_errors=True)
        _fetch(folder, listen)
        jars = _cached(folder)
    if jars is None:
        raise BrokerError(
            f"the jars in {folder} are incomplete", hint="move that folder away and try again"
        )
    return jars


def _cached(folder: Path) -> list[Path] | None:
    """Read the manifest; None unless every jar it names is there in its full size."""
    try:
        lines = (folder / MANIFEST).read_text().splitlines()
        entries = [(folder / name, int(size)) for size, name in (line.split() for line in lines)]
        whole = all(jar.stat().st_size == size for jar, size in entries)
    except (OSError, ValueError):
        return None
    return [jar for jar, _ in entries] if whole else None


def _fetch(folder: Path, listen: ProgressListener) -> None:
    """Fetch into a folder beside the final one and rename it: the cache is whole or absent."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise BrokerError(
            f"cannot write to the cache {folder.parent}: {error.strerror}",
            hint="set XDG_CACHE_HOME to a folder you may write to",
        ) from error
    try:
        _download(staging, listen)
        try:
            staging.rename(folder)
        except OSError:
            # Another process finished the same download first; its result is as good as ours.
            if _cached(folder) is None:
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(folder: Path, listen: ProgressListener) -> None:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise BrokerError(
            f"the embedded broker must first fetch Apache Kafka {KAFKA_VERSION}, "
            "and the resolver for that (jgo) is not installed",
            hint="pip install 'shipclock[local]'",
        ) from error

    listen(Progress(f"Resolving Apache Kafka {KAFKA_VERSION}", 0, 0))
    repository = folder / "repository"
    context = MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=30)
    sizes: list[tuple[int, str]] = []
    try:
        wanted = [context.create_dependency(coordinate) for coordinate in COORDINATES]
        given, transitive = context.resolver.resolve(wanted)
        needed = given + [found for found in transitive if found.scope in ("compile", "runtime")]
        for done, dependency in enumerate(needed):
            listen(Progress(f"Downloading {dependency.artifact.filename}", done, len(needed)))
            jar = folder / dependency.artifact.filename
            dependency.artifact.resolve().rename(jar)
            _check(jar)
            sizes.append((jar.stat().st_size, jar.name))
    except Exception as error:
        # jgo has no exception of its own: whatever stops it (network, disk, a bad answer) means
        # that the download failed, and nothing of it is kept.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BrokerError(
            f"could not download Apache Kafka {KAFKA_VERSION}: {reason[:300]}",
            hint="check the network connection (HTTPS_PROXY is honoured) and try again, "
            "or use a running Kafka with --bootstrap",
        ) from error
    shutil.rmtree(repository)
    (folder / MANIFEST).write_text("".join(f"{size} {name}\n" for size, name in sizes))


def _check(jar: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{jar.name} is damaged at {damaged}")
