"""`farthing memory …`: what is remembered of users."""

from __future__ import annotations

import os

import typer

from farthing.cli import memory_facts, memory_score

app = typer.Typer(
    help="What is remembered of users, and why; forget them; score the choice of turns on your own conversations.", no_args_is_help=True
)

app.command()(memory_facts.show)
app.command()(memory_facts.history)
app.command()(memory_facts.forget)
app.command(name="score")(memory_score.score_command)


@app.callback()
def begin() -> None:
    """Before any of them loads numpy: its threads wait for each other busily wherever cores are taken."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
