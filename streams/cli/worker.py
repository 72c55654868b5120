"""`shipclock worker`: judge the orders of a Kafka cluster, live."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from typing import Annotated

import typer

from streams.cli.configured import configured
from streams.cli.options import Policies
from streams.core.errors import UserError
from streams.rulebook import load_rulebook
from streams.settings import Loaded


@configured
def worker(
    policies: Policies,
    *,
    loaded: Loaded,
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

    for accepted in accept_topic or ():
        if not re.fullmatch("[^=]+=[A-Za-z0-9_-]+", accepted):
            raise UserError(
                f"--accept-topic: {accepted!r} is not TOPIC=ID",
                "take it as the refused partition's log line gives it",
                2,
            )
    settings = replace(
        loaded.settings,
        accepted_topics=frozenset(accept_topic or ()),
        policy_change=policy_change,
    )
    job = pickle.dumps((settings, load_rulebook(policies)))
    fresh.become("streams.cli.worker_process", loaded.workers, stdin=job)
