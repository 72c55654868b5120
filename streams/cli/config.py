"""`shipclock config`: which settings are in force, and whether they are right."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.configured import configured
from streams.cli.options import Part
from streams.cli.printable import printable
from streams.core.errors import UserError
from streams.core.words import counted
from streams.settings import KEYS, Key, Loaded, SettingsError, Sources, load

app = typer.Typer(
    no_args_is_help=True, help="Show the settings in force and where they come from; check them."
)


@app.command()
@configured
def show(
    every: Annotated[
        bool,
        typer.Option("--all", help="With what each setting means and its name in the environment."),
    ] = False,
    *,
    loaded: Loaded,
) -> None:
    """Print all settings as TOML that `--config` reads back; secrets are hidden."""
    for key in KEYS.values():
        if every:
            typer.echo(f"# {key.meaning}\n# environment: {key.variable}")
            if key.choices:
                typer.echo(f"# one of: {', '.join(key.choices)}")
        typer.echo(_line(key, loaded))
        if every:
            typer.echo()


@app.command()
@configured
def check(
    part: Annotated[
        Part | None, typer.Option("--for", help="See whether this has its rights, too.")
    ] = None,
    *,
    sources: Sources,
) -> None:
    """Report every mistake in the settings; then connect, and report what the cluster refuses."""
    from streams.kafka.diagnosis import diagnose

    try:
        loaded = load(sources)
    except SettingsError as error:
        for problem in error.problems:
            typer.echo(printable(problem), err=True)
        raise UserError(
            f"{counted(len(error.problems), 'mistake')} in the settings",
            "list the settings with: shipclock config show --all",
            exit_code=2,
        ) from None
    typer.echo("the settings are valid")
    connection = loaded.connection
    found = asyncio.run(diagnose(connection))
    if found is None:
        typer.echo(f"the cluster at {connection.bootstrap} lets this client in")
        if part is not None:
            asyncio.run(_check_rights(part, loaded))
    else:
        raise UserError(found.detail, found.hint)


async def _check_rights(part: Part, loaded: Loaded) -> None:
    from streams.kafka.acls import HINT, lacking, lacking_rights
    from streams.kafka.errors import clear_errors
    from streams.kafka.waiting import close_quietly
    from streams.runtime.client import CONNECT_TIMEOUT_S
    from streams.runtime.rights import rights_of

    connection = loaded.connection
    needs = rights_of(part, connection, loaded.settings.app_id, "")
    async with clear_errors(connection, needs):
        admin = connection.admin()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await admin.start()
                found = await lacking_rights(admin, needs)
        finally:
            await close_quietly(admin.close, admin)
    for resource, name in sorted({(acl.resource, acl.name) for acl in found.lacks}):
        typer.echo(lacking(resource, [name], found.lacks).detail, err=True)
    if found.lacks:
        raise UserError(f"{counted(len(found.lacks), 'right')} missing for {part}", HINT)
    if found.unknown:
        raise UserError(
            f"nothing is known of the rights on {counted(len(found.unknown), 'topic')} that do not "
            f"exist, among them {found.unknown[0]}",
            "shipclock topics create",
        )
    typer.echo(f"this user has the rights that {part} needs")


def _line(key: Key, loaded: Loaded) -> str:
    given = loaded.given.get(key.name)
    value = _value(key, loaded) if given is None else given.value
    origin = "default" if given is None else given.origin
    if value is None:
        return f"# {key.name} is not set"
    if key.secret:
        return f"# {key.name} is hidden: {origin}"
    if key.is_file:
        # A relative one would count from the folder of the file that this becomes.
        value = str(Path(value).absolute())
    return f"{key.name} = {_toml(value)}  # {printable(origin)}"


def _value(key: Key, loaded: Loaded) -> Any:
    """Look a value up where it is used: some defaults follow from other settings."""
    for owner in (loaded.connection, loaded.settings, loaded):
        if hasattr(owner, key.name):
            return getattr(owner, key.name)
    return key.default


def _toml(value: object) -> str:
    # A JSON string is a TOML string, and so are true, false and whole numbers.
    return printable(json.dumps(value, ensure_ascii=False))
