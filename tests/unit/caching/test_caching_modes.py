"""What the exact cache gives and keeps in worse modes than the best one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from test_caching_exact import House, Store, whole

from farthing.inprocess.stores import InProcessChanges
from farthing.types import Mode, Source

SHALLOW = {"mode": Mode(name="SHALLOW", rank=1, cache_ttl_stretch=1e12)}
DEEPER = {"mode": Mode(name="SUPER_SHALLOW", rank=2, cache_ttl_stretch=1e12)}
NOT_STRETCHED = {"mode": Mode(name="SHALLOW", rank=1)}


def said(house: House, text: str) -> None:
    house.oracle.answer = whole({"content": text})


async def ask(house: House, **more: Any) -> tuple[Source, str]:
    source, body = await house.ask(**more)
    assert isinstance(body, dict)
    return source, body["choices"][0]["message"]["content"]


async def test_an_answer_of_the_best_mode_is_given_in_worse_ones() -> None:
    house = House()
    said(house, "thorough")
    await house.ask()
    for facts in (SHALLOW, DEEPER):
        assert await ask(house, facts=facts) == (Source.EXACT, "thorough")
    assert house.oracle.calls == 1
    house.at_rest()


async def test_an_answer_of_a_worse_mode_is_given_in_that_mode_only() -> None:
    house = House()
    said(house, "short")
    assert await ask(house, facts=SHALLOW) == (Source.MODEL, "short")
    assert await ask(house, facts=SHALLOW) == (Source.EXACT, "short")
    said(house, "shorter")
    assert await ask(house, facts=DEEPER) == (Source.MODEL, "shorter")
    said(house, "thorough")
    assert await ask(house) == (Source.MODEL, "thorough")
    for facts in ({}, SHALLOW, DEEPER):
        assert await ask(house, facts=facts) == (Source.EXACT, "thorough"), "the better one is welcome everywhere"
    house.at_rest()


async def test_the_best_mode_does_not_join_a_flight_of_a_worse_one() -> None:
    house = House()
    house.oracle.gate.clear()
    shallow = house.start(facts=SHALLOW)
    await house.until(lambda: house.oracle.calls == 1)
    too, deep = house.start(facts=SHALLOW), house.start()
    await house.until(lambda: house.oracle.calls == 2)
    house.oracle.gate.set()
    assert await house.sources(shallow, too, deep) == ["model", "exact", "model"]
    house.at_rest()


async def test_a_worse_mode_joins_a_flight_of_the_best_one() -> None:
    house = House()
    house.oracle.gate.clear()
    deep = house.start()
    await house.until(lambda: house.oracle.calls == 1)
    shallow = house.start(facts=SHALLOW)
    await asyncio.sleep(0)
    house.oracle.gate.set()
    assert await house.sources(deep, shallow) == ["model", "exact"]
    house.at_rest()


async def test_refresh_in_a_worse_mode_leaves_the_best_modes_answer_alone() -> None:
    house = House()
    said(house, "thorough")
    await house.ask()
    said(house, "short")
    assert await ask(house, facts={**SHALLOW, "cache": "refresh"}) == (Source.MODEL, "short")
    assert await ask(house) == (Source.EXACT, "thorough")


async def test_an_old_answer_is_given_in_a_worse_mode_and_not_renewed_and_in_the_best_one_asked_anew() -> None:
    house = House(ttl_s=1e-9, stretch=1e12)
    said(house, "old")
    await house.ask()
    assert await ask(house, facts=SHALLOW) == (Source.EXACT, "old")
    assert house.oracle.calls == 1, "money is short: nothing is renewed"
    said(house, "new")
    assert await ask(house, facts=NOT_STRETCHED) == (Source.MODEL, "new")
    assert await ask(house) == (Source.MODEL, "new")
    house.at_rest()


async def test_another_worker_gives_old_answers_from_the_store() -> None:
    store = Store(InProcessChanges())
    first, second = House(store, ttl_s=1e-9, stretch=1e12), House(store, stretch=1e12)
    said(first, "old")
    await first.ask()
    await first.shared.drain()
    await second.shared.reload()
    assert await ask(second, facts=SHALLOW) == (Source.EXACT, "old")
    said(second, "new")
    assert await ask(second) == (Source.MODEL, "new")


@pytest.mark.parametrize("stretch", [1.0, 4.0])
async def test_the_store_keeps_answers_as_long_as_some_mode_may_give_them(stretch: float) -> None:
    house = House(ttl_s=100, stretch=stretch)
    await house.ask()
    await house.shared.drain()
    [stored] = house.store._entries.values()
    assert (stored.expires_at - stored.created_at).total_seconds() == pytest.approx(100 * stretch, abs=5)
