"""`farthing retention …`."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings

app = typer.Typer(help="Whose prompts and answers are kept, and their deletion.", no_args_is_help=True)

TenantArgument = Annotated[str, typer.Argument(help="The tenant.")]


@app.command()
def show(
    tenant: TenantArgument,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show whether a tenant's prompts and answers are kept, and for how long."""
    found = call(read_settings(settings, data).data, "GET", f"{_path(tenant)}/retention")
    print(json.dumps(found) if as_json else _said(found))


@app.command(name="set")
def set_policy(
    tenant: TenantArgument,
    ttl: Annotated[str | None, typer.Option(help="How long each text lives: 12h, 30d, 8w. As before, or 30 days, unless given.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Keep a tenant's prompts and answers from now on, encrypted."""
    body = {"enabled": True, "ttl": ttl}
    found = call(read_settings(settings, data).data, "PUT", f"{_path(tenant)}/retention", body)
    print(json.dumps(found) if as_json else _said(found))


@app.command()
def off(
    tenant: TenantArgument,
    purge: Annotated[bool, typer.Option(help="Delete what is kept, too.")] = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Keep nothing of a tenant any more. What is there lives until it expires, unless it is purged."""
    query = "?purge=true" if purge else ""
    found = call(read_settings(settings, data).data, "DELETE", f"{_path(tenant)}/retention{query}")
    print(json.dumps(found) if as_json else _said(found))


@app.command()
def erase(
    tenant: TenantArgument,
    user: Annotated[str | None, typer.Option(help="Of this user.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of all users, cached answers included.")] = False,  # noqa: FBT002 - a flag
    flush_cache: Annotated[bool, typer.Option(help="With --user: delete the tenant's cached answers, too.")] = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Delete the texts that are kept of one user, or of a whole tenant."""
    if (user is None) is not everything:
        raise typer.BadParameter("say either --user USER or --all")
    whose = "/data" if user is None else f"/users/{quote(user, safe='')}/data" + ("?flush_cache=true" if flush_cache else "")
    done = call(read_settings(settings, data).data, "DELETE", _path(tenant) + whose)
    print(json.dumps(done) if as_json else _counts(done))


def _path(tenant: str) -> str:
    return f"/admin/v1/tenants/{quote(tenant, safe='')}"


def _said(found: dict[str, Any]) -> str:
    lines = [f"{found['tenant']}: {'prompts and answers are kept' if found['storing'] else 'nothing is kept'}"]
    if found["storing"]:
        lines[0] += f" for {found['ttl_s']} s"
    if "purged" in found:
        lines.append(f"{found['purged']} texts deleted")
    return "\n".join([*lines, *filter(None, [found.get("problem")])])


def _counts(done: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in done["deleted"].items() if count is not None)
    return "\n".join([f"deleted: {counts}", *done["remaining"]])
