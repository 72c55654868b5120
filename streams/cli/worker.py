"""`shipclock worker`: judge the orders of a Kafka cluster, live."""

from __future__ import annotations

import pickle
import re
from typing import Annotated

import typer

from streams.cli.connecting import connected
from streams.cli.options import (
    DEFAULT_POLICY,
    PolicyName,
)
from streams.core.errors import UserError
from streams.kafka.connection import Connection
from streams.policies import load_policy

PORT_MAX = 65_535
# More than any machine has cores for; a slip of the finger must not stop it.
WORKERS_MAX = 256
_PROBE_MS_MIN = 15


@connected
def worker(
    *,
    connection: Connection,
    policy: PolicyName = DEFAULT_POLICY,
    app_id: Annotated[
        str,
        typer.Option(help="Prefix of the consumer groups; workers of one id share the partitions."),
    ] = "shipclock",
    idle_slack: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="MS",
            help="A topic read to its end counts as read up to this long ago.",
        ),
    ] = 500,
    refuse_wrong_partition: Annotated[
        bool,
        typer.Option(
            "--refuse-wrong-partition",
            help="Make records in another partition than their key's dead letters; without it they "
            "are judged where they are, and reported.",
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=WORKERS_MAX, help="Processes; one a core.")
    ] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=PORT_MAX,
            metavar="PORT",
            help="Serve metrics for Prometheus at 127.0.0.1; several workers take the next ports.",
        ),
    ] = None,
    policy_change: Annotated[
        bool,
        typer.Option(
            "--policy-change",
            help="Replace the policy that live workers of the app id judge by; they end.",
        ),
    ] = False,
    accept_topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOPIC=ID",
            help="Go on with a recreated topic from its first record; a refused partition names "
            "it. May be given several times.",
        ),
    ] = None,
) -> None:
    """Run the worker until Ctrl-C or SIGTERM.

    It joins the others of its app id, takes its share of the partitions, restores their state from
    the changelogs, and judges every order on time. Stopping and killing it are both safe.
    """
    from streams.runtime import fresh
    from streams.runtime.settings import Settings

    if not re.fullmatch("[A-Za-z0-9._-]{1,100}", app_id):
        raise UserError(
            f"{app_id!r} is no app id", "give letters, digits and . _ - without spaces", 2
        )
    if metrics_port is not None and metrics_port + workers - 1 > PORT_MAX:
        raise UserError(
            f"{workers} workers from port {metrics_port} on need ports beyond {PORT_MAX}",
            "give a smaller --metrics-port",
            2,
        )
    for accepted in accept_topic or ():
        if not re.fullmatch("[^=]+=[A-Za-z0-9_-]+", accepted):
            raise UserError(
                f"--accept-topic: {accepted!r} is not TOPIC=ID",
                "take it as the refused partition's log line gives it",
                2,
            )
    rules = load_policy(policy)
    # Asking seldom would add to a short slack what it saves.
    probe_ms = max(_PROBE_MS_MIN, min(Settings().probe_interval_ms, idle_slack * 3 // 10))
    settings = Settings(
        connection=connection,
        app_id=app_id,
        idle_slack_ms=idle_slack,
        refuse_wrong_partition=refuse_wrong_partition,
        probe_interval_ms=probe_ms,
        metrics_port=metrics_port,
        policy_change=policy_change,
        accepted_topics=frozenset(accept_topic or ()),
    )
    fresh.become("streams.cli.worker_process", workers, stdin=pickle.dumps((settings, rules)))
