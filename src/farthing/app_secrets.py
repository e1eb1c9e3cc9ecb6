"""Which vaults the settings may refer to. Part of the composition root: whoever reads the settings anew begins with `fresh_secrets()`."""

from __future__ import annotations

from farthing.aws.vault import SecretsManager
from farthing.settings import Secrets


def fresh_secrets(known: dict[str, str] | None = None) -> Secrets:
    """For one load of the settings. `known`: see `Secrets`."""
    return Secrets({"aws-secret": SecretsManager}, known)
