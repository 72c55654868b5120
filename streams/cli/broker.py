"""`shipclock broker`: the embedded Kafka alone."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from streams.broker import EmbeddedBroker, Progress, broker_status, home_folder, stop_broker
from streams.cli.interrupt import tidied_up
from streams.core.errors import UserError

app = typer.Typer(
    name="broker",
    help="Run a real one-node Apache Kafka on this machine, without Docker or an installed Java.",
    no_args_is_help=True,
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder of the broker's data and log, new or empty at the first start; a later one "
        "finds its topics again.",
        show_default="shipclock/broker in your data folder",
    ),
]


def _data_dir(given: Path | None) -> Path:
    """Return the folder given, else the one in the user's data folder.

    Raises:
        UserError: None is given and the user has no home.
    """
    return given or home_folder("XDG_DATA_HOME", ".local/share", "give --data-dir DIR") / "broker"


@app.command()
def start(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1 for clients.")
    ] = 9092,
    data_dir: DataDir = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Return once it is ready; end it with `broker stop`."),
    ] = False,
) -> None:
    """Start the broker and run it until Ctrl-C.

    The first start fetches Apache Kafka (43 MB) into your cache; later ones take seconds.
    Clients use 127.0.0.1:PORT; nothing outside this machine can reach it.
    """
    broker = EmbeddedBroker(_data_dir(data_dir), port)
    if detach:
        start_with_progress(broker, detached=True)
        typer.echo(f"Kafka is ready at {broker.bootstrap}, data in {broker.data_dir}.")
        return
    start_with_progress(broker)
    try:
        with tidied_up():
            typer.echo(f"Kafka is ready at {broker.bootstrap}, data in {broker.data_dir}.")
            typer.echo("Press Ctrl-C to end it.")
            exit_code = broker.wait()
    except KeyboardInterrupt:
        broker.stop()
        exit_code = 0
    if exit_code != 0:
        raise UserError("the broker ended unexpectedly", hint=f"its log: {broker.log_path}")
    typer.echo("Kafka has ended; its data is kept.")


@app.command()
def status(data_dir: DataDir = None) -> None:
    """Show whether a broker runs on the data folder, and where (exit code 1 if not)."""
    folder = _data_dir(data_dir)
    found = broker_status(folder)
    if found is None:
        typer.echo(f"not running\ndata dir:  {folder}")
        raise typer.Exit(1)
    typer.echo("running" if found.ready else "running, but not ready for clients")
    typer.echo(f"bootstrap: {found.bootstrap}\npid:       {found.pid}\ndata dir:  {folder}")


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """End the broker that runs on the data folder, gracefully; its data is kept."""
    folder = _data_dir(data_dir)
    stopped = stop_broker(folder)
    if stopped is None:
        typer.echo(f"No broker runs on {folder}.")
    else:
        typer.echo(f"Kafka at {stopped.bootstrap} (pid {stopped.pid}) has ended; its data is kept.")


def start_with_progress(broker: EmbeddedBroker, detached: bool = False) -> None:
    """Start the broker with a progress bar on stderr; raise BrokerError if it fails."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    live = console.is_terminal
    with (
        tidied_up(),
        ProgressBar(*columns, console=console, transient=True, disable=not live) as bar,
    ):
        task = bar.add_task("Looking for Java and Kafka", total=None)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=progress.step,
                completed=progress.done,
                total=progress.total or None,
            )
            if progress.done == 0 and not live:
                console.print(progress.step)

        broker.start(show, detached)
