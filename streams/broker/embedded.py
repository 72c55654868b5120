"""Start, stop and kill a one-node Kafka as a child process."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from streams.broker import lock, supervisor
from streams.broker.config import (
    CLUSTER_ID,
    HOST,
    JAVA_ENVIRONMENT,
    JAVA_OPTIONS,
    JAVA_OPTIONS_SHORT_LIVED,
    PROPERTIES_FILE,
    formatted,
    refuse_foreign,
    write_server_properties,
)
from streams.broker.errors import BrokerError
from streams.broker.jars import KAFKA_VERSION, kafka_jars
from streams.broker.java import find_java
from streams.broker.probe import serves_metadata
from streams.broker.progress import Progress, ProgressListener, ignore_progress

START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = supervisor.GRACE_SECONDS + 10.0
FREE_PORT_TRIES = 3
LOG_FILE = "broker.log"


class BrokerStatus(NamedTuple):
    """A running broker: its supervising process, its address, and whether it serves clients."""

    pid: int
    bootstrap: str
    ready: bool


class EmbeddedBroker:
    """A real Apache Kafka 4.2 (KRaft, one node) that lives no longer than this process.

    The data stays in `data_dir` and is used again by the next start on it, also after a kill.
    Without a `port` a free one is chosen at the first start and kept for later starts.

    Args:
        properties: More of the broker's configuration, such as further listeners.
        users: SCRAM users and their passwords, made with the data folder.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        properties: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self._properties = properties or {}
        self._users = users or {}
        self.data_dir = Path(data_dir).absolute()
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """Return the address for clients, `127.0.0.1:port`; known from the first start on."""
        if self._port is None:
            raise RuntimeError("the broker has no port before its first start")
        return f"{HOST}:{self._port}"

    @property
    def log_path(self) -> Path:
        """Return the file with the broker's own log of this start (the last one has `.1`)."""
        return self.data_dir / LOG_FILE

    @property
    def running(self) -> bool:
        """Tell whether the broker's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(
        self, on_progress: ProgressListener = ignore_progress, detached: bool = False
    ) -> None:
        """Start the broker and return when clients are served; raise BrokerError if it fails.

        The first start of all fetches Kafka; `on_progress` hears of it. A detached broker outlives
        this process; `stop_broker` ends it.
        """
        if self.running:
            raise RuntimeError("the broker runs already")
        # A broker on this data folder is named by what locks it, its port being taken too.
        if self._port is not None and lock.holder(self.data_dir) is None:
            _require_free(self._port)
        descriptor = self._lock_data_dir()
        try:
            kept = formatted(self.data_dir)
            java = find_java()
            jars = kafka_jars(on_progress)
            command = [str(java), *JAVA_OPTIONS, "-cp", os.pathsep.join(map(str, jars))]
            if not kept:
                on_progress(Progress("Preparing the data folder", 0, 0))
                self._format(command)
            on_progress(Progress(f"Starting Apache Kafka {KAFKA_VERSION}", 0, 0))
            self._run(command, descriptor, detached)
        finally:
            os.close(descriptor)

    def stop(self) -> None:
        """End the broker gracefully and wait until its process is gone."""
        self._order(b"T")

    def kill(self) -> None:
        """Kill the broker at once, as a power cut would, and wait until its process is gone."""
        self._order(b"K")

    def wait(self) -> int:
        """Wait until the broker's process ends; return 0 if somebody stopped it."""
        return self._process.wait() if self._process is not None else 0

    def _order(self, order: bytes) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            try:
                with process.stdin as pipe:
                    pipe.write(order)
            except BrokenPipeError:
                pass
        else:
            process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def _lock_data_dir(self) -> int:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            refuse_foreign(self.data_dir)
            descriptor = lock.acquire(self.data_dir)
        except OSError as error:
            raise BrokerError(
                f"cannot use {self.data_dir} as the data folder: {error.strerror}",
                hint="choose another data folder",
            ) from error
        if descriptor is None:
            other = lock.holder(self.data_dir)
            who = f" (pid {other.pid}, {other.bootstrap})" if other and other.pid else ""
            raise BrokerError(
                f"another broker{who} already uses {self.data_dir}",
                hint="use that one, end it with `shipclock broker stop`, "
                "or choose another data folder",
            )
        return descriptor

    def _format(self, command: list[str]) -> None:
        # The ports mean nothing to the formatting tool; each start writes its own.
        write_server_properties(self.data_dir, 1, 2, self._properties)
        arguments = ["format", "-t", CLUSTER_ID, "-c", PROPERTIES_FILE]
        for name, password in self._users.items():
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        with self.log_path.open("wb") as log:
            code = subprocess.run(
                [*command, *JAVA_OPTIONS_SHORT_LIVED, "kafka.tools.StorageTool", *arguments],
                cwd=self.data_dir,
                env=os.environ | JAVA_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code != 0:
            raise self._failed("Kafka could not prepare its data folder")

    def _run(self, command: list[str], descriptor: int, detached: bool) -> None:
        for tries_left in reversed(range(1 if self._port else FREE_PORT_TRIES)):
            port = self._port or _free_port()
            self._launch(command, port, descriptor, detached)
            try:
                failure = self._wait_until_ready(port)
            except BaseException:
                self.kill()
                raise
            if failure is None:
                self._port = port
                return
            self.kill()
            # Between the choice of a free port and its use, another program may have taken it.
            if not tries_left or "Address already in use" not in self._log_text():
                raise self._failed(failure)

    def _launch(self, command: list[str], port: int, descriptor: int, detached: bool) -> None:
        write_server_properties(self.data_dir, port, _free_port(), self._properties)
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", supervisor.__file__),
                    *(str(descriptor), f"{HOST}:{port}", "detached" if detached else "watched"),
                    *(*command, "kafka.Kafka", PROPERTIES_FILE),
                ],
                cwd=self.data_dir,
                env=os.environ | JAVA_ENVIRONMENT,
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(descriptor,),
                # Ctrl-C in a terminal goes to the whole group; the order to end comes from us.
                start_new_session=True,
            )

    def _wait_until_ready(self, port: int) -> str | None:
        """Return what went wrong, None if clients are served."""
        give_up = time.monotonic() + START_SECONDS_MAX
        while not serves_metadata(HOST, port):
            if not self.running:
                return "Kafka ended while starting"
            if time.monotonic() > give_up:
                return f"Kafka was not ready after {START_SECONDS_MAX:.0f} s"
            time.sleep(0.05)
        return None

    def _log_text(self) -> str:
        return self.log_path.read_text(errors="replace")

    def _failed(self, what: str) -> BrokerError:
        """Quote the lines of the log that tell a person why."""
        lines = [line for line in self._log_text().splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(("\t", "    "))]
        telling = [line for line in lines if "ERROR" in line or "Exception" in line]
        quoted = "".join(f"\n  {line[:300]}" for line in (telling or lines)[-5:])
        return BrokerError(f"{what}; its log says:{quoted}", hint=f"the whole log: {self.log_path}")


def broker_status(data_dir: Path) -> BrokerStatus | None:
    """Return the broker that runs on this data folder, None if there is none."""
    holder = lock.holder(data_dir)
    if holder is None:
        return None
    host, _, port = holder.bootstrap.partition(":")
    return BrokerStatus(*holder, ready=bool(port) and serves_metadata(host, int(port)))


def stop_broker(data_dir: Path) -> BrokerStatus | None:
    """Stop the broker on this data folder, wait for its end and return it; None if none runs."""
    status = broker_status(data_dir)
    if status is None:
        return None
    if status.pid == 0:
        raise BrokerError(
            f"the broker on {data_dir} is still starting", hint="try again in a moment"
        )
    try:
        os.kill(status.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise BrokerError(
            f"the broker on {data_dir} (pid {status.pid}) belongs to another user"
        ) from None
    give_up = time.monotonic() + STOP_SECONDS_MAX
    while lock.holder(data_dir) is not None:
        if time.monotonic() > give_up:
            raise BrokerError(
                f"the broker on {data_dir} (pid {status.pid}) did not end",
                hint=f"end it with: kill -9 {status.pid}",
            )
        time.sleep(0.1)
    return status


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _require_free(port: int) -> None:
    try:
        with socket.socket() as probe:
            # As Kafka does: a port whose last connections linger in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BrokerError(
                f"port {port} on {HOST} is taken by another program",
                hint="choose another port; if a Kafka runs there already, use it with "
                f"--bootstrap {HOST}:{port}",
            ) from None
        raise BrokerError(f"cannot use port {port} on {HOST}: {error.strerror}") from None
