"""`farthing route …`: the routers."""

from __future__ import annotations

import typer

from farthing.cli import route_explain, route_score

app = typer.Typer(help="Routers: which model answers what, and why; train and score them on your own data.", no_args_is_help=True)

app.command(name="explain")(route_explain.explain)
app.command()(route_score.score)
app.command(name="train")(route_score.train_command)
