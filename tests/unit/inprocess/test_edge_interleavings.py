"""Nothing stale at the edge, whatever the order: ten thousand random interleavings against the store in process."""

import random

import pytest

from farthing.inprocess.edge import InProcessEdge
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.testing.edge import Edge, EdgeStoreContract, Schedule, edge_answer
from farthing.testing.stores import Clock


@pytest.fixture
def edge() -> Edge:
    clock = Clock()
    return Edge(store=InProcessEdge(InProcessStates(InProcessChanges()), clock=clock), clock=clock)


class TestInProcessEdge(EdgeStoreContract):
    schedules = 200


async def test_of_ten_thousand_interleavings_none_serves_or_stores_a_stale_answer() -> None:
    served = 0
    for seed in range(10_000):
        clock = Clock()
        store = InProcessEdge(InProcessStates(InProcessChanges()), clock=clock)
        schedule = Schedule(Edge(store=store, clock=clock), random.Random(seed), tenant="acme", steps=40)  # noqa: S311 - nothing secret
        await schedule.play()
        served += schedule.served
    assert served > 10_000  # else it proves nothing


async def test_it_keeps_no_more_than_it_may() -> None:
    clock = Clock()
    store = InProcessEdge(InProcessStates(InProcessChanges()), max_rows=3, clock=clock)
    for number in range(5):
        assert await store.put(edge_answer(clock, user=f"u{number}"))
    assert [await store.get("acme", f"u{number}", "briefing") is not None for number in range(5)] == [False, False, True, True, True]
