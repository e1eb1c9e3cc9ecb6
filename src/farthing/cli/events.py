"""`farthing events …`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table

app = typer.Typer(help="The event bus.", no_args_is_help=True)
_PAUSE_S = 0.5
_LONGEST_DATA = 200
TenantOption = Annotated[str | None, typer.Option(help="Only this tenant's.")]
LimitOption = Annotated[int, typer.Option(help="How many at most.")]


@app.command()
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until interrupted.")] = False,  # noqa: FBT002 - a flag
    tenant: TenantOption = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show the latest events, in the order in which they were stored. With --follow and --json each is a line of JSON."""
    folder = read_settings(settings, data).data
    found = _page(folder, tenant, limit=limit)
    if as_json and not follow:
        print(json.dumps(found))
        return
    while True:
        for event in found["data"]:
            print(json.dumps(event) if as_json else _line(event))
        if not follow:
            return
        sys.stdout.flush()
        if not found["data"]:
            time.sleep(_PAUSE_S)
        found = _page(folder, tenant, limit=1000, after=found["next"])


@app.command()
def dead(
    tenant: TenantOption = None,
    handler: Annotated[str | None, typer.Option(help="Only those of this handler.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List events that could not be handled, newest first, and why."""
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/events/dead?{_query(tenant=tenant, handler=handler, limit=limit)}")
    if as_json:
        print(json.dumps(found))
        return
    print_table(("id", "at", "handler", "tenant", "type", "attempts", "error"), [[_letter(one) for one in found["data"]]])


@app.command()
def replay(
    ids: Annotated[list[str], typer.Argument(help="Dead letters, by their ids.")],
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Deliver dead letters again, as if they were new."""
    done = call(read_settings(settings, data).data, "POST", "/admin/v1/events/replay", {"ids": ids})
    print(json.dumps(done) if as_json else f"{done['replayed']} of {done['asked']} are delivered again")


@app.command()
def backlog(
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show how far behind each handler is."""
    found = call(read_settings(settings, data).data, "GET", "/admin/v1/events/backlog")
    if as_json:
        print(json.dumps(found))
        return
    rows = [(one["handler"], str(one["waiting"]), str(one["dead"]), f"{one['lag_s']:.1f}") for one in found["data"]]
    print_table(("handler", "waiting", "dead", "lag s"), [rows], numbers_from=1)


def _page(folder: Path, tenant: str | None, *, limit: int, after: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = call(folder, "GET", f"/admin/v1/events?{_query(tenant=tenant, limit=limit, after=after)}")
    return found


def _query(**given: object) -> str:
    return urlencode({name: value for name, value in given.items() if value is not None})


def _line(event: dict[str, Any]) -> str:
    said = json.dumps(event["data"], ensure_ascii=False)
    cut = said if len(said) <= _LONGEST_DATA else f"{said[:_LONGEST_DATA]}…"
    about = " ".join(event[name] for name in ("subject", "user") if event[name])
    return f"{event['position']} {event['time']} {event['tenant']} {event['type']} {about} {cut}"


def _letter(one: dict[str, Any]) -> tuple[str, ...]:
    event = one["event"]
    return (one["id"], one["at"][:19], one["handler"], event["tenant"], event["type"], str(one["attempts"]), one["error"])
