"""`farthing mode …`."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
from farthing.errors import InvalidRequest

app = typer.Typer(help="Modes: how much is done for requests while money is short.", no_args_is_help=True)

_DOOR = "/admin/v1/mode"
_LENGTH = re.compile(r"(\d{1,9})\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

ModeArgument = Annotated[str, typer.Argument(help="A mode of the ladder, such as SHALLOW.")]
ScopeOption = Annotated[str, typer.Option(help="For whom: total, tier:NAME, tenant:NAME or key:ID.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is kept in the history.")]
VersionOption = Annotated[
    int | None,
    typer.Option("--if-version", help="Only if the version is still this one (see `farthing mode show`); else nothing is changed."),
]


@app.command()
def show(
    scope: Annotated[str | None, typer.Option(help="What holds in this scope too, such as key:ID.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show which mode each scope is in, since when and why."""
    query = "" if scope is None else "?" + urlencode({"scope": scope})
    found = call(read_settings(settings, data).data, "GET", _DOOR + query)
    if as_json:
        print(json.dumps(found))
    else:
        _print_state(found)


@app.command(name="set")
def set_mode(
    mode: ModeArgument,
    scope: ScopeOption = "total",
    reason: ReasonOption = "",
    if_version: VersionOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Set the mode of a scope. The policy may move on from there; `pin` holds it."""
    body = {"mode": mode, "scope": scope, "reason": reason, "version": if_version}
    _done(call(read_settings(settings, data).data, "PUT", _DOOR, body), as_json=as_json)


@app.command()
def pin(
    mode: ModeArgument,
    scope: ScopeOption = "total",
    lasting: Annotated[str | None, typer.Option("--for", help="How long: 90s, 30m, 2h, 7d. Without it, until it is taken away.")] = None,
    until: Annotated[str | None, typer.Option(help="Until when, instead: 2026-11-28T18:00:00Z.")] = None,
    reason: ReasonOption = "",
    if_version: VersionOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Hold a scope in a mode, whatever the policy says."""
    body = {"mode": mode, "scope": scope, "reason": reason, "version": if_version, "until": until}
    if lasting is not None:
        body["for_s"] = _seconds(lasting)
    _done(call(read_settings(settings, data).data, "POST", f"{_DOOR}/pins", body), as_json=as_json)


@app.command()
def unpin(
    scope: ScopeOption = "total",
    reason: ReasonOption = "",
    if_version: VersionOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Take a pin away."""
    query = urlencode({"reason": reason, **({} if if_version is None else {"version": if_version})})
    path = f"{_DOOR}/pins/{quote(scope, safe='')}?{query}"
    _done(call(read_settings(settings, data).data, "DELETE", path), as_json=as_json)


@app.command()
def history(
    limit: Annotated[int, typer.Option(help="How many versions.")] = 20,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Show who changed the modes, when and why; the newest first."""
    found = call(read_settings(settings, data).data, "GET", f"{_DOOR}/history?limit={limit}")
    if as_json:
        print(json.dumps(found))
        return
    rows = [[str(row["version"]), row["at"], row["by"], "; ".join(row["changes"]), row["reason"]] for row in found["data"]]
    print_table(("version", "at", "by", "what", "why"), [rows])


def _seconds(text: str) -> int:
    found = _LENGTH.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        number = re.search(r"\d+", text)
        raise InvalidRequest(f"{text[:64]!r} is no length of time: write {number[0] if number else 2}h, or such as 90s, 30m, 7d")
    return int(found[1]) * _UNITS[found[2][0].lower()]


def _done(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
    else:
        _print_state(found)


def _print_state(found: dict[str, Any]) -> None:
    rows = [_cells(row) for row in found["scopes"]]
    print_table(("scope", "mode", "because", "by", "why"), [rows])
    written = f", written {found['at']} by {found['by']}" if found["version"] else ", never written"
    print(
        f"version {found['version']}{written}" + (" (the config store is away: this is the last that is known)" if found["stale"] else "")
    )
    if found["problem"]:
        print(f"nobody can read this version, so the best mode holds: {found['problem']}")
    if found["spend"]:
        print("\n".join(f"{name}: {value}" for name, value in found["spend"].items()))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A pin goes before an entry."""
    pin, entry = row["pin"], row["entry"]
    if pin is not None:
        return row["scope"], row["mode"], f"pinned until {pin['until']}" if pin["until"] else "pinned", pin["by"], pin["reason"]
    if entry is not None:
        return row["scope"], row["mode"], f"set {entry['since']}", entry["by"], entry["reason"]
    return row["scope"], row["mode"], "", "", ""
