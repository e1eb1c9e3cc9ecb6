"""The section on modes: how much is done for a request while money is short. See docs/modes.md."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from farthing.settings.basic import Count, Seconds, Section, Usd
from farthing.types import DEEP, Mode

Share = Annotated[float, Field(gt=0, le=1)]


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

    def looser_than(self, better: RungSettings) -> str | None:
        """What this rung allows more of than the one above it; None: nothing."""
        least = ("retrieval_chunks", "retrieval_tokens", "history_turns", "max_tokens")
        for name in least:
            own, above = getattr(self, name), getattr(better, name)
            if (math.inf if own is None else own) > (math.inf if above is None else above):
                return name
        for name in ("cascade", "judge"):
            if getattr(self, name) and not getattr(better, name):
                return name
        for name in ("cache_delta", "cache_ttl_stretch"):
            if (getattr(self, name) or 0) < (getattr(better, name) or 0):
                return name
        return None


class CeilingSettings(Section):
    """What a tenant may spend in a window before its own mode goes down."""

    ceiling_usd: Usd


class KeyModesSettings(Section):
    """Keys that spend far more than others go down alone."""

    ceiling_usd: Usd | None = None
    """What every key may spend in a window before its own mode goes down."""
    abuse_share: Share = 0.5
    """When the total is about to break, a key that makes more than this share of the rate goes down first, alone,"""
    abuse_factor: Annotated[float, Field(ge=1, le=1_000_000)] = 10
    """if it spends at least so many times as fast as the key in the middle."""


class ModesSettings(Section):
    """The ladder, the best mode first, and when it is gone down and up. Without any ceiling modes change by hand only."""

    ladder: dict[str, RungSettings] = {}
    """Modes by name. Each must hold back at least what the one before does. Empty: DEEP, SHALLOW, SUPER_SHALLOW."""
    tiers: list[Annotated[str, Field(min_length=1, max_length=64)]] = []
    """Tiers of keys, the first to go down first. Those that are not named go down before all."""
    window_s: Annotated[float, Field(ge=10, le=86_400)] = 3600
    ceiling_usd: Usd | None = None
    """What all together may spend in any window."""
    tenants: dict[str, CeilingSettings] = {}
    keys: KeyModesSettings = KeyModesSettings()
    decide: Literal["policy", "external"] = "policy"
    """`external`: something outside writes the mode into the store (an alarm, a person); here it is only read."""
    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """The share of a ceiling that plans leave free, for what is under way when a mode changes."""
    trip_at: Annotated[float, Field(gt=0.5, le=1)] = 0.98
    """From this share of a ceiling on, the cheapest mode holds, whatever is forecast."""
    horizon_s: Seconds = 900
    """How far ahead a break of the ceiling makes the mode go down; at most `window_s`."""
    recover_at: Share = 0.8
    """A better mode must be expected to stay under this share of the ceiling before it is gone back to."""
    dwell_s: Annotated[float, Field(ge=0, le=86_400)] = 60
    """How long a mode holds at least before a better one does. Going down is never delayed. At most `window_s`."""
    max_keys: Annotated[int, Field(ge=10, le=100_000)] = 1000
    """Of how many keys, and how many tenants, each worker follows the spending apart; the rest is followed as one."""

    @property
    def has_ceiling(self) -> bool:
        """Whether there is anything for the policy to keep to."""
        return self.ceiling_usd is not None or self.keys.ceiling_usd is not None or bool(self.tenants)

    @property
    def stretch(self) -> float:
        """For how many times their lifetime cached answers are kept. Only where modes can change by other hands than an operator's."""
        if not self.ladder and not self.has_ceiling and self.decide == "policy":
            return 1.0
        return max(rung.cache_ttl_stretch for rung in (self.ladder or _default(None)).values())

    def rungs(self, free_model: str | None) -> tuple[Mode, ...]:
        """The ladder. `free_model` answers on the lowest rung of the default one."""
        ladder = self.ladder or _default(free_model)
        modes = (Mode(name=name, rank=rank, **rung.model_dump()) for rank, (name, rung) in enumerate(ladder.items()))
        return tuple(DEEP if mode == DEEP else mode for mode in modes)

    @model_validator(mode="after")
    def _is_a_ladder(self) -> ModesSettings:
        for name in self.ladder:
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
                msg = f"ladder: {name[:80]!r} is no name of a mode: 1 to 64 letters, digits and . _ -"
                raise ValueError(msg)
        if len(self.ladder) > _MOST_RUNGS:
            msg = f"ladder: at most {_MOST_RUNGS} modes"
            raise ValueError(msg)
        for (above, better), (name, rung) in pairwise(self.ladder.items()):
            if loose := rung.looser_than(better):
                msg = f"ladder.{name}.{loose}: a mode must hold back at least what the one before it ({above}) does"
                raise ValueError(msg)
        if len(self.ladder) == 1 and self.has_ceiling:
            msg = "ladder: a ceiling needs at least two modes to choose from"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _times_fit(self) -> ModesSettings:
        for name in ("horizon_s", "dwell_s"):
            if name in self.model_fields_set and getattr(self, name) > self.window_s:
                msg = f"{name}: {getattr(self, name):g} is longer than window_s ({self.window_s:g})"
                raise ValueError(msg)
        if len(set(self.tiers)) < len(self.tiers):
            msg = "tiers: each tier once"
            raise ValueError(msg)
        return self


_MOST_RUNGS = 16


def _default(free_model: str | None) -> dict[str, RungSettings]:
    shallow = RungSettings(
        history_turns=6,
        retrieval_chunks=3,
        retrieval_tokens=1500,
        max_tokens=1024,
        cache_delta=0.02,
        cache_ttl_stretch=4,
        judge=False,
        cascade=False,
    )
    return {
        "DEEP": RungSettings(),
        "SHALLOW": shallow,
        "SUPER_SHALLOW": shallow.model_copy(update={"history_turns": 2, "max_tokens": 512, "model": free_model}),
    }
