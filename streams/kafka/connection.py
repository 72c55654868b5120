"""How to reach a Kafka cluster, and the only place that makes clients of it."""

from __future__ import annotations

import functools
import ssl
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streams.core.errors import UserError

if TYPE_CHECKING:
    # When a client is made, and not before: a command that only checks its usage needs none.
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.conn import AIOKafkaConnection

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
INFLATED_BYTES_MAX = 64 * 1024 * 1024

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


class ConnectionSettingError(UserError):
    """A file that a connection names cannot be used."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster's address and what it asks of a client.

    What depends on the use of a client (its group, its timeouts, what it may read) is given by the
    caller, by aiokafka's names.
    """

    bootstrap: str = DEFAULT_BOOTSTRAP
    """Addresses HOST:PORT of some brokers, separated by commas; in a file also a list."""
    _: KW_ONLY
    security_protocol: Protocol = "PLAINTEXT"
    """How the brokers' listener lets clients in: encrypted (SSL), with a login (SASL), both, or
    neither."""
    ssl_ca_file: str | None = None
    """PEM file of the authorities that sign the brokers' certificates; not set: the system's."""
    ssl_certificate_file: str | None = None
    """PEM file of the client's own certificate, with those between it and its authority."""
    ssl_key_file: str | None = None
    """PEM file of the certificate's key; not set: it stands in the certificate's file."""
    ssl_key_password: str | None = field(default=None, repr=False)
    """The password of an encrypted key."""
    ssl_key_password_file: str | None = None
    """A file with that password, instead."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must name the host that was asked for."""
    sasl_mechanism: Mechanism | None = None
    """How to log in."""
    sasl_username: str | None = None
    """The user name, for PLAIN and SCRAM."""
    sasl_password: str | None = field(default=None, repr=False)
    """The user's password."""
    sasl_password_file: str | None = None
    """A file with that password, instead; read again for each new client."""
    oauth_token_file: str | None = None
    """A file with the token, for OAUTHBEARER; read again for each new connection."""
    oauth_token_command: str | None = field(default=None, repr=False)
    """A command that prints the token, instead; run again for new connections. It may hold a
    secret, so it is shown nowhere."""
    client_rack: str | None = None
    """The rack or zone of this machine: consumers then read from the replica nearest to it."""
    topic_prefix: str = ""
    """What the names of all topics begin with on this cluster: inputs, outputs, internal ones."""
    inflated_bytes_max: int = INFLATED_BYTES_MAX
    """What one compressed batch may inflate to, and about what a stage inflates in one go: some
    dozen times the largest batch a topic takes, and far less than a few kilobytes can become. A
    batch beyond it counts as unreadable, for workers and for commands."""

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """Make a consumer, not started yet."""
        if self.client_rack is not None:
            options["client_rack"] = self.client_rack
        if self.topic_prefix:
            from streams.kafka.prefixed import PrefixedConsumer

            return PrefixedConsumer(self.topic_prefix, *topics, **self._options(), **options)
        from aiokafka import AIOKafkaConsumer

        return AIOKafkaConsumer(*topics, **self._options(), **options)

    def reader(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """Make a consumer without a group, of what was committed, from the beginning on."""
        return self.consumer(
            *topics,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            **options,
        )

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """Make a producer, not started yet."""
        if self.topic_prefix:
            from streams.kafka.prefixed import PrefixedProducer

            return PrefixedProducer(self.topic_prefix, **self._options(), **options)
        from aiokafka import AIOKafkaProducer

        return AIOKafkaProducer(**self._options(), **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        """Make a client that administrates, not started yet."""
        if self.topic_prefix:
            from streams.kafka.prefixed import PrefixedAdmin

            return PrefixedAdmin(self.topic_prefix, **self._options(), **options)
        from aiokafka.admin import AIOKafkaAdminClient

        return AIOKafkaAdminClient(**self._options(), **options)

    async def connect(self, host: str, port: int, timeout_ms: int) -> AIOKafkaConnection:
        """Open one connection and log in: what a client does first, without its retries.

        Raises KafkaError, OSError or TimeoutError as it comes.
        """
        from aiokafka.conn import create_conn

        return await create_conn(
            host, port, request_timeout_ms=timeout_ms, **self._security_options()
        )

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each bootstrap address."""
        pairs = (address.strip().rpartition(":") for address in self.bootstrap.split(","))
        return [(host.strip("[]"), int(port)) for host, _, port in pairs]

    @property
    def encrypted(self) -> bool:
        """Whether the connection is by TLS."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def logs_in(self) -> bool:
        """Whether the connection needs a login."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def ssl_context(self) -> ssl.SSLContext:
        """Return what TLS needs; read from its files again when one of them has changed.

        Raises:
            ConnectionSettingError: A file cannot be read, or is not what it should be.
        """
        files = (self.ssl_ca_file, self.ssl_certificate_file, self.ssl_key_file)
        return _ssl_context(self, tuple(_changed_ns(file) for file in files if file is not None))

    def _options(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap, **self._security_options()}

    def _security_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.encrypted:
            options["ssl_context"] = self.ssl_context()
        if not self.logs_in:
            return options
        options["sasl_mechanism"] = self.sasl_mechanism
        if self.sasl_mechanism == "OAUTHBEARER":
            from streams.kafka.tokens import TokenProvider

            options["sasl_oauth_token_provider"] = TokenProvider(
                self.oauth_token_file, self.oauth_token_command
            )
        else:
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = secret(self.sasl_password, self.sasl_password_file)
        return options


def secret(value: str | None, file: str | None) -> str | None:
    """Return a secret, which may stand in a file instead, without the line's end.

    Raises:
        ConnectionSettingError: The file cannot be read.
    """
    if file is None:
        return value
    try:
        return Path(file).read_text().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectionSettingError(*unusable(file, error)) from None


def unusable(file: str, error: Exception) -> tuple[str, str]:
    """Say why a file cannot be used, and what to do."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{file}: {why}", "give the path of a file that this user may read"


def _changed_ns(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=4)
def _ssl_context(connection: Connection, _changed: tuple[int, ...]) -> ssl.SSLContext:
    """Make a context; kept, because each partition has clients of its own."""
    ca = connection.ssl_ca_file
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConnectionSettingError(
            f"ssl_ca_file: {ca}: {_why(error, 'not certificates in PEM')}",
            "give the PEM file of the authority that signs the brokers' certificates",
        ) from None
    context.check_hostname = connection.ssl_check_hostname
    if (certificate := connection.ssl_certificate_file) is None:
        return context
    key = connection.ssl_key_file
    password = secret(connection.ssl_key_password, connection.ssl_key_password_file)
    # An empty password for one that is missing: OpenSSL would ask for it at the terminal.
    try:
        context.load_cert_chain(certificate, key, password or "")
    except (OSError, ssl.SSLError) as error:
        raise ConnectionSettingError(
            f"ssl_certificate_file: {certificate}"
            f"{'' if key is None else f' with ssl_key_file {key}'}: "
            f"{_why(error, 'not a certificate and its key in PEM, or the key needs a password')}",
            "give PEM files that belong together, and ssl_key_password_file for an encrypted key",
        ) from None
    return context


def _why(error: OSError, unreadable: str) -> str:
    # What OpenSSL says of a wrong password or a file that is not PEM names its own functions.
    return unreadable if isinstance(error, ssl.SSLError) else error.strerror or str(error)
