"""`farthing settings …`."""

from __future__ import annotations

import json

import typer

from farthing.app_catalogue import models_of
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.settings import effective

app = typer.Typer(help="The settings.", no_args_is_help=True)


@app.command()
def check(settings: SettingsOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """Validate the settings and print the effective ones, secrets masked."""
    found = read_settings(settings, data)
    models_of(found)
    print(json.dumps(found.model_dump(mode="json")) if as_json else effective(found), end="\n" if as_json else "")
