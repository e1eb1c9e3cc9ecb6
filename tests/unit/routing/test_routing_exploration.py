"""Exploration keeps to its share and to its allowance."""

import random
from datetime import timedelta
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from farthing.routing.exploration import Exploration
from farthing.testing.stores import Clock
from farthing.types import Request

_REQUEST = cast("Request", None)  # the estimates here do not look at it
_COSTS = {"weak": 1, "mid": 5, "strong": 20}


def _exploration(clock: Clock, *, share: float, allowance: int, costs: dict[str, int] = _COSTS) -> Exploration:
    dice = random.Random(7)  # noqa: S311 - nothing secret
    return Exploration(lambda model, _: costs.get(model), dice, share=share, microusd_per_day=allowance, clock=clock)


def test_without_a_share_nothing_is_explored() -> None:
    exploration = _exploration(Clock(), share=0, allowance=10**9)
    assert {exploration.instead_of("weak", ["weak", "strong"], _REQUEST) for _ in range(1000)} == {None}


def test_about_its_share_goes_to_the_others() -> None:
    exploration = _exploration(Clock(), share=0.2, allowance=10**9)
    asked = [exploration.instead_of("mid", ["weak", "mid", "strong"], _REQUEST) for _ in range(5000)]
    assert 800 < len(asked) - asked.count(None) == exploration.explored < 1200
    assert min(asked.count("weak"), asked.count("strong")) > 350
    assert "mid" not in asked


def test_the_only_model_has_no_alternative() -> None:
    exploration = _exploration(Clock(), share=1, allowance=10**9)
    assert exploration.instead_of("weak", ["weak"], _REQUEST) is None
    assert exploration.explored == 0


def test_a_model_without_a_price_is_not_explored() -> None:
    exploration = _exploration(Clock(), share=1, allowance=10**9, costs={"weak": 1})
    assert exploration.instead_of("weak", ["weak", "strong"], _REQUEST) is None


@given(
    share=st.sampled_from([0.3, 1.0]),
    allowance=st.integers(0, 200),
    steps=st.lists(st.tuples(st.sampled_from(sorted(_COSTS)), st.integers(0, 20)), max_size=80),
)
def test_no_day_costs_more_than_its_allowance_beyond_what_was_chosen(share: float, allowance: int, steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    exploration = _exploration(clock, share=share, allowance=allowance)
    spent: dict[str, int] = {}
    for chosen, hours in steps:
        clock.now += timedelta(hours=hours)
        other = exploration.instead_of(chosen, list(_COSTS), _REQUEST)
        if other is not None:
            day = str(clock.now.date())
            spent[day] = spent.get(day, 0) + max(0, _COSTS[other] - _COSTS[chosen])
    assert all(cost <= allowance for cost in spent.values())


def test_the_allowance_is_new_every_day_and_what_is_cheaper_needs_none() -> None:
    clock = Clock()
    exploration = _exploration(clock, share=1, allowance=20)
    assert exploration.instead_of("weak", ["weak", "strong"], _REQUEST) == "strong"
    assert exploration.instead_of("weak", ["weak", "strong"], _REQUEST) is None
    assert exploration.instead_of("strong", ["weak", "strong"], _REQUEST) == "weak"
    clock.now += timedelta(days=1)
    assert exploration.instead_of("weak", ["weak", "strong"], _REQUEST) == "strong"
