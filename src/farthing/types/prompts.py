"""A prompt that was put in front of a request. See `types`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A system text. `version` is its name and a hash over all its texts; `variants` are what it says to families of models."""

    version: str
    system: str
    variants: Mapping[str, str] = {}

    def text(self, family: str | None) -> str:
        """What a model of this family is told."""
        return self.variants.get(family or "", self.system)
