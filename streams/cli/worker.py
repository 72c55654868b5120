"""`shipclock worker`: judge the orders of a Kafka cluster, live."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.errors import UserError


def worker(
    bootstrap: Annotated[
        str, typer.Option(envvar="SHIPCLOCK_BOOTSTRAP", help="The broker's address, host:port.")
    ] = "127.0.0.1:9092",
    policy: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The rules to judge by.")
    ] = "douyin-first-scan",
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
    workers: Annotated[int, typer.Option(min=1, help="Processes; one a core.")] = 1,
) -> None:
    """Run the worker until Ctrl-C or SIGTERM.

    It joins the others of its app id, takes its share of the partitions, restores their state from
    the changelogs, and judges every order on time. Stopping and killing it are both safe.
    """
    from streams.core.policy import PolicyError
    from streams.policies import load_policy
    from streams.runtime import logs
    from streams.runtime.app import run_worker
    from streams.runtime.errors import WorkerError
    from streams.runtime.settings import Settings
    from streams.runtime.supervise import supervise

    try:
        rules = load_policy(policy)
    except PolicyError as error:
        raise UserError(error.message, error.hint, exit_code=2) from error
    logs.setup()
    settings = Settings(bootstrap=bootstrap, app_id=app_id, idle_slack_ms=idle_slack)
    try:
        if workers == 1:
            run_worker(settings, rules)
        else:
            supervise(settings, rules, workers)
    except WorkerError as error:
        raise UserError(error.message, error.hint) from error
