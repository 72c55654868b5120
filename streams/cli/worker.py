"""`shipclock worker`: judge the orders of a Kafka cluster, live."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.options import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_POLICY,
    Bootstrap,
    PolicyName,
    chosen_policy,
)


def worker(
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
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
    workers: Annotated[int, typer.Option(min=1, help="Processes; one a core.")] = 1,
) -> None:
    """Run the worker until Ctrl-C or SIGTERM.

    It joins the others of its app id, takes its share of the partitions, restores their state from
    the changelogs, and judges every order on time. Stopping and killing it are both safe.
    """
    from streams.runtime import logs
    from streams.runtime.app import run_worker
    from streams.runtime.settings import Settings
    from streams.runtime.supervise import supervise

    rules = chosen_policy(policy)
    logs.setup()
    settings = Settings(bootstrap=bootstrap, app_id=app_id, idle_slack_ms=idle_slack)
    if workers == 1:
        run_worker(settings, rules)
    else:
        supervise(settings, rules, workers)
