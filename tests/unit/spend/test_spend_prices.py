from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from farthing.settings import PriceSettings
from farthing.spend.prices import cost, from_settings, per_million
from farthing.types import Price, Usage

TOKENS = st.integers(0, 10**9)
MONEY = st.integers(0, 10**12)
PRICES = st.builds(Price, input=MONEY, output=MONEY, cache_read=MONEY, cache_write=MONEY)
USAGES = st.builds(Usage, input=TOKENS, output=TOKENS, cache_read=TOKENS, cache_write=TOKENS)
HONEST = st.builds(
    lambda plain, read, written, output: Usage(input=plain + read + written, output=output, cache_read=read, cache_write=written),
    *[st.integers(0, 10**6)] * 4,
)


@given(PRICES, HONEST)
def test_cost_is_the_exact_sum_rounded_half_up_once(price: Price, usage: Usage) -> None:
    plain = usage.input - usage.cache_read - usage.cache_write
    exact = Fraction(
        plain * price.input + usage.cache_read * price.cache_read + usage.cache_write * price.cache_write + usage.output * price.output,
        10**6,
    )
    found = cost(price, usage)
    assert isinstance(found, int)
    assert Fraction(-1, 2) < found - exact <= Fraction(1, 2)


@given(PRICES, USAGES)
def test_cost_is_never_negative_whatever_the_provider_says_of_its_cache(price: Price, usage: Usage) -> None:
    most = max(price.input, price.cache_read, price.cache_write)
    assert 0 <= cost(price, usage) <= (usage.input * most + usage.output * price.output + 500_000) // 10**6


@given(USAGES)
def test_an_unknown_price_costs_nothing(usage: Usage) -> None:
    assert cost(Price(), usage) == 0


@given(PRICES, HONEST, st.integers(0, 10**6))
def test_more_output_never_costs_less(price: Price, usage: Usage, more: int) -> None:
    longer = Usage(input=usage.input, output=usage.output + more, cache_read=usage.cache_read, cache_write=usage.cache_write)
    assert cost(price, longer) >= cost(price, usage)


def test_half_a_micro_dollar_is_rounded_up() -> None:
    assert cost(Price(input=1), Usage(input=500_000)) == 1
    assert cost(Price(input=1), Usage(input=499_999)) == 0


def test_a_mini_model_as_billed() -> None:
    price = from_settings(PriceSettings(input_usd_per_1m=Decimal("0.15"), output_usd_per_1m=Decimal("0.60")))
    assert cost(price, Usage(input=1000, output=500)) == 450
    assert cost(price, Usage(input=1000, output=500, cache_read=400)) == 450, "without a cache price, cached input costs what input costs"


def test_cached_tokens_are_taken_out_of_the_input() -> None:
    price = Price(input=10_000_000, cache_read=1_000_000, cache_write=12_500_000)
    assert cost(price, Usage(input=100, cache_read=40, cache_write=10)) == 50 * 10 + 40 * 1 + 125


def test_writes_kept_for_an_hour_are_billed_apart() -> None:
    price = Price(input=3_000_000, cache_read=300_000, cache_write=3_750_000, cache_write_1h=6_000_000)
    usage = Usage(input=1000, cache_read=100, cache_write=600, cache_write_1h=200)
    assert cost(price, usage) == 300 * 3 + 30 + 400 * 3.75 + 200 * 6
    assert cost(msgspec.structs.replace(price, cache_write_1h=None), usage) == 300 * 3 + 30 + 600 * 3.75
    assert cost(price, Usage(input=10, cache_write=10, cache_write_1h=99)) == 60, "the hour's are part of the written"


TIERED = Price(input=1_000_000, output=1_000_000, tiers=((100, Price(input=2_000_000)), (200, Price(input=3_000_000, output=9_000_000))))


def test_a_tier_begins_after_its_start_and_bills_the_whole_request() -> None:
    assert [cost(TIERED, Usage(input=tokens)) for tokens in (100, 101, 200, 201)] == [100, 202, 400, 603]
    assert cost(TIERED, Usage(input=300, output=1)) == 909


@given(st.integers(0, 400))
def test_the_highest_tier_that_applies_counts(tokens: int) -> None:
    rate = 3 if tokens > 200 else 2 if tokens > 100 else 1
    assert cost(TIERED, Usage(input=tokens)) == tokens * rate


@given(st.decimals(0, 1_000_000, places=8))
def test_dollars_become_micro_dollars_rounded_half_up(usd: Decimal) -> None:
    found = per_million(usd)
    assert isinstance(found, int)
    assert Decimal("-0.5") < found - usd * 1_000_000 <= Decimal("0.5")


def test_cache_prices_are_the_input_price_unless_given() -> None:
    plain = from_settings(PriceSettings(input_usd_per_1m=Decimal(2)), notional=True)
    assert (plain.cache_read, plain.cache_write, plain.output, plain.source) == (2_000_000, 2_000_000, 0, "notional")
    given_ = from_settings(
        PriceSettings(input_usd_per_1m=Decimal(2), cache_read_usd_per_1m=Decimal(0), cache_write_usd_per_1m=Decimal("2.5"))
    )
    assert (given_.cache_read, given_.cache_write, given_.cache_write_1h, given_.source) == (0, 2_500_000, None, "settings")
    hourly = from_settings(PriceSettings(input_usd_per_1m=Decimal(2), cache_write_1h_usd_per_1m=Decimal(4)))
    assert (hourly.cache_write, hourly.cache_write_1h) == (2_000_000, 4_000_000)
