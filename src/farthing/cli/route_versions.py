"""`farthing route versions|promote|rollback`: which version of a learned router decides in a running installation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
from farthing.errors import NotFound

RouterArgument = Annotated[str, typer.Argument(help="The router's name in the settings.")]
_SHOWN_METRICS = ("apgr", "cpt50", "cpt80", "n_train")


def versions(
    router: Annotated[str | None, typer.Argument(help="Only this router's.")] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """List the versions of learned routers, newest first, how good they were when they were trained, and which ones decide."""
    found = routers_of(read_settings(settings, data).data)
    chosen = [one for one in found if router in {None, one["router"]}]
    if router is not None and not chosen:
        raise NotFound(_no_router(router, found))
    if as_json:
        print(json.dumps({"object": "list", "data": chosen}))
        return
    columns = ("router", "version", "made", "decides since", *_SHOWN_METRICS)
    print_table(columns, [[_cells(one["router"], version) for version in one["versions"]] for one in chosen], numbers_from=4)


def promote(
    router: RouterArgument,
    version: Annotated[str, typer.Argument(help="Its version; `none`: nothing learnt decides any more, but the router's default.")],
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Let a version decide from now on, in every worker."""
    if version != "none" and not (version.isascii() and version.isdecimal() and 1 <= int(version) < 2**31):
        raise typer.BadParameter("a version is a number from 1, or none", param_hint="version")
    done = put_in_charge(read_settings(settings, data).data, router, None if version == "none" else int(version))
    print(json.dumps(done) if as_json else _said(done))


def rollback(
    router: RouterArgument,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Let the version decide that did before. Once more goes one further back."""
    done = put_in_charge(read_settings(settings, data).data, router, "previous")
    print(json.dumps(done) if as_json else _said(done))


def routers_of(data: Path) -> list[dict[str, Any]]:
    """What the installation knows of its learned routers."""
    found: list[dict[str, Any]] = call(data, "GET", "/admin/v1/routers")["data"]
    return found


def learner(data: Path, router: str) -> dict[str, Any]:
    """A router that can learn. Raises `NotFound`."""
    found = routers_of(data)
    chosen = next((one for one in found if one["router"] == router and one["models"] is not None), None)
    if chosen is None:
        raise NotFound(_no_router(router, found))
    return chosen


def put_in_charge(data: Path, router: str, version: int | str | None) -> dict[str, Any]:
    """Promote a version of a router."""
    done: dict[str, Any] = call(data, "POST", f"{path_of(router)}/promote", {"version": version})
    return done


def path_of(router: str) -> str:
    """Where a router's admin doors are."""
    return f"/admin/v1/routers/{quote(router)}"


def _no_router(name: str, found: list[dict[str, Any]]) -> str:
    known = ", ".join(one["router"] for one in found) or "none"
    return f"there is no learned router {name!r}; known: {known} (routing.routers with a section `learned`, or with versions)"


def _cells(router: str, version: dict[str, Any]) -> tuple[str, ...]:
    metrics = version["metrics"]
    numbers = (metrics.get(name) for name in _SHOWN_METRICS)
    since = version["promoted_at"] or ""
    return (router, str(version["version"]), version["created_at"][:19], since[:19], *(_number(value) for value in numbers))


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value if value is not None else "")


def _said(done: dict[str, Any]) -> str:
    now = done["promoted"]
    return f"{done['router']}: {f'version {now} decides' if now is not None else 'its default decides'}"
