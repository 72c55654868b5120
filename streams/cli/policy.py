"""`shipclock policy`: check, show and list policies."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from streams.cli.printable import printable
from streams.core.errors import UserError
from streams.core.rules.policy import PolicyError
from streams.policies import load_policy, policy_names, policy_text

app = typer.Typer(no_args_is_help=True, help="Check, show and list rule files.")


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A TOML policy file, or a name.")],
) -> None:
    """Validate a policy file; the first mistake is told with its line and key."""
    try:
        policy = load_rulebook(file)
    except PolicyError as error:
        # What was asked for is the check, and it has failed.
        raise UserError(error.message, error.hint) from None
    kinds = ", ".join(policy.violations)
    typer.echo(f"{file}: {policy.label} is valid ({kinds}; {policy.time_zone})")


@app.command()
def show(
    policy: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A policy's name, or a TOML policy file.")
    ],
) -> None:
    """Print a policy file, to be changed: shipclock policy show NAME > mine.toml."""
    text = policy_text(policy)
    packaged = policy in policy_names()
    origin = f"shipclock {version('shipclock')}, policy {policy}" if packaged else policy
    typer.echo(f"# From {printable(origin)}.\n{text}", nl=False)


@app.command("list")
def list_policies() -> None:
    """List the policies that come with shipclock."""
    for name in policy_names():
        policy = load_rulebook(name)
        typer.echo(f"{policy.label}\t{', '.join(policy.violations)}\t{policy.time_zone}")
