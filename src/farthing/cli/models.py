"""`farthing models`."""

from __future__ import annotations

import json

import msgspec

from farthing.app_catalogue import deployments_of, models_of
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.cli.tables import print_table
from farthing.providers.local.weights import SHIPPED


def models(settings: SettingsOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """List the model catalogue with its routers, and the licences of the weights that Farthing ships."""
    found = read_settings(settings, data)
    catalogue = [
        {
            "name": name,
            "kind": model.kind,
            "tags": model.tags,
            "deployments": [f"{one.provider}/{one.upstream_model}" for one in deployments_of(model)],
            "fallbacks": model.fallbacks,
        }
        for name, model in models_of(found).items()
    ]
    routers = [{"name": name, "models": router.models} for name, router in found.routing.routers.items()]
    if as_json:
        print(json.dumps({"models": catalogue, "routers": routers, "weights": msgspec.to_builtins(SHIPPED)}))
        return
    rows = [(str(row["name"]), str(row["kind"]), ", ".join(row["tags"]), ", ".join(row["deployments"])) for row in catalogue]
    print_table(("model", "kind", "tags", "deployments"), [rows])
    if routers:
        print_table(("router", "candidates"), [[(str(row["name"]), ", ".join(row["models"])) for row in routers]])
    weights = [(weight.name, weight.upstream, weight.licence, weight.licence_stated) for weight in SHIPPED]
    print_table(("weights shipped", "upstream", "licence", "stated in"), [weights])
