"""`farthing settings …`."""

from __future__ import annotations

import json

import typer

from farthing.app_catalogue import check_providers, models_of
from farthing.app_checks import check_validators
from farthing.app_secrets import fresh_secrets
from farthing.app_stores import check_redis
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.settings import effective, masked

app = typer.Typer(help="The settings.", no_args_is_help=True)


@app.command()
def check(settings: SettingsOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """Validate the settings and print the effective ones, secrets masked."""
    secrets = fresh_secrets()
    found = read_settings(settings, data, secrets=secrets)
    models_of(found)
    check_providers(found)
    check_redis(found)
    check_validators(found)
    print(json.dumps(masked(found, secrets)) if as_json else effective(found, secrets), end="\n" if as_json else "")
