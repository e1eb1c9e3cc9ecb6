"""The section on answers ready before the click. See docs/foresight.md."""

from __future__ import annotations

from farthing.settings.basic import Section


class ForesightSettings(Section):
    """Foresight."""
