"""Why a cluster cannot be reached: what the client itself only says in its log, or not at all.

A client tries its addresses again and again and reports that none answered. Here each is tried
once, step by step: the name, the port, TLS, the login, and what the cluster says of its brokers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator
from typing import NamedTuple

from aiokafka.errors import (
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streams.kafka.connection import DEFAULT_BOOTSTRAP, Connection
from streams.kafka.tokens import TokenError

_STEP_TIMEOUT_S = 4.0
_API_VERSIONS, _SASL_HANDSHAKE = 18, 17
_UNSUPPORTED_MECHANISM, _NO_LOGIN_HERE = 33, 34
_ANSWER_BYTES_MAX = 1_000_000
# OpenSSL's numbers for what is wrong with a certificate.
_NOT_YET_VALID, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21, 27)


class Finding(NamedTuple):
    """What keeps a client out, and what to do; `permanent` if no waiting mends it."""

    detail: str
    hint: str
    permanent: bool


async def diagnose(connection: Connection) -> Finding | None:
    """Try every bootstrap address; None if one lets us in now.

    A refusal by one address says more than the silence of another.
    """
    findings: list[Finding] = []
    for host, port in connection.addresses:
        found = await _try(connection, host, port)
        if found is None:
            return None
        findings.append(found)
    return next((found for found in findings if found.permanent), findings[0])


def unreachable(connection: Connection, why: str = "") -> Finding:
    """Say that no broker answers; one of our own is advised only where it would be used."""
    hint = "check the address (bootstrap) and the network, and whether the brokers are up"
    if connection.bootstrap == DEFAULT_BOOTSTRAP and connection.security_protocol == "PLAINTEXT":
        hint = "start one with `shipclock broker start`, or give its address with --bootstrap"
    why = f" ({why})" if why else ""
    return Finding(f"no Kafka broker answers at {connection.bootstrap}{why}", hint, False)


async def _try(connection: Connection, host: str, port: int) -> Finding | None:
    address = f"{host}:{port}"
    try:
        async with _connected(host, port, None):
            pass
    except ConnectionRefusedError:
        return unreachable(connection)
    except OSError as error:
        return unreachable(connection, error.strerror or "no answer")
    try:
        if connection.encrypted:
            context = connection.ssl_context()
            if found := await _try_tls(connection, context, host, port):
                return found
            speaks = await _speaks_kafka(host, port, context)
        else:
            speaks, tls = await asyncio.gather(
                _speaks_kafka(host, port, None), _speaks_tls(host, port)
            )
            if tls and not speaks:
                wanted = "SASL_SSL" if connection.logs_in else "SSL, or SASL_SSL with a login"
                return Finding(
                    f"the listener at {address} is encrypted (TLS), and security_protocol is "
                    f"{connection.security_protocol}",
                    f"set security_protocol to {wanted}; and ssl_ca_file, if an authority of your "
                    "own signs its certificate",
                    True,
                )
        if not speaks:
            return unreachable(connection, f"{address} takes the connection and says nothing")
        return await _try_login(connection, host, port)
    except (OSError, KafkaError, asyncio.IncompleteReadError) as error:
        return unreachable(connection, " ".join(str(error).split()) or "no answer")


async def _try_tls(
    connection: Connection, context: ssl.SSLContext, host: str, port: int
) -> Finding | None:
    address = f"{host}:{port}"
    try:
        async with _connected(host, port, context) as streams:
            # With TLS 1.3 the broker looks at the client's certificate after the handshake.
            await _ask(streams, _API_VERSIONS)
    except ssl.SSLCertVerificationError as error:
        return _wrong_certificate(connection, address, host, error)
    except ssl.SSLError as error:
        alert = (error.reason or "").lower().replace("_", " ")
        if "alert" in alert:
            return _refused_certificate(connection, address, alert)
    except (OSError, EOFError):
        pass
    else:
        return None
    if await _speaks_kafka(host, port, None):
        return Finding(
            f"the listener at {address} is not encrypted, and security_protocol is "
            f"{connection.security_protocol}",
            f"set security_protocol to {'SASL_PLAINTEXT' if connection.logs_in else 'PLAINTEXT'}, "
            "or give the address of an encrypted listener",
            True,
        )
    if connection.ssl_certificate_file is None and await _speaks_tls(host, port):
        return _refused_certificate(connection, address, "connection closed")
    return None


def _wrong_certificate(
    connection: Connection, address: str, host: str, error: ssl.SSLCertVerificationError
) -> Finding:
    code = error.verify_code
    if code in (_OTHER_HOST, _OTHER_ADDRESS):
        return Finding(
            f"the certificate of {address} is not for the host {host}",
            "give in bootstrap a host that the certificate names; or set ssl_check_hostname = "
            "false, which trusts every certificate of the authority",
            True,
        )
    if code in (_EXPIRED, _NOT_YET_VALID):
        what = "has expired" if code == _EXPIRED else "is not valid yet"
        return Finding(
            f"the certificate of {address} {what}",
            "the broker needs another certificate; compare this machine's clock, too",
            True,
        )
    if code in _UNKNOWN_AUTHORITY:
        trusted = connection.ssl_ca_file or "the system's authorities"
        return Finding(
            f"the certificate of {address} is signed by an authority that {trusted} does not hold",
            "set ssl_ca_file to the PEM file of the authority that signs the brokers' certificates",
            True,
        )
    return Finding(
        f"the certificate of {address} is not valid: {error.verify_message}",
        "set ssl_ca_file, or let the broker have another certificate",
        True,
    )


def _refused_certificate(connection: Connection, address: str, alert: str) -> Finding:
    certificate = connection.ssl_certificate_file
    if certificate is None:
        return Finding(
            f"the listener at {address} wants a client certificate, and none is set ({alert})",
            "set ssl_certificate_file and ssl_key_file",
            True,
        )
    return Finding(
        f"the listener at {address} refuses the client certificate {certificate} ({alert})",
        "give one that is signed by an authority the brokers trust, and has not expired",
        True,
    )


async def _try_login(connection: Connection, host: str, port: int) -> Finding | None:
    address = f"{host}:{port}"
    context = connection.ssl_context() if connection.encrypted else None
    secured = "SASL_SSL" if connection.encrypted else "SASL_PLAINTEXT"
    async with _connected(host, port, context) as streams:
        # A name that no broker offers asks for the list of those it does.
        mechanism = connection.sasl_mechanism or "NONE"
        code, offered = _mechanisms(await _ask(streams, _SASL_HANDSHAKE, mechanism))
    if connection.logs_in and code == _NO_LOGIN_HERE:
        return Finding(
            f"the listener at {address} has no login, and security_protocol is "
            f"{connection.security_protocol}",
            f"set security_protocol to {'SSL' if connection.encrypted else 'PLAINTEXT'}, or give "
            "the address of a listener with SASL",
            True,
        )
    if not connection.logs_in and code == _UNSUPPORTED_MECHANISM:
        return Finding(
            f"the listener at {address} wants a login (SASL), and security_protocol is "
            f"{connection.security_protocol}",
            f"set security_protocol to {secured}, and sasl_mechanism to one of: {offered}",
            True,
        )
    if code == _UNSUPPORTED_MECHANISM:
        return _not_offered(connection, address, offered)
    try:
        opened = await connection.connect(host, port, int(_STEP_TIMEOUT_S * 1000))
    except TokenError as error:
        return Finding(str(error).removeprefix("TokenError: "), "see oauth_token_file and "
                       "oauth_token_command in `shipclock config show --all`", True)  # fmt: skip
    except SaslAuthenticationFailed:
        return _wrong_login(connection, address)
    except UnsupportedSaslMechanismError:
        return _not_offered(connection, address, offered)
    try:
        answer = await opened.send(MetadataRequest([]))
    finally:
        await opened.close()
    return await _try_brokers([(broker[1], broker[2]) for broker in answer.brokers], address)


def _not_offered(connection: Connection, address: str, offered: str) -> Finding:
    return Finding(
        f"the listener at {address} does not offer sasl_mechanism {connection.sasl_mechanism}",
        f"set sasl_mechanism to one of: {offered}",
        True,
    )


def _wrong_login(connection: Connection, address: str) -> Finding:
    if connection.sasl_mechanism == "OAUTHBEARER":
        return Finding(f"the brokers at {address} refuse the token",
                       "give one that has not expired and that they accept", True)  # fmt: skip
    return Finding(
        f"the brokers at {address} refuse user {connection.sasl_username} with this password",
        f"correct sasl_username or sasl_password (or its file); the user needs a password for "
        f"{connection.sasl_mechanism}",
        True,
    )


async def _try_brokers(brokers: list[tuple[str, int]], asked: str) -> Finding | None:
    """See that what the cluster names as its brokers can be reached from here: one is enough."""
    for host, port in brokers:
        with contextlib.suppress(OSError):
            async with _connected(host, port, None):
                return None
    if not brokers:
        return None
    named = ", ".join(f"{host}:{port}" for host, port in brokers)
    return Finding(
        f"{asked} answers, but names its brokers {named}, which do not answer from here",
        "the brokers' advertised.listeners must be addresses that this machine can reach",
        False,
    )


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def _connected(
    host: str, port: int, context: ssl.SSLContext | None
) -> AsyncIterator[_Streams]:
    """Open a connection for a moment; each wait has a limit."""
    async with asyncio.timeout(_STEP_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_STEP_TIMEOUT_S):
                await writer.wait_closed()


async def _ask(streams: _Streams, api: int, text: str | None = None) -> bytes:
    """Send a request in its first form that every broker knows; return what follows its number."""
    reader, writer = streams
    body = b"" if text is None else struct.pack(">h", len(text)) + text.encode()
    version = 1 if api == _SASL_HANDSHAKE else 0
    request = struct.pack(">hhih", api, version, 1, -1) + body
    writer.write(struct.pack(">i", len(request)) + request)
    async with asyncio.timeout(_STEP_TIMEOUT_S):
        await writer.drain()
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        if not 4 <= size <= _ANSWER_BYTES_MAX:
            raise EOFError("not Kafka")
        return (await reader.readexactly(size))[4:]


def _mechanisms(answer: bytes) -> tuple[int, str]:
    code, count = struct.unpack_from(">hi", answer)
    names, at = [], 6
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at)
        names.append(answer[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return code, ", ".join(sorted(names))


async def _speaks_kafka(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    try:
        async with _connected(host, port, context) as streams:
            await _ask(streams, _API_VERSIONS)
    except (OSError, EOFError):
        return False
    return True


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    # Nothing is sent: this only asks whether the other side knows TLS at all.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with _connected(host, port, context):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
