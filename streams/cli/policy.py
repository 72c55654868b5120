"""`shipclock policy`: check, show, compare, try and list rules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.policy_try import try_command
from streams.cli.printable import printable
from streams.core.errors import UserError
from streams.core.words import counted
from streams.rulebook import PolicyError, pack_names
from streams.rulebook.loading import read_policies

if TYPE_CHECKING:
    from streams.rulebook.walk import Mistake

app = typer.Typer(no_args_is_help=True, help="Check, show, compare, try and list rules.")
app.command("try")(try_command)

_SOURCE = "A policy's name, a TOML file, or a folder of some."
Files = Annotated[list[str], typer.Argument(metavar="NAME|FILE|FOLDER...", help=_SOURCE)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
# What the table of packs may take, so that a line is a version however narrow the terminal is.
_LIST_WIDTH = 200


@app.command()
def check(files: Files, as_json: Json = False) -> None:
    """Report every mistake in rules, with file, line and what is allowed; and what looks wrong.

    Files given together are checked together, as `--policy` would load them. With mistakes it ends
    with 1, with warnings alone with 0.
    """
    from streams.rulebook.check import warnings

    mistakes: list[Mistake] = []
    found = []
    try:
        found = read_policies(files)
    except PolicyError as error:
        mistakes = error.mistakes
    warned = warnings(found)
    if as_json:
        shown = {
            "mistakes": [_json(each) for each in mistakes],
            "policies": [policy.label for _, policy in found],
            "warnings": [_json(each) for each in warned],
        }
        typer.echo(json.dumps(shown, ensure_ascii=False))
    for each in () if as_json else warned:
        typer.echo(printable(f"warning: {each}"))
    for file, policy in () if as_json else found:
        kinds = ", ".join(policy.kinds)
        line = f"{file.origin}: {policy.label} is valid ({kinds}; {policy.time_zone})"
        typer.echo(printable(line))
    if mistakes:
        *others, last = mistakes
        for each in () if as_json else others:
            typer.echo(printable(f"error: {each}"), err=True)
        hint = "all keys and what they take: docs/policy-reference.md"
        if others:
            hint = f"{counted(len(mistakes), 'mistake')}; {hint}"
        # What was asked for is the check, and it has failed.
        raise UserError(str(last), hint)


def _json(mistake: Mistake) -> dict[str, Any]:
    return {
        "file": mistake.origin,
        "line": mistake.line,
        "message": mistake.message,
        "path": mistake.path,
    }


@app.command()
def show(
    files: Files,
    source: Annotated[
        bool, typer.Option("--source", help="The file as it is, with its comments and sources.")
    ] = False,
) -> None:
    """Print rules as they are understood, every default spelled out, as a file to start from.

    shipclock policy show NAME > mine.toml
    """
    from streams.rulebook.loading import policy_files
    from streams.rulebook.show import policy_text

    if source:
        for name in files:
            for file in policy_files(name):
                typer.echo(printable(f"# {file.origin}"))
                typer.echo(file.text)
        return
    for file, policy in read_policies(files):
        typer.echo(printable(f"# {file.origin} as it is understood, every default spelled out."))
        typer.echo(policy_text(policy))


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=_SOURCE)],
    after: Annotated[str, typer.Argument(metavar="AFTER", help=_SOURCE)],
    as_json: Json = False,
) -> None:
    """Say in words what differs between two sets of rules."""
    from streams.rulebook.diff import differences

    olds, news = ([policy for _, policy in read_policies([side])] for side in (before, after))
    found = differences(olds, news)
    if as_json:
        typer.echo(json.dumps([each._asdict() for each in found], ensure_ascii=False))
        return
    for each in found:
        typer.echo(printable(str(each)))
    if not found:
        typer.echo("no difference")


@app.command("list")
def list_policies() -> None:
    """List the rules that come with shipclock."""
    from rich.console import Console
    from rich.table import Table

    table = Table("policy", "platform", "kinds", "time zone", box=None, pad_edge=False)
    for name in pack_names():
        for _, policy in read_policies([name]):
            table.add_row(policy.label, policy.platform, ", ".join(policy.kinds), policy.time_zone)
    Console(width=_LIST_WIDTH).print(table)
