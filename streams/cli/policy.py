"""`shipclock policy`: check, show, compare, try and list rules."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Check, show, compare, try and list rules.")
