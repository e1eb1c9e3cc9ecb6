"""`farthing key …`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table

app = typer.Typer(help="Virtual keys.", no_args_is_help=True)


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is.")],
    user: Annotated[str | None, typer.Option(help="The tenant's user, if the key is one user's.")] = None,
    tier: Annotated[str, typer.Option(help="Tier, such as free or pro.")] = "free",
    name: Annotated[str | None, typer.Option(help="A name to know it by.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model it may use; repeat for several. All, if none is given.")] = None,
    admin: Annotated[bool, typer.Option(help="Whether it opens the admin doors.")] = False,  # noqa: FBT002 - a flag
    budget_usd: Annotated[str | None, typer.Option(help="A budget of its own: 5/day, 0.5/hour, '100/month soft'.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Requests a minute, instead of its tier's.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Tokens a minute, instead of its tier's.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests at the same time, instead of its tier's.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Create a key. It is shown once and stored only as a hash."""
    body = {
        "tenant": tenant,
        "user": user,
        "tier": tier,
        "name": name,
        "models": model or None,
        "admin": admin,
        "budget_usd": budget_usd,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrency": concurrency,
    }
    made = call(read_settings(settings, data).data, "POST", "/admin/v1/keys", body)
    print(json.dumps(made) if as_json else f"{made['key']}\n(id {made['id']}; it is not shown again)")


@app.command(name="list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List keys, newest first."""
    found = call(read_settings(settings, data).data, "GET", "/admin/v1/keys")
    rows = [row for row in found["data"] if tenant in {None, row["tenant"]}]
    if as_json:
        print(json.dumps({**found, "data": rows}))
        return
    columns = ("id", "tenant", "user", "tier", "name", "ends in", "state")
    cells = [(row["id"], row["tenant"], row["user"] or "", row["tier"], row["name"] or "", f"…{row['hint']}", _state(row)) for row in rows]
    print_table(columns, [cells])


def _state(row: dict[str, Any]) -> str:
    return "revoked" if row["revoked_at"] else "admin" if row["admin"] else "good"


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id.")],
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Revoke a key, for good."""
    done = call(read_settings(settings, data).data, "DELETE", f"/admin/v1/keys/{key_id}")
    print(json.dumps(done) if as_json else f"revoked {done['id']}")
