"""The section on modes: how much is done for a request while money is short. See docs/modes.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farthing.settings.basic import Count, Seconds, Section, Usd


class RungSettings(Section):
    """A mode. See `types.Mode` for what each line holds back."""

    model: str | None = None
    retrieval_chunks: Count | None = None
    retrieval_tokens: Count | None = None
    history_turns: Count | None = None
    max_tokens: Count | None = None
    cache_delta: Annotated[float, Field(ge=0, le=0.2)] | None = None
    cache_ttl_stretch: Annotated[float, Field(ge=1, le=1000)] = 1
    cascade: bool = True
    judge: bool = True


class ModesSettings(Section):
    """The ladder, the best mode first, and when it is gone down and up. Without a `ceiling_usd` modes change by hand only."""

    ladder: dict[str, RungSettings] = {}
    window_s: Seconds = 3600
    ceiling_usd: Usd | None = None
