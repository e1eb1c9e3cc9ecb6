"""The settings: one YAML file, each value overridable by an environment variable, nothing read at import.

`FARTHING_SERVER__PORT=9000` overrides `server.port`: the prefix, then the path in capitals, levels joined by two underscores; the value is
YAML. `${NAME}` inside a value of the file stands for an environment variable. A name that no setting has is an error that proposes the
nearest one: a misspelt budget must not be a missing budget.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from farthing.errors import SettingsError
from farthing.settings.providers import AnyProviderSettings
from farthing.settings.tree import Settings, nearest
from farthing.types import Json

PREFIX = "FARTHING_"
RESERVED = frozenset({"FARTHING_DATA", "FARTHING_SETTINGS"})
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KIND_AT = 2


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the file (none: defaults), lay the environment over it, then `overrides` ({"server.port": 1}), and validate.

    Raises `SettingsError` that names each wrong key.
    """
    tree = _interpolate(_read(path), environ, "") if path else {}
    if "FARTHING_DATA" in environ:
        tree["data"] = environ["FARTHING_DATA"]
    for name, text in environ.items():
        if name.startswith(PREFIX) and name not in RESERVED:
            _put(tree, name.removeprefix(PREFIX).lower().split("__"), _value(name, text), name)
    for dotted, value in (overrides or {}).items():
        _put(tree, dotted.split("."), value, dotted)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None


def _read(path: Path) -> Json:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"the settings file {path} must hold named sections (a YAML mapping), not a {type(tree).__name__}")
    return tree


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"{name}: the value is not YAML; put it in quotes") from None


def _interpolate(value: Any, environ: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(item, environ, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolate(item, environ, f"{where}[{at}]") for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise SettingsError(f"{where}: the environment variable {match[1]} is not set")
        return environ[match[1]]

    return _REFERENCE.sub(look_up, value)


def _put(tree: Json, path: list[str], value: Any, name: str) -> None:
    for part in path[:-1]:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            raise SettingsError(f"{name}: {part!r} is a value, not a section")
        tree = below
    tree[path[-1]] = value


def _explain(item: ErrorDetails) -> str:
    where = ".".join(str(part) for part in _shown(item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"{where}: there is no such setting{nearest(str(item['loc'][-1]), _names_at(item['loc'][:-1]))}"
    if item["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        kinds = {kind for member in get_args(get_args(AnyProviderSettings)[0]) for kind in _kinds(member)}
        given = item.get("ctx", {}).get("tag")
        return f"{where}.kind: " + (
            f"there is no {given!r}{nearest(str(given), kinds)}" if given else f"is missing; known: {', '.join(sorted(kinds))}"
        )
    message = item["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _shown(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A place as the file has it. pydantic puts a provider's kind between its name and its fields."""
    return (*loc[:2], *loc[3:]) if loc[:1] == ("providers",) and len(loc) > _KIND_AT else loc


def _names_at(loc: tuple[int | str, ...]) -> set[str]:
    """The names that are valid at a place in the tree. Below a dict or list, the next part of the place is any key or index."""
    here: Any = Settings
    for part in loc:
        here = _unwrapped(here, part)
        if get_origin(here) in (dict, list):
            here = get_args(here)[-1]
        elif isinstance(here, type) and issubclass(here, BaseModel) and str(part) in here.model_fields:
            here = here.model_fields[str(part)].annotation
    here = _unwrapped(here, None)
    return set(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else set()


def _unwrapped(here: Any, kind: object) -> Any:
    """Out of an annotation and a union: the member of that kind, else the first."""
    if get_origin(here) is Annotated:
        here = get_args(here)[0]
    if get_origin(here) not in (Union, UnionType):
        return here
    members = get_args(here)
    return next((member for member in members if kind in _kinds(member)), members[0])


def _kinds(member: Any) -> tuple[Any, ...]:
    """The values that say that a section is of this class."""
    fields = getattr(member, "model_fields", {})
    return get_args(fields["kind"].annotation) if "kind" in fields else ()


def effective(settings: Settings) -> str:
    """The settings as YAML, secrets masked."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
