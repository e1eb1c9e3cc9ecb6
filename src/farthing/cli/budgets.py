"""`farthing budget …`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
from farthing.types import dollars

app = typer.Typer(help="Budgets.", no_args_is_help=True)


@app.command(name="set")
def set_budget(
    budget_usd: Annotated[str, typer.Argument(help="Dollars per window: 5/day, 0.5/hour, 100/month, 5/rolling-24h, '5/day soft'.")],
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    user: Annotated[str | None, typer.Option(help="Of this user of the tenant.")] = None,
    key: Annotated[str | None, typer.Option(help="Of the key with this id.")] = None,
    tier: Annotated[str | None, typer.Option(help="Of all keys of this tier together.")] = None,
    total: Annotated[bool, typer.Option(help="Of all together.")] = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Set a budget, or change the limit of the one with the same owner and window."""
    body = {"budget_usd": budget_usd, "tenant": tenant, "user": user, "key": key, "tier": tier, "total": total}
    made = call(read_settings(settings, data).data, "POST", "/admin/v1/budgets", body)
    print(
        json.dumps(made)
        if as_json
        else f"{_whose(made)}: {made['budget_usd']}, {dollars(made['spent_microusd'])} USD spent (id {made['id']})"
    )


@app.command(name="list")
def list_budgets(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List budgets and how they stand."""
    found = call(read_settings(settings, data).data, "GET", "/admin/v1/budgets")
    rows = [row for row in found["data"] if tenant in {None, row["tenant"]}]
    if as_json:
        print(json.dumps({**found, "data": rows}))
        return
    columns = ("id", "whose", "window", "kind", "from", "limit", "spent", "held by workers")
    print_table(columns, [[_cells(row) for row in rows]], numbers_from=5)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    money = (dollars(row[name]) for name in ("limit_microusd", "spent_microusd", "held_microusd"))
    return (row["id"], _whose(row), row["window"], "hard" if row["hard"] else "soft", row["origin"], *money)


def _whose(row: dict[str, Any]) -> str:
    if row["scope"] == "total":
        return "total"
    return f"{row['scope']} {row['subject']}" + (f" of {row['tenant']}" if row["scope"] == "user" else "")


@app.command()
def delete(
    budget_id: Annotated[str, typer.Argument(help="The budget's id.")],
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Delete a budget. What it covered may spend freely again."""
    done = call(read_settings(settings, data).data, "DELETE", f"/admin/v1/budgets/{budget_id}")
    print(json.dumps(done) if as_json else f"deleted {done['id']}")
