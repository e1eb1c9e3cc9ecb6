"""`farthing report`."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
from farthing.types import dollars


def report(
    since: Annotated[str, typer.Option(help="An age (24h, 7d) or a time (2026-11-23T00:00:00Z).")] = "24h",
    by: Annotated[str, typer.Option(help="model, tenant, key or source.")] = "model",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show what was spent and what was saved."""
    query = urlencode({"since": since, "by": by, **({"tenant": tenant} if tenant else {})})
    found = call(read_settings(settings, data).data, "GET", f"/admin/v1/report?{query}")
    if as_json:
        print(json.dumps(found))
        return
    _show(found, by)


def _show(found: dict[str, Any], by: str) -> None:
    print(f"{found['since']} to {found['until']}")
    columns = (by, "requests", "errors", "tokens in", "tokens out", "spent $", "saved $")
    rows = [(name, *_cells(row)) for name, row in found["rows"].items()]
    sources = [(f"({name})", *_cells(row)) for name, row in found["by_source"].items()]
    print_table(columns, [rows, sources, [("total", *_cells(found))]], numbers_from=1)
    if found["notional_microusd"]:
        models = ", ".join(found["notional_models"])
        print(f"Of the spending, ${dollars(found['notional_microusd'])} is notional: nobody bills {models}.")


def _cells(row: dict[str, Any]) -> list[str]:
    counts = [f"{row[name]:,}" for name in ("requests", "errors", "tokens_in", "tokens_out")]
    return [*counts, dollars(row["spent_microusd"]), dollars(row["saved_microusd"])]
