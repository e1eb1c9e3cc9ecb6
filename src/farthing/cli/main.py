"""The command line: one file per command group, joined here."""

from __future__ import annotations

import sys

import typer

from farthing.cli import (
    budgets,
    cache,
    events,
    feedback,
    foresight,
    jobs,
    keys,
    memory,
    mode,
    models,
    reload,
    report,
    requests,
    retention,
    route,
    settings,
    simulate,
    up,
    worker,
)
from farthing.errors import FarthingError

app = typer.Typer(
    name="farthing",
    help="The AI backend that spends like a startup.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="up")(up.up)
app.command(name="worker")(worker.worker)
app.command(name="reload")(reload.reload)
app.command(name="report")(report.report)
app.command(name="models")(models.models)
app.add_typer(keys.app, name="key")
app.add_typer(budgets.app, name="budget")
app.add_typer(cache.app, name="cache")
app.add_typer(events.app, name="events")
app.add_typer(feedback.app, name="feedback")
app.add_typer(memory.app, name="memory")
app.add_typer(jobs.app, name="jobs")
app.add_typer(mode.app, name="mode")
app.add_typer(foresight.app, name="foresight")
app.add_typer(requests.app, name="requests")
app.add_typer(retention.app, name="retention")
app.add_typer(route.app, name="route")
app.add_typer(settings.app, name="settings")
app.add_typer(simulate.app, name="simulate")


def main() -> None:
    """Run a command. An expected failure is one line on standard error and exit status 1."""
    try:
        app()
    except FarthingError as error:
        sys.stderr.write(f"farthing: {error.message}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
