"""A broker that lets nobody in without TLS, a login or a certificate, and rights of its own.

Certificates are made by the `openssl` command. The broker's usual listener on loopback stays open
to whoever prepares a test: there everyone is a super user.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

from streams.broker import EmbeddedBroker
from streams.kafka.acls import OPERATION_CODES, Acl
from streams.kafka.connection import Connection

HOST = "127.0.0.1"
USER, PASSWORD = "shipclock", "not-for-any-log"
STRANGER = "stranger"
"""A user with a password and no rights."""
_RESOURCES = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
_ALLOW, _LITERAL, _PREFIXED = 3, 3, 4


class Certificates:
    """An authority and what it has signed, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = self._authority("authority")
        self.other_authority = self._authority("other-authority")

    def signed(self, name: str, subject: str, *names: str, days: int = 30) -> tuple[Path, Path]:
        """Make a certificate and its key; with fewer than 0 days it has expired."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request = self.folder / f"{name}.csr"
        extension = ["-addext", f"subjectAltName={','.join(names)}"] if names else []
        _openssl("req", "-new", *_NEW_KEY, "-keyout", key, "-out", request, "-subj",
                 f"/CN={subject}", *extension)  # fmt: skip
        _openssl("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey",
                 self.authority.with_suffix(".key"), "-days", days, "-copy_extensions", "copy",
                 "-out", certificate)  # fmt: skip
        return certificate, key

    def encrypted(self, key: Path, password: str) -> Path:
        """Write a key again, encrypted."""
        target = key.with_suffix(".encrypted")
        _openssl("pkcs8", "-topk8", "-in", key, "-out", target, "-passout", f"pass:{password}")
        return target

    def _authority(self, name: str) -> Path:
        file = self.folder / f"{name}.pem"
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", file.with_suffix(".key"), "-out", file,
                 "-days", 30, "-subj", f"/CN={name}")  # fmt: skip
        return file


class SecuredBroker(EmbeddedBroker):
    """The embedded Kafka with secured listeners, each on a port of its own.

    `scram` wants TLS and a login, `mutual` TLS and a client certificate, `plain_scram` a login
    without TLS; the certificates of `expired` and of `elsewhere` are not valid here.
    """

    def __init__(self, data_dir: Path) -> None:
        self.certificates = made = Certificates(data_dir.with_name(f"{data_dir.name}-certificates"))
        self._of_client = made.signed("client", USER)
        good = made.signed("broker", "broker", f"IP:{HOST}", "DNS:localhost")
        of_listeners = {
            "SCRAM": ("SASL_SSL", good),
            "MUTUAL": ("SSL", good),
            "PLAIN_SCRAM": ("SASL_PLAINTEXT", None),
            "EXPIRED": ("SASL_SSL", made.signed("expired", "broker", f"IP:{HOST}", days=-1)),
            "ELSEWHERE": ("SASL_SSL", made.signed("elsewhere", "x", "DNS:elsewhere.example")),
        }
        ports = _free_ports(len(of_listeners))
        self._addresses = {
            name.lower(): f"{HOST}:{port}" for name, port in zip(of_listeners, ports, strict=True)
        }
        listeners = ",".join(f"{name.upper()}://{at}" for name, at in self._addresses.items())
        protocols = [f"{name}:{protocol}" for name, (protocol, _) in of_listeners.items()]
        properties = {
            "listeners": listeners,
            "advertised.listeners": listeners,
            "listener.security.protocol.map": ",".join(
                ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *protocols]
            ),
            "inter.broker.listener.name": "PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(made.authority),
        }
        for name, (protocol, pair) in of_listeners.items():
            prefix = f"listener.name.{name.lower()}."
            if pair is not None:
                properties |= {
                    f"{prefix}ssl.keystore.type": "PEM",
                    f"{prefix}ssl.keystore.location": str(_joined(*pair)),
                }
            if protocol.startswith("SASL"):
                properties |= {f"{prefix}{key}": value for key, value in _LOGINS.items()}
        properties["listener.name.mutual.ssl.client.auth"] = "required"
        super().__init__(
            data_dir, properties=properties, users={USER: PASSWORD, STRANGER: PASSWORD}
        )

    def address(self, listener: str) -> str:
        """Return HOST:PORT of a listener."""
        return self._addresses[listener]

    @property
    def super_user(self) -> Connection:
        """A connection that may do everything."""
        return Connection(self.bootstrap)

    @property
    def scram(self) -> Connection:
        """A connection by TLS that logs in as the user."""
        return Connection(
            self.address("scram"),
            security_protocol="SASL_SSL",
            ssl_ca_file=str(self.certificates.authority),
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=USER,
            sasl_password=PASSWORD,
        )

    @property
    def mutual(self) -> Connection:
        """A connection that shows a certificate of the user's."""
        certificate, key = self._of_client
        return replace(
            Connection(self.address("mutual")),
            security_protocol="SSL",
            ssl_ca_file=str(self.certificates.authority),
            ssl_certificate_file=str(certificate),
            ssl_key_file=str(key),
        )

    async def grant(self, acls: Iterable[Acl], user: str = USER) -> None:
        """Add rights."""
        await self._send_each(CreateAclsRequest, acls, user)

    async def revoke(self, acls: Iterable[Acl], user: str = USER) -> None:
        """Take rights away again."""
        await self._send_each(DeleteAclsRequest, acls, user)

    async def _send_each(
        self, request: type[CreateAclsRequest | DeleteAclsRequest], acls: Iterable[Acl], user: str
    ) -> None:
        admin = self.super_user.admin()
        await admin.start()
        try:
            for acl in acls:
                pattern = _PREFIXED if acl.prefixed else _LITERAL
                answer = await admin._send_request(
                    request(
                        _RESOURCES[acl.resource], acl.name, pattern, f"User:{user}", "*",
                        OPERATION_CODES[acl.operation], _ALLOW,
                    )
                )  # fmt: skip
                _, (result,) = answer.to_object().values()
                if result["error_code"]:
                    raise RuntimeError(f"{acl}: {result}")
        finally:
            await admin.close()


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
_JAAS = "org.apache.kafka.common.security"
_LOGINS = {
    "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
    "scram-sha-512.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule required;",
    "plain.sasl.jaas.config": f'{_JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
    # Tokens without a signature: enough to see that a client gives them.
    "oauthbearer.sasl.jaas.config": f"{_JAAS}.oauthbearer.OAuthBearerLoginModule required "
    'unsecuredLoginStringClaim_sub="broker";',
}


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def _joined(certificate: Path, key: Path) -> Path:
    """Write a certificate and its key into one file, as Kafka wants them."""
    file = certificate.with_suffix(".both")
    file.write_text(key.read_text() + certificate.read_text())
    return file


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
