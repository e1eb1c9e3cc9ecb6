"""`farthing foresight …`."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
from farthing.types import dollars

app = typer.Typer(help="Foresight: answers that are ready before the click.", no_args_is_help=True)

TenantOption = Annotated[str | None, typer.Option(help="Whose clicks.")]
_COUNTS = ("computed", "read", "stale", "expired", "open", "served", "live")
_MONEY = ("spent_microusd", "wasted_microusd", "saved_microusd")


@app.command()
def actions(
    tenant: TenantOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List the actions of the settings; with a tenant, how likely its clicks on them are."""
    query = "" if tenant is None else "?" + urlencode({"tenant": tenant})
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/foresight/actions{query}")
    if as_json:
        print(json.dumps(found))
        return
    columns = ("action", "after", "model", "depends on", "segment", "click", "known")
    print_table(columns, [_action(one) for one in found["data"]], numbers_from=5)


@app.command()
def waste(
    week: Annotated[str | None, typer.Option(help="A day in the week, such as 2026-11-23; this week unless it is given.")] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show what was computed ahead in a week, what of it was read, and what the rest has cost."""
    given = {name: value for name, value in {"week": week, "tenant": tenant}.items() if value is not None}
    query = "?" + urlencode(given) if given else ""
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/foresight/waste{query}")
    if as_json:
        print(json.dumps(found))
        return
    columns = ("tenant", "action", "segment", *_COUNTS, "click", "spent", "wasted", "saved")
    rows = [_cells(row) for row in found["rows"]]
    total = ("all", "", "", *(str(found[name]) for name in _COUNTS), "", *(dollars(found[name]) for name in _MONEY))
    print(f"Week of {found['week']}, money in USD")
    print_table(columns, [rows, [total]], numbers_from=3)


def _action(one: dict[str, Any]) -> list[list[str]]:
    named = [one["action"], ", ".join(one["after"]), one["model"], ", ".join(one["depends_on"])]
    segments = one.get("segments") or [{"segment": "", "click": "", "known": ""}]
    return [[*named, row["segment"], str(row["click"]), str(row["known"])] for row in segments]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(row[name]) for name in _COUNTS)
    return (row["tenant"], row["action"], row["segment"], *counts, f"{row['click']:.3f}", *(dollars(row[name]) for name in _MONEY))
