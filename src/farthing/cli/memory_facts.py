"""`farthing memory show|history|forget`: what is remembered of a user in a running installation."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table

UserArgument = Annotated[str, typer.Argument(help="The user's id.")]
TenantOption = Annotated[str, typer.Option(help="Whose user.")]
_MOST = 1000


def show(
    user: UserArgument,
    tenant: TenantOption,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show what holds of a user now, since when, and who read it where."""
    found = call(read_settings(settings, data).data, "GET", _path(user, tenant=tenant))
    if as_json:
        print(json.dumps(found))
        return
    columns = ("key", "value", "since", "sure", "by", "sources", "id")
    print_table(columns, [[_cells(one) for one in found["facts"]]], numbers_from=len(columns))


def history(
    user: UserArgument,
    tenant: TenantOption,
    about: Annotated[str | None, typer.Option(help="Only facts of this key.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="At most so many, newest first.")] = 100,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show all that was ever believed of a user, newest first, and what ended it."""
    wanted = {"tenant": tenant, "history": "true", "limit": str(limit), **({} if about is None else {"about": about})}
    found = call(read_settings(settings, data).data, "GET", _path(user, **wanted))
    if as_json:
        print(json.dumps(found))
        return
    columns = ("key", "value", "since", "sure", "by", "sources", "id", "until", "ended by")
    rows = [(*_cells(one), *_end(one)) for one in found["history"]]
    print_table(columns, [rows], numbers_from=len(columns))


def forget(
    user: UserArgument,
    tenant: TenantOption,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Delete everything of a user, everywhere, and print the receipt."""
    receipt = call(read_settings(settings, data).data, "DELETE", _path(user, tenant=tenant))
    if as_json:
        print(json.dumps(receipt))
        return
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in receipt["deleted"].items())
    print("\n".join([f"deleted: {counts}", f"receipt {receipt['id']} of {receipt['at'][:19]}", *receipt["remaining"]]))


def _path(user: str, **query: str) -> str:
    return f"/v1/memory/{quote(user, safe='')}?{urlencode(query)}"


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    sources = one["sources"]
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    value = json.dumps(one["value"], ensure_ascii=False)
    return (one["key"], value, one["valid_from"][:19], f"{one['confidence']:.2f}", one["by"], "".join(sources[-1:]) + more, one["id"])


def _end(one: dict[str, Any]) -> tuple[str, str]:
    until = one["known_to"] or one["valid_to"] or ""
    return until[:19], one["ended_by"] or ""
