"""The broker's configuration: `server.properties`, the identity of its data, the Java options."""

from collections.abc import Mapping
from pathlib import Path

from streams.broker.errors import BrokerError
from streams.broker.lock import LOCK_FILE

HOST = "127.0.0.1"
NODE_ID = 1
LOG_DIR = "kafka"
PROPERTIES_FILE = "server.properties"
# 16 bytes ("shipclock-local-") in Kafka's base64. A fixed id tells our data from another cluster's.
CLUSTER_ID = "c2hpcGNsb2NrLWxvY2FsLQ"

# File names are UTF-8 for Java only under such a locale.
JAVA_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
JAVA_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # A broker that lives for minutes on few cores spends more on the second compiler than it wins.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)

# For a tool that ends within two seconds the optimizing compiler is wasted.
JAVA_OPTIONS_SHORT_LIVED = ("-XX:TieredStopAtLevel=1",)

SERVER_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": NODE_ID,
    # Kafka runs in the data folder: an absolute path could hold what this format cannot say.
    "log.dirs": LOG_DIR,
    "controller.listener.names": "CONTROLLER",
    # A topic that nobody created is a mistake, not a wish.
    "auto.create.topics.enable": "false",
    # One node: everything has one replica.
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    # Workers that start together share the partitions at once, instead of one taking all first;
    # a dead one may be declared so sooner than Kafka's 6 s.
    "group.initial.rebalance.delay.ms": 300,
    "group.min.session.timeout.ms": 1_000,
    "transaction.max.timeout.ms": 900_000,
    # Retention goes by the records' own time, which lies in the past or the future when events
    # are imported or played faster than they happened: nothing may expire or be refused for it.
    "log.retention.ms": -1,
    "log.message.timestamp.after.max.ms": 2**63 - 1,
    "offsets.retention.minutes": 60 * 24 * 365,
    # After a kill the controller waits for the old session to end before the broker may return.
    "broker.heartbeat.interval.ms": 500,
    "broker.session.timeout.ms": 3_000,
    # Small and quiet: few threads, a small cleaner buffer, no metadata record every 500 ms.
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "num.recovery.threads.per.data.dir": 2,
    "group.coordinator.threads": 1,
    "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
    "metadata.max.idle.interval.ms": 0,
    "auto.leader.rebalance.enable": "false",
}


_LISTENERS = ("listeners", "advertised.listeners")


def write_server_properties(
    data_dir: Path, port: int, controller_port: int, more: Mapping[str, str]
) -> None:
    """Write the broker's configuration for this start.

    Args:
        more: Further properties; listeners among them stand beside the usual ones.
    """
    properties = SERVER_PROPERTIES | {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"{NODE_ID}@{HOST}:{controller_port}",
    }
    for key, value in more.items():
        properties[key] = f"{properties[key]},{value}" if key in _LISTENERS else value
    lines = [f"{key}={value}\n" for key, value in properties.items()]
    (data_dir / PROPERTIES_FILE).write_text("".join(lines))


def refuse_foreign(data_dir: Path) -> None:
    """Refuse a folder that holds something and was never a broker's of ours; write nothing."""
    marked = formatted(data_dir) or (data_dir / LOCK_FILE).exists()
    if not marked and any(data_dir.iterdir()):
        raise BrokerError(
            f"{data_dir} is not empty, and what it holds is not a broker's",
            hint="choose a new or an empty data folder",
        )


def formatted(data_dir: Path) -> bool:
    """Tell whether Kafka's files are there to be reused; refuse what is damaged or not ours."""
    meta = data_dir / LOG_DIR / "meta.properties"
    if (data_dir / meta.name).exists():
        raise BrokerError(
            f"{data_dir} holds the data of another Kafka",
            hint="choose another data folder",
        )
    if not meta.exists():
        if any((data_dir / LOG_DIR).glob("*-[0-9]*/")):
            raise _damaged(meta, "is missing")
        return False
    try:
        lines = meta.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise _damaged(meta, "cannot be read") from None
    values = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    if not {"cluster.id", "node.id", "version"} <= values.keys():
        raise _damaged(meta, "is damaged")
    if (values["cluster.id"], values["node.id"]) != (CLUSTER_ID, str(NODE_ID)):
        raise BrokerError(
            f"{data_dir} belongs to another Kafka cluster (cluster.id {values['cluster.id']}, "
            f"node.id {values['node.id']})",
            hint="choose another data folder",
        )
    return True


def _damaged(meta: Path, problem: str) -> BrokerError:
    return BrokerError(
        f"{meta} {problem}: the broker's data cannot be used",
        hint="choose another data folder, or bring this one back from a copy",
    )
