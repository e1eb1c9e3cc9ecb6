"""The part of a model's settings on hedging. See docs/models.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farthing.settings.basic import Seconds, Section


class HedgeSettings(Section):
    """A second call beside the first one while that has not begun to answer: the faster one is given, the other cut off."""

    after_s: Seconds
    """How long the first one has: for the first token of a stream, or for a whole answer."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of the model's requests in a worker, how many may be asked twice: what is cut off is paid for."""
    same: bool = False
    """Ask the same deployment again where there is no other."""
