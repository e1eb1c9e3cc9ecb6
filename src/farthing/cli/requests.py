"""`farthing requests …`."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
from farthing.types import dollars

app = typer.Typer(help="Single requests.", no_args_is_help=True)


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(help="The request's id, from the header x-farthing-request-id.")],
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show what became of a request, and its texts where they are kept."""
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/requests/{quote(request_id, safe='')}")
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['id']} at {found['at']}, tenant {found['tenant']}" + (f", user {found['user']}" if found["user"] else ""))
    print_table(_COLUMNS, [[_cells(row) for row in found["attempts"]]])
    for recalled in dict.fromkeys(row["memory"] for row in found["attempts"] if row.get("memory")):
        print(f"memory: {recalled}")
    if found["transcript"] is not None:
        print(json.dumps(found["transcript"], indent=2, ensure_ascii=False))
    else:
        print(found.get("problem") or "No texts are kept of it.")


@app.command(name="list")
def list_requests(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's of the tenant.")] = None,
    since: Annotated[str, typer.Option(help="An age (24h, 7d) or a time (2026-11-23T00:00:00Z).")] = "24h",
    limit: Annotated[int, typer.Option(help="How many at most.")] = 50,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List the latest requests, newest first."""
    given = {"tenant": tenant, "user": user, "since": since, "limit": limit}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/requests?{query}")
    if as_json:
        print(json.dumps(found))
        return
    rows = [
        (row["request_id"], row["tenant"], row["user_id"] or "", *_cells(row), "yes" if row["transcript"] else "") for row in found["data"]
    ]
    print_table(("request", "tenant", "user", *_COLUMNS, "texts"), [rows])


_COLUMNS = ("at", "source", "model", "status", "tokens", "spent $")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    model = row["model_used"] or row["model_asked"] or ""
    status = f"{row['status']} {row['error'] or ''}".strip()
    return (row["at"], row["source"], model, status, f"{row['tokens_in']}+{row['tokens_out']}", dollars(row["cost_microusd"]))
