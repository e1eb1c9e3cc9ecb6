"""`farthing jobs …`: what a running installation does in the background."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table

app = typer.Typer(help="Jobs: runs of items in the background.", no_args_is_help=True)
RunArgument = Annotated[str, typer.Argument(help="The run's id, from `farthing jobs list`.")]
_COUNTS = ("waiting", "running", "done", "failed", "cancelled")


@app.command(name="list")
def list_runs(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    state: Annotated[str | None, typer.Option(help="filling, running, done or cancelled.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 50,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List runs, newest first, and how far they are."""
    given = {"tenant": tenant, "kind": kind, "state": state, "limit": limit}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/jobs?{query}")
    if as_json:
        print(json.dumps(found))
        return
    print_table(("run", "kind", "name", "state", *_COUNTS), [[_cells(run) for run in found["data"]]], numbers_from=4)


@app.command()
def show(
    run: RunArgument,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show a run: what it is, how far it is."""
    _print_run(call(read_settings(settings, data).data, "GET", path_of(run)), as_json=as_json)


@app.command()
def cancel(
    run: RunArgument,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Begin no more items of a run, and tell those that are under way."""
    _print_run(call(read_settings(settings, data).data, "POST", f"{path_of(run)}/cancel"), as_json=as_json)


@app.command()
def results(
    run: RunArgument,
    state: Annotated[str | None, typer.Option(help="Only items in this state: waiting, running, done, failed or cancelled.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most; 0 for all.", min=0)] = 0,
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Print what came of the items so far: a JSON object on a line for each, in the order in which they were added."""
    folder = read_settings(settings, data).data
    printed = 0
    after: str | None = None
    while True:
        page = _page(folder, run, state, min(_MOST_OF_A_PAGE, limit - printed) if limit else _MOST_OF_A_PAGE, after)
        for item in page["data"]:
            print(json.dumps(item))
        printed += len(page["data"])
        after = page["next"]
        if after is None or (limit and printed >= limit):
            return


_MOST_OF_A_PAGE = 1000


def _page(folder: Path, run: str, state: str | None, limit: int, after: str | None) -> Any:
    given = {"state": state, "limit": limit, "after": after}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return call(folder, "GET", f"{path_of(run)}/results?{query}")


def path_of(run: str) -> str:
    """Where a run's admin doors are."""
    return f"/admin/v1/jobs/{quote(run, safe='')}"


def _print_run(run: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(run))
        return
    progress = run["progress"]
    print(f"{run['id']}: {run['kind']} {run['name']}, {run['state']}")
    print(", ".join(f"{progress[name]} {name}" for name in _COUNTS) + f"; {progress['total']} in all, {run['wide']} at a time")
    print(f"made {run['created_at']}" + (f", ended {run['ended_at']}" if run["ended_at"] else ""))


def _cells(run: dict[str, Any]) -> tuple[str, ...]:
    return (run["id"], run["kind"], run["name"], run["state"], *(str(run["progress"][name]) for name in _COUNTS))
