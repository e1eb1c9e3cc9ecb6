"""The settings: one YAML file, each value overridable by an environment variable, nothing read at import.

`FARTHING_SERVER__PORT=9000` overrides `server.port`: the prefix, then the path in capitals, levels joined by two underscores; the value is
YAML. `${…}` inside a value of the file stands for an environment variable or a secret (`settings.references`). A name that no setting has
is an error that proposes the nearest one: a misspelt budget must not be a missing budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from farthing.errors import SettingsError
from farthing.settings.names import nearest
from farthing.settings.providers import AwsSettings
from farthing.settings.references import Secrets, interpolate
from farthing.settings.tree import Settings
from farthing.types import Json

PREFIX = "FARTHING_"
RESERVED = frozenset({"FARTHING_DATA", "FARTHING_SETTINGS"})
_AWS = "FARTHING_AWS__"


def load(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None, secrets: Secrets | None = None
) -> Settings:
    """Read the file (none: defaults), lay the environment over it, then `overrides` ({"server.port": 1}), and validate.

    `secrets` says where secrets that the file refers to are looked up, and has afterwards what was found; without it, in files only. That
    may block for a bounded time. Raises `SettingsError` that names each wrong key.
    """
    return load_text(read_text(path) if path else None, environ, overrides, secrets, name=f"the settings file {path}")


def load_text(
    text: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    secrets: Secrets | None = None,
    *,
    name: str = "the settings file",
) -> Settings:
    """`load` for the text of a settings file; `name` is what its errors call it."""
    tree = _parse(text, name) if text else {}

    def aws() -> AwsSettings:
        """The section by which the others' secrets are looked up. Its own may be in files."""
        section = interpolate(tree.get("aws") or {}, environ, Secrets(), AwsSettings, "aws")
        return _validated(_laid_over({"aws": section}, {key: value for key, value in environ.items() if _AWS in key}, {})).aws

    secrets = secrets if secrets is not None else Secrets()
    return _validated(_laid_over(interpolate(tree, environ, secrets, aws), environ, overrides or {}))


def _laid_over(tree: Json, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Json:
    if "FARTHING_DATA" in environ:
        tree["data"] = environ["FARTHING_DATA"]
    for variable, value in environ.items():
        if variable.startswith(PREFIX) and variable not in RESERVED:
            _put(tree, variable.removeprefix(PREFIX).lower().split("__"), _value(variable, value), variable)
    for dotted, given in overrides.items():
        _put(tree, dotted.split("."), given, dotted)
    return tree


def _validated(tree: Json) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None


def read_text(path: Path) -> str:
    """The text of the settings file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"the settings file {path} is not YAML: {error}") from None


def _parse(text: str, name: str) -> Json:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{name} is not YAML: {_complaint(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{name} must hold named sections (a YAML mapping), not a {type(tree).__name__}")
    return tree


def _complaint(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself, which may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return type(error).__name__
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{error.problem or error.context}{where}"


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"{name}: the value is not YAML; put it in quotes") from None


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
        kinds = {kind for member in _members(_at(item["loc"])) for kind in _kinds(member)}
        given = item.get("ctx", {}).get("tag")
        return f"{where}.kind: " + (
            f"there is no {given!r}{nearest(str(given), kinds)}" if given else f"is missing; known: {', '.join(sorted(kinds))}"
        )
    message = item["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _shown(loc: tuple[int | str, ...]) -> Iterator[int | str]:
    """A place as the file has it. pydantic puts the kind of a provider, a check, … between its place and its fields."""
    for at, part in enumerate(loc):
        if not any(part in _kinds(member) for member in _members(_at(loc[:at]))):
            yield part


def _names_at(loc: tuple[int | str, ...]) -> set[str]:
    """The names that are valid at a place in the tree."""
    here = _unwrapped(_at(loc), None)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return set()
    return {field.alias or name for name, field in here.model_fields.items()}


def _at(loc: tuple[int | str, ...]) -> Any:
    """What the tree has at a place. Below a dict or list, the next part of the place is any key or index."""
    here: Any = Settings
    for part in loc:
        here = _unwrapped(here, part)
        if get_origin(here) in (dict, list):
            here = get_args(here)[-1]
        elif isinstance(here, type) and issubclass(here, BaseModel) and str(part) in here.model_fields:
            here = here.model_fields[str(part)].annotation
    return here


def _members(here: Any) -> tuple[Any, ...]:
    """The members of a union."""
    here = get_args(here)[0] if get_origin(here) is Annotated else here
    return get_args(here) if get_origin(here) in (Union, UnionType) else ()


def _unwrapped(here: Any, kind: object) -> Any:
    """Out of an annotation and a union: the member of that kind, else the first."""
    members = _members(here)
    if members:
        return next((member for member in members if kind in _kinds(member)), members[0])
    return get_args(here)[0] if get_origin(here) is Annotated else here


def _kinds(member: Any) -> tuple[Any, ...]:
    """The values that say that a section is of this class."""
    fields = getattr(member, "model_fields", {})
    return get_args(fields["kind"].annotation) if "kind" in fields else ()


def effective(settings: Settings, secrets: Secrets | None = None) -> str:
    """The settings as YAML, secrets masked: those of settings that are for secrets, and those that references stood for."""
    return yaml.safe_dump(masked(settings, secrets), sort_keys=False, allow_unicode=True)


def masked(settings: Settings, secrets: Secrets | None = None) -> Json:
    """`effective` before it is made YAML."""
    found: Json = (secrets or Secrets()).mask(settings.model_dump(mode="json"))
    return found
