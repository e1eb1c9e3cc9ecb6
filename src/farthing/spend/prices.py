"""What tokens cost. Pure: integers in, integers out."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from farthing.settings import PriceSettings
from farthing.types import Price, Usage

_MILLION = 1_000_000


def cost(price: Price, usage: Usage) -> int:
    """Micro-dollars for the tokens, rounded half up once, on the sum.

    Tokens read from or written to the provider's prompt cache are part of `usage.input` and are taken out of it before the input price
    applies.
    """
    for start, tier in price.tiers:
        if usage.input > start:
            price = tier
    read = min(usage.cache_read, usage.input)
    written = min(usage.cache_write, usage.input - read)
    plain = usage.input - read - written
    hour = min(usage.cache_write_1h, written)
    hourly = price.cache_write if price.cache_write_1h is None else price.cache_write_1h
    cached = read * price.cache_read + (written - hour) * price.cache_write + hour * hourly
    total = plain * price.input + cached + usage.output * price.output
    return (total + _MILLION // 2) // _MILLION


def from_settings(settings: PriceSettings, *, notional: bool = False) -> Price:
    """A price that the operator gave."""
    unit = per_million(settings.input_usd_per_1m)
    read, write, hourly = settings.cache_read_usd_per_1m, settings.cache_write_usd_per_1m, settings.cache_write_1h_usd_per_1m
    return Price(
        input=unit,
        output=per_million(settings.output_usd_per_1m),
        cache_read=unit if read is None else per_million(read),
        cache_write=unit if write is None else per_million(write),
        cache_write_1h=None if hourly is None else per_million(hourly),
        source="notional" if notional else "settings",
    )


def per_million(usd: Decimal) -> int:
    """Dollars per million tokens as micro-dollars per million tokens."""
    return int((usd * _MILLION).to_integral_value(ROUND_HALF_UP))
