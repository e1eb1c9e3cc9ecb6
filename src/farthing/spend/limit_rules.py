"""Which limits hold for whom."""

from __future__ import annotations

from functools import lru_cache

from farthing.settings import KeyLimitSettings, LimitsSettings
from farthing.types import Limits, Principal

_NONE = Limits()
_MOST = 1_000_000_000
_REMEMBERED = 4096


class LimitRules:
    """Which limits hold for whom: field by field the key's own, else its tier's, else the default's."""

    def __init__(self, settings: LimitsSettings) -> None:
        default = _limits_of(settings.default)
        self._default = None if default == _NONE else default
        self._tiers = {name: _over(_limits_of(tier), default) for name, tier in settings.tiers.items()}
        self._merged = lru_cache(maxsize=_REMEMBERED)(self._merge)

    def of(self, principal: Principal) -> Limits | None:
        """The limits of whoever asks; None when he has none."""
        return self._merged(principal.tier, principal.limits)

    def _merge(self, tier: str, own: Limits) -> Limits | None:
        base = self._tiers.get(tier, self._default)
        return base if own == _NONE else _over(own, base or _NONE)


def _limits_of(settings: KeyLimitSettings) -> Limits:
    return Limits(
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        concurrency=settings.concurrency,
    )


def _over(own: Limits, base: Limits) -> Limits | None:
    merged = Limits(
        requests_per_minute=_sane(own.requests_per_minute, base.requests_per_minute),
        tokens_per_minute=_sane(own.tokens_per_minute, base.tokens_per_minute),
        concurrency=_sane(own.concurrency, base.concurrency),
    )
    return None if merged == _NONE else merged


def _sane(own: int | None, base: int | None) -> int | None:
    """What is stored may be older than our checks: no limit is below 1, for it divides."""
    value = base if own is None else own
    return None if value is None else min(max(value, 1), _MOST)
