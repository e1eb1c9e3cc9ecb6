"""`farthing route …`: the routers."""

from __future__ import annotations

import os

import typer

from farthing.cli import route_explain, route_score, route_train, route_versions

app = typer.Typer(help="Routers: which model answers what, and why; train and score them on your own data.", no_args_is_help=True)

app.command(name="explain")(route_explain.explain)
app.command()(route_score.score)
app.command(name="train")(route_train.train_command)
app.command()(route_versions.versions)
app.command()(route_versions.promote)
app.command()(route_versions.rollback)


@app.callback()
def begin() -> None:
    """Before any of them loads numpy: its threads wait for each other busily wherever cores are taken."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
