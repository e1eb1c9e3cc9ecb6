"""Options that several commands have, and the settings that follow from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from farthing.app_secrets import fresh_secrets
from farthing.settings import Secrets, Settings, load

DataOption = Annotated[Path | None, typer.Option("--data", help="The data folder (FARTHING_DATA, else ./.farthing).")]
SettingsOption = Annotated[Path | None, typer.Option("--settings", help="The settings file (FARTHING_SETTINGS, else ./farthing.yaml).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_DEFAULT_FILE = Path("farthing.yaml")


def settings_path(given: Path | None) -> Path | None:
    """The settings file: as given, else FARTHING_SETTINGS, else farthing.yaml here if there is one."""
    if given is not None:
        return given
    named = os.environ.get("FARTHING_SETTINGS")
    if named:
        return Path(named)
    return _DEFAULT_FILE if _DEFAULT_FILE.exists() else None


def read_settings(
    path: Path | None, data: Path | None, overrides: dict[str, Any] | None = None, secrets: Secrets | None = None
) -> Settings:
    """The effective settings. `secrets` has afterwards what the file's references stood for."""
    secrets = secrets if secrets is not None else fresh_secrets()
    return load(settings_path(path), os.environ, {**(overrides or {}), **({"data": str(data)} if data else {})}, secrets)
