"""Clusters that ask who comes: TLS, logins, certificates and rights, each refusal in one line."""

import asyncio
import base64
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from streams.cli.commands import program
from streams.core.errors import UserError
from streams.core.facts.inputs import EXEMPTION_GRANTED, INPUT_TOPICS
from streams.demo.surge import END_MS, Surge, make_surge
from streams.engine.simulate import simulate
from streams.kafka.acls import Acl
from streams.kafka.connection import Connection
from streams.kafka.diagnosis import diagnose
from streams.kafka.topic_admin import ensure_topics
from streams.rulebook import load_rulebook
from streams.runtime.batches import KeyPartitioner
from streams.runtime.rights import rights_of
from streams.settings import environment_of
from streams.testing import cluster
from streams.testing.secured import PASSWORD, STRANGER, USER, SecuredBroker

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(240),
    # A refused client takes leave of TLS in the background, and the command ends meanwhile.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <(function _SelectorTransport|socket)"
    ),
]
PREFIX = "prod."
APP_ID = f"{PREFIX}shipclock"
"""What workers under the prefix have by default."""
PARTITIONS = 2


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """Start a broker with every kind of listener, the topics made by a super user."""
    with SecuredBroker(tmp_path_factory.mktemp("secured") / "broker") as running:
        asyncio.run(ensure_topics(replace(running.super_user, topic_prefix=PREFIX), PARTITIONS))
        yield running


def failed(connection: Connection, *arguments: str) -> UserError:
    """Run a command that must fail with one clear line, which has no secret in it."""
    result = CliRunner().invoke(program(), [*arguments], env=environment_of(connection))
    assert isinstance(result.exception, UserError), result.output
    error = result.exception
    shown = f"{error.message} {error.hint} {result.output} {connection!r}"
    assert PASSWORD not in shown
    assert "\n" not in error.message
    assert "broker start" not in shown
    return error


async def test_each_way_in(secured: SecuredBroker, tmp_path: Path) -> None:
    """SCRAM, PLAIN and OAUTHBEARER over TLS, a client certificate, SCRAM in the clear."""
    plain = replace(secured.scram, sasl_mechanism="PLAIN", sasl_password=None)
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    token = tmp_path / "token"
    token.write_text(unsigned_token())
    oauth = replace(
        secured.scram, sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None
    )
    printing = f"{sys.executable} -c \"print(open('{token}').read())\""
    key = secured.certificates.encrypted(Path(str(secured.mutual.ssl_key_file)), PASSWORD)
    for connection in (
        secured.scram,
        secured.mutual,
        replace(secured.mutual, ssl_key_file=str(key), ssl_key_password=PASSWORD),
        replace(plain, sasl_password_file=str(password)),
        replace(oauth, oauth_token_file=str(token)),
        replace(oauth, oauth_token_command=printing),
        replace(secured.scram, bootstrap=secured.address("plain_scram"),
                security_protocol="SASL_PLAINTEXT", ssl_ca_file=None),
        replace(secured.scram, bootstrap=secured.address("elsewhere"), ssl_check_hostname=False),
        replace(secured.scram, bootstrap=f"127.0.0.1:1,{secured.address('scram')}"),
    ):  # fmt: skip
        assert await diagnose(connection) is None, connection
        admin = connection.admin()
        await admin.start()
        await admin.close()


def unsigned_token() -> str:
    """Make a token as the broker of the test accepts it."""
    now_s = int(time.time())
    claims = {"sub": USER, "iat": now_s, "exp": now_s + 600}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def test_each_refusal_says_what_is_missing(secured: SecuredBroker) -> None:
    """A listener that refuses is not called silent, and the setting to change is named."""
    scram, mutual = secured.scram, secured.mutual
    other = str(secured.certificates.other_authority)
    stale, key = secured.certificates.signed("stale", USER, days=-1)
    plaintext = Connection(scram.bootstrap)
    cases = [
        (plaintext, "is encrypted (TLS), and security_protocol is PLAINTEXT", "SASL_SSL"),
        (Connection(secured.address("plain_scram")), "wants a login (SASL)", "SASL_PLAINTEXT"),
        (Connection(scram.bootstrap, security_protocol="SSL", ssl_ca_file=scram.ssl_ca_file),
         "wants a login (SASL)", "SCRAM-SHA-512"),
        (replace(scram, bootstrap=secured.bootstrap), "is not encrypted", "SASL_PLAINTEXT"),
        (replace(scram, bootstrap=mutual.bootstrap), "wants a client certificate",
         "ssl_certificate_file"),
        (replace(mutual, security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username="x",
                 sasl_password=PASSWORD), "has no login", "SSL"),
        (replace(scram, sasl_password="wrong"), f"refuse user {USER}", "sasl_password"),
        (replace(scram, sasl_username="nobody"), "refuse user nobody", "sasl_username"),
        (replace(scram, sasl_mechanism="SCRAM-SHA-256"), "does not offer", "SCRAM-SHA-512"),
        (replace(scram, ssl_ca_file=other), "signed by an authority", "ssl_ca_file"),
        (replace(scram, ssl_ca_file=None), "signed by an authority", "ssl_ca_file"),
        (replace(scram, bootstrap=secured.address("elsewhere")), "is not for the host 127.0.0.1",
         "ssl_check_hostname"),
        (replace(scram, bootstrap=secured.address("expired")), "has expired", "certificate"),
        (replace(mutual, ssl_certificate_file=None, ssl_key_file=None),
         "wants a client certificate", "ssl_certificate_file"),
        (replace(mutual, ssl_certificate_file=str(stale), ssl_key_file=str(key)),
         "refuses the client certificate", "expired"),
        (replace(scram, sasl_mechanism="OAUTHBEARER", sasl_username=None, sasl_password=None,
                 oauth_token_command="false"), "oauth_token_command: false ended with 1", "oauth"),
    ]  # fmt: skip
    for connection, message, hint in cases:
        error = failed(connection, "topics", "check")
        assert message in error.message, (message, error.message, error.hint)
        assert hint in (error.hint or ""), (hint, error.message, error.hint)


def test_a_missing_right_is_named(secured: SecuredBroker) -> None:
    """Each right that a command lacks is named with its resource, as Kafka names it."""
    stranger = replace(secured.scram, sasl_username=STRANGER, topic_prefix=PREFIX)
    error = failed(stranger, "topics", "check")
    assert "the rights Describe and DescribeConfigs on topic prod.appeal-decided" in error.message
    assert "shipclock topics acls" in (error.hint or "")
    told = CliRunner().invoke(
        program(), ["config", "check", "--for", "worker"], env=environment_of(stranger)
    )
    assert isinstance(told.exception, UserError)
    needed = len(rights_of("worker", stranger, APP_ID, ""))
    assert told.exception.message == f"{needed} rights missing for worker"
    assert "lacks the rights Read and Write on topic prod.shops-changelog" in told.output
    assert "Read on topic prod.dead-letter" in failed(stranger, "dead-letters").message
    order = '{"order_id":"O1","shop_id":"S1","product_ids":["P1"],"shipping_mode":"normal",'
    order += f'"placed_at":{time.time_ns() // 10**6},"paid_at":{time.time_ns() // 10**6},'
    order += '"paid_amount":1}'
    error = failed(stranger, "send", "order-paid", order)
    assert "lacks the right Write on topic prod." in error.message
    needs = rights_of("commands", stranger, APP_ID, "")
    asyncio.run(secured.grant([acl for acl in needs if acl.resource == "topic"], STRANGER))
    error = failed(stranger, "send", "order-paid", order)
    assert "lacks the right Write on transactional id shipclock-publish-" in error.message


def test_worker_with_exactly_the_listed_rights(secured: SecuredBroker, tmp_path: Path) -> None:
    """The demo's load is judged over TLS with the listed rights, under a prefix; each is needed."""
    admin = replace(secured.super_user, topic_prefix=PREFIX)
    connection = replace(secured.scram, topic_prefix=PREFIX)
    rights = rights_of("worker", connection, APP_ID, "")
    asyncio.run(secured.grant(rights))
    surge = make_surge(300, 1)
    records = sale_records(surge)
    asyncio.run(cluster.load(admin, records))
    # Before it runs: what is loaded under a live worker comes late.
    worker = cluster.WorkerProcess(connection, tmp_path / "log")
    try:
        asyncio.run(cluster.wait_until_done(admin, END_MS, APP_ID, timeout_s=150))
        assert "refused" not in worker.log
        assert "unreachable" not in worker.log
    finally:
        worker.stop()
    checked = ["config", "check", "--for", "worker"]
    result = CliRunner().invoke(program(), checked, env=environment_of(connection))
    assert result.output.splitlines()[-1] == "this user has the rights that worker needs"
    assert PASSWORD not in worker.log
    written = asyncio.run(cluster.read(admin, cluster.OUTPUT_TOPICS))
    lines = [
        msgspec.json.encode(
            {"topic": each.topic, "timestamp": each.timestamp, "partition": each.partition,
             "raw": (each.value or b"").decode()}
        )
        for each in sorted(records, key=lambda each: each.timestamp)
    ]  # fmt: skip
    judged = [json.loads(line) for line in simulate(lines, load_rulebook(["douyin-first-scan"]))]
    expected = Counter(
        json.dumps(each["value"], sort_keys=True) for each in judged if each["topic"] == "timeout"
    )
    found = Counter(
        json.dumps(json.loads(each.value or b""), sort_keys=True)
        for each in written
        if each.topic == "timeout"
    )
    assert found == expected
    assert found.total() > 20


def sale_records(surge: Surge) -> list[cluster.LogRecord]:
    """Place the demo's records as its sender does: an exemption goes to every partition."""
    partition_of = KeyPartitioner()
    records = []
    for record in surge.records:
        everywhere = record.topic == INPUT_TOPICS[EXEMPTION_GRANTED]
        places = range(PARTITIONS) if everywhere else [partition_of(record.key, PARTITIONS)]
        records += [
            cluster.LogRecord(record.topic, place, record.at_ms, record.key, record.value)
            for place in places
        ]
    return records


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (Acl("topic", f"{PREFIX}order-paid", "Read"), f"Read on topic {PREFIX}order-paid"),
        (Acl("group", f"{APP_ID}-orders", "Read"), f"Read on group {APP_ID}-orders"),
        (Acl("transactional-id", f"{APP_ID}-orders-", "Write", prefixed=True),
         f"Write on transactional id {APP_ID}-orders-"),
        (Acl("topic", f"{PREFIX}shops-changelog", "Write"), f"on topic {PREFIX}shops-changelog"),
    ],
)  # fmt: skip
def test_worker_without_one_right_names_it(
    secured: SecuredBroker, tmp_path: Path, without: Acl, message: str
) -> None:
    """What is missing is logged as refused, with the resource; a worker never calls it silence."""
    connection = replace(secured.scram, topic_prefix=PREFIX)
    asyncio.run(secured.grant(rights_of("worker", connection, APP_ID, "")))
    asyncio.run(secured.revoke([without]))
    worker = cluster.WorkerProcess(connection, tmp_path / "log", "--idle-slack", "100")
    try:
        # An idle shop partition writes once a minute.
        give_up_s = time.monotonic() + 120
        while message not in worker.log:
            assert time.monotonic() < give_up_s, worker.log
            time.sleep(0.2)
        assert "refused" in worker.log
        assert "broker-unreachable" not in worker.log
        assert "Traceback" not in worker.log
    finally:
        worker.stop()
        asyncio.run(secured.grant([without]))


def test_worker_with_a_wrong_password_is_refused(secured: SecuredBroker, tmp_path: Path) -> None:
    """It says who is refused, and neither that nobody answers nor to start another broker."""
    worker = cluster.WorkerProcess(replace(secured.scram, sasl_password="wrong"), tmp_path / "log")
    try:
        # An idle shop partition writes once a minute.
        give_up_s = time.monotonic() + 120
        while f"refuse user {USER} with this password" not in worker.log:
            assert time.monotonic() < give_up_s, worker.log
            time.sleep(0.2)
        assert "broker-unreachable" not in worker.log
        assert "broker start" not in worker.log
        assert "Traceback" not in worker.log
    finally:
        worker.stop()
