"""`farthing route …`: which model answers which request."""

from __future__ import annotations

import typer

from farthing.cli import route_score

app = typer.Typer(help="Routers: train and score them on your own data.", no_args_is_help=True)

app.command()(route_score.score)
app.command(name="train")(route_score.train_command)
