from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.economics.arrivals import Load, Sample, invented, of_rows, spike
from farthing.economics.plans import ABUSER, crowd, drain, viral
from farthing.errors import InvalidRequest
from farthing.pipeline.tokens import count_request


def chance(seed: int = 1) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a simulation


@given(seed=st.integers(0, 1000), base=st.floats(0.05, 2), factor=st.floats(1, 50))
def test_as_many_come_as_the_load_says_and_in_order(seed: int, base: float, factor: float) -> None:
    load = spike(base, factor, before_s=300, lasts_s=100, after_s=200)
    times = list(load.arrivals(chance(seed)))
    assert times == sorted(times)
    assert not times or 0 < times[0] <= times[-1] < load.ends_at == 600
    assert load.expected == pytest.approx(base * (500 + 100 * factor))
    assert abs(len(times) - load.expected) < 6 * math.sqrt(load.expected) + 1, "a Poisson count"


def test_the_rise_is_where_it_was_wanted() -> None:
    times = list(spike(1.0, 100.0, before_s=100, lasts_s=50, after_s=100).arrivals(chance()))
    during = [at for at in times if 100 <= at < 150]
    assert len(during) / 50 == pytest.approx(100, rel=0.1)
    assert (len(times) - len(during)) / 200 == pytest.approx(1, rel=0.3)


def test_gaps_are_without_memory() -> None:
    gaps = [later - earlier for earlier, later in pairwise(Load(steps=((0.0, 5.0), (4000.0, 0.0))).arrivals(chance()))]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance == pytest.approx(mean**2, rel=0.1)


def test_a_time_without_load_brings_nobody() -> None:
    assert list(Load(steps=((0.0, 0.0), (100.0, 0.0))).arrivals(chance())) == []


def test_the_same_seed_brings_the_same_requests_and_another_one_others() -> None:
    people = crowd({"free": 0.9, "pro": 0.1})
    samples = invented(chance(), 50)
    plan = viral(0.5, 10, people, minutes=1, window_s=60)
    first, again, other = (list(plan.requests(samples, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert abs(len(first) - plan.expected) < 6 * math.sqrt(plan.expected)


def test_shares_of_a_crowd_are_of_requests_and_of_keys() -> None:
    people = crowd({"free": 0.9, "pro": 0.1}, keys=50)
    assert [sum(one.tier == tier for one in people.callers) for tier in ("free", "pro")] == [45, 5]
    assert len({one.key_id for one in people.callers}) == 50
    rng = chance()
    asked = [people.draw(rng).tier for _ in range(5000)]
    assert asked.count("pro") / 5000 == pytest.approx(0.1, abs=0.02)


def test_the_one_who_drains_the_wallet_is_one_key_for_a_while() -> None:
    people = crowd({"free": 0.9, "pro": 0.1})
    plan = drain(0.2, 50, people, minutes=5, window_s=600)
    asked = list(plan.requests(invented(chance(), 20), 1))
    assert [one.at for one in asked] == sorted(one.at for one in asked)
    his = [one.at for one in asked if one.who.key_id == ABUSER]
    assert plan.began_s <= his[0]
    assert his[-1] < plan.over_s
    others = [one for one in asked if one.who.key_id != ABUSER]
    assert len(his) / (plan.over_s - plan.began_s) == pytest.approx(10, rel=0.2)
    assert len(others) / plan.ends_s == pytest.approx(0.2, rel=0.2)
    assert plan.tiers.keys() == {"free", "pro"}
    assert ABUSER not in {one.key_id for one in plan.tiers.values()}


def _whole(samples: list[Sample]) -> None:
    for sample in samples:
        roles = [message["role"] for message in sample.messages]
        assert roles == ["system", *["user", "assistant"] * ((len(roles) - 2) // 2), "user"]
        assert 1 <= sample.answer_tokens <= 4000


def test_invented_conversations_are_whole_and_of_many_lengths() -> None:
    samples = invented(chance(), 300)
    _whole(samples)
    tokens = sorted(count_request({"messages": sample.messages}) for sample in samples)
    assert tokens[10] * 5 < tokens[-10]
    assert {len(sample.messages) for sample in samples} > {2, 4, 6}


def test_your_own_traffic_keeps_its_words() -> None:
    rows: list[dict[str, object]] = [{"id": "1", "turns": ["one", "two"]}, {"turns": ["three"]}]
    samples = of_rows(rows, chance(), 10)
    _whole(samples)
    asked = [[message["content"] for message in sample.messages if message["role"] == "user"] for sample in samples]
    assert asked == [["one", "two"], ["three"]]
    assert len(of_rows(rows * 50, chance(), 10)) == 10


@pytest.mark.parametrize("row", [{}, {"turns": []}, {"turns": "text"}, {"turns": [1]}, {"turns": None}])
def test_rows_that_are_no_conversations_are_told_by_their_number(row: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match="row 2 of the traffic"):
        of_rows([{"turns": ["x"]}, row], chance(), 10)
    with pytest.raises(InvalidRequest, match="no rows"):
        of_rows([], chance(), 10)
