"""`farthing models`."""

from __future__ import annotations

import json

import msgspec

from farthing.app_catalogue import deployments_of, models_of
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
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
    rows = [(str(row["name"]), str(row["kind"]), ", ".join(row["tags"]), ", ".join(row["deployments"])) for row in catalogue]
    print_table(("model", "kind", "tags", "deployments"), [rows])
    weights = [(weight.name, weight.upstream, weight.licence, weight.licence_stated) for weight in SHIPPED]
    print_table(("weights shipped", "upstream", "licence", "stated in"), [weights])
