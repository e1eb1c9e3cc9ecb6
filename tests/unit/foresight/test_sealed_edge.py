import pytest
from msgspec.structs import replace

from farthing.cipher import Cipher
from farthing.foresight.sealed import SealedEdge
from farthing.inprocess.edge import InProcessEdge
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.testing.edge import Edge, EdgeStoreContract, begun_id, edge_answer
from farthing.testing.stores import Clock

KEY = bytes(range(32))


@pytest.fixture
def inner() -> Edge:
    clock = Clock()
    return Edge(store=InProcessEdge(InProcessStates(InProcessChanges()), clock=clock), clock=clock)


class TestSealedEdge(EdgeStoreContract):
    @pytest.fixture
    def edge(self, inner: Edge) -> Edge:
        return Edge(store=SealedEdge(inner.store, Cipher(KEY, [])), clock=inner.clock)


async def test_the_store_does_not_see_what_an_answer_says(inner: Edge) -> None:
    await SealedEdge(inner.store, Cipher(KEY, [])).put(edge_answer(inner.clock))
    held = await inner.store.get("acme", "ann", "briefing")
    assert held is not None
    assert list(held.body) == ["sealed"]
    assert "well" not in held.body["sealed"]


async def test_with_another_key_or_as_another_ones_answer_it_is_absent(inner: Edge) -> None:
    sealed = SealedEdge(inner.store, Cipher(KEY, []))
    await sealed.put(edge_answer(inner.clock))
    held = await inner.store.get("acme", "ann", "briefing")
    assert held is not None
    assert await SealedEdge(inner.store, Cipher(bytes(32), [])).get("acme", "ann", "briefing") is None
    assert await SealedEdge(inner.store, Cipher(bytes(32), [KEY])).get("acme", "ann", "briefing") is not None
    await inner.store.put(replace(held, tenant="other"))
    assert await sealed.get("other", "ann", "briefing") is None
    await inner.store.put(replace(held, user="bob", request_id=begun_id(inner.clock.now, 5)))
    assert await sealed.get("acme", "bob", "briefing") is None


async def test_what_was_stored_before_there_was_a_key_is_given(inner: Edge) -> None:
    await inner.store.put(edge_answer(inner.clock))
    assert await SealedEdge(inner.store, Cipher(KEY, [])).get("acme", "ann", "briefing") == edge_answer(inner.clock)
