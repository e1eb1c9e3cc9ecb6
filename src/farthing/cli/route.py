"""`farthing route …`: the routers."""

from __future__ import annotations

import typer

from farthing.cli import route_explain

app = typer.Typer(help="Routers: which model answers what, and why.", no_args_is_help=True)


@app.callback()
def _route() -> None:
    """A group, also while it has one command only."""


app.command(name="explain")(route_explain.explain)
