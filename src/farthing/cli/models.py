"""`farthing models`."""

from __future__ import annotations

import json

import msgspec
from rich.console import Console
from rich.table import Table

from farthing.app_catalogue import deployments_of, models_of
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.providers.local.weights import SHIPPED


def models(settings: SettingsOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """List the model catalogue, and the licences of the weights that Farthing ships."""
    catalogue = [
        {
            "name": name,
            "kind": model.kind,
            "tags": model.tags,
            "deployments": [f"{one.provider}/{one.upstream_model}" for one in deployments_of(model)],
            "fallbacks": model.fallbacks,
        }
        for name, model in models_of(read_settings(settings, data)).items()
    ]
    if as_json:
        print(json.dumps({"models": catalogue, "weights": msgspec.to_builtins(SHIPPED)}))
        return
    table = Table("model", "kind", "tags", "deployments")
    for row in catalogue:
        table.add_row(str(row["name"]), str(row["kind"]), ", ".join(row["tags"]), ", ".join(row["deployments"]))
    weights = Table("weights shipped", "upstream", "licence", "stated in")
    for weight in SHIPPED:
        weights.add_row(weight.name, weight.upstream, weight.licence, weight.licence_stated)
    console = Console()
    console.print(table)
    console.print(weights)
