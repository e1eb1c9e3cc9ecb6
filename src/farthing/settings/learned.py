"""The section `learned` of a router: what is learnt decides. See docs/learned-router.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from farthing.settings.basic import Count, Seconds, Section, Usd

Quality = Annotated[float, Field(gt=0, le=1)]


class ExploreSettings(Section):
    """Now and then another model than the chosen one answers, so that something is learnt of it."""

    share: Annotated[float, Field(ge=0, le=0.5)] = 0
    """Of the requests that the learned router decides."""
    usd_per_day: Usd = Decimal(1)
    """What one worker may spend on it in a UTC day, beyond what the chosen models would have cost, by estimate."""


class LearnedSettings(Section):
    """The trained router. `quality`: the share of the best model's quality that is kept; a request may ask for another one."""

    quality: Quality = 0.95
    embed_timeout_s: Seconds = 0.25
    """How long reading the prompt may take; after that the router's default answers."""
    explore: ExploreSettings = ExploreSettings()
    sample: Annotated[float, Field(ge=0, le=1)] = 1
    """Share of the requests whose outcome is kept."""
    max_outcomes: Count = 100_000
    """Outcomes that are kept; the oldest go. Routers share what all of them together may keep."""
    max_remembered: Count = 10_000
    """Prompts (as numbers, not as text) that a worker remembers until checks or people say how good their answers were."""
    max_pending: Count = 2000
    """Outcomes that a worker holds until PostgreSQL has them. Beyond it, new ones are dropped and counted."""
