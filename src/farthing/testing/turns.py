"""What every adapter of `ports.TurnStore` must do. Subclass the suite and give it a fixture `talking`: an empty store and its clock.

class TestMyTurns(TurnStoreContract): ...

@pytest.fixture
async def talking() -> AsyncIterator[Talking]: ...
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from farthing.errors import InvalidRequest
from farthing.ports import MOST_TURN_BYTES, TurnStore
from farthing.testing.stores import Clock
from farthing.types import Turn

_SECOND = timedelta(seconds=1)
_PLENTY = {"per_conversation": 1000, "per_user": 1000, "max_rows": 1000}


class Talking(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test, and the clock that it tells the time by."""

    store: TurnStore
    clock: Clock


def said(number: int, clock: Clock, **facts: Any) -> Turn:
    """A turn of Ann's; those of higher numbers came later, all of them before the clock."""
    usual: dict[str, Any] = {
        "id": UUID(int=number),
        "tenant": "acme",
        "user": "ann",
        "conversation": "c1",
        "role": "user" if number % 2 else "assistant",
        "payload": b"\x00\xff%d" % number,
        "at": clock.now - timedelta(hours=1) + number * _SECOND,
    }
    return Turn(**{**usual, **facts})


class TurnStoreContract:
    """`ports.TurnStore`."""

    async def test_the_latest_turns_come_in_order_and_numbered(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        turns = [said(number, clock, vector=bytes([127, 129]), embedder="e1") for number in (1, 2)]
        await store.add(turns)
        await store.add([said(3, clock)])
        assert await store.of("acme", "ann", "c1", limit=10) == [
            *(replace(turn, number=at) for at, turn in enumerate(turns, 1)),
            replace(said(3, clock), number=3),
        ]
        assert [turn.number for turn in await store.of("acme", "ann", "c1", limit=2)] == [2, 3]
        assert await store.of("acme", "ann", "c1", limit=0) == []

    async def test_conversations_users_and_tenants_are_apart(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        others: list[dict[str, Any]] = [
            {"user": "bob"},
            {"user": None},
            {"tenant": "rival"},
            {"conversation": "c2"},
            {"conversation": "C1"},
            {"conversation": ""},
        ]
        await store.add([said(number, clock, **one) for number, one in enumerate(others, 1)])
        assert await store.of("acme", "ann", "c1", limit=10) == []
        for one in others:
            whose: dict[str, Any] = {"tenant": "acme", "user": "ann", "conversation": "c1", **one}
            (found,) = await store.of(whose["tenant"], whose["user"], whose["conversation"], limit=10)
            assert (found.number, found.user) == (1, whose["user"])
        assert [turn.conversation for turn in await store.of_user("acme", "ann", limit=10)] == ["c2", "C1", ""]

    async def test_a_turn_that_comes_again_is_stored_once_and_gains_its_vector(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await store.add([said(1, clock), said(2, clock), said(1, clock)])
        await store.add([said(1, clock, payload=b"other", vector=b"\x01", embedder="e1"), said(3, clock)])
        await store.add([said(1, clock, vector=b"\x02", embedder="e2")])
        found = await store.of("acme", "ann", "c1", limit=10)
        assert [turn.number for turn in found] == [1, 2, 3]
        assert (found[0].payload, found[0].vector, found[0].embedder) == (said(1, clock).payload, b"\x01", "e1")

    async def test_an_id_of_another_users_turn_changes_nothing(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await store.add([said(1, clock)])
        await store.add([said(1, clock, user="bob", vector=b"\x01", embedder="e1")])
        (found,) = await store.of("acme", "ann", "c1", limit=10)
        assert found.vector is None
        assert await store.of("acme", "bob", "c1", limit=10) == []
        await store.add([said(1, clock, tenant="rival")])
        assert len(await store.of("rival", "ann", "c1", limit=10)) == 1

    async def test_concurrent_turns_of_a_conversation_all_get_a_number_of_their_own(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await asyncio.gather(*(store.add([said(2 * at + 1, clock), said(2 * at + 2, clock)]) for at in range(8)))
        found = await store.of("acme", "ann", "c1", limit=100)
        assert [turn.number for turn in found] == list(range(1, 17))
        assert all(second.id.int == first.id.int + 1 for first, second in zip(found[::2], found[1::2], strict=True))

    async def test_the_turns_of_a_user_come_in_the_order_of_their_time(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await store.add([said(2, clock, conversation="b"), said(1, clock, conversation="a"), said(3, clock, conversation="a")])
        await store.add([said(4, clock, user=None)])
        assert [turn.id.int for turn in await store.of_user("acme", "ann", limit=10)] == [1, 2, 3]
        assert [turn.id.int for turn in await store.of_user("acme", "ann", limit=2)] == [2, 3]

    async def test_a_forgotten_user_leaves_nothing_and_what_was_on_its_way_is_left_out(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await store.add([said(1, clock), said(2, clock, conversation="c2"), said(3, clock, user="bob"), said(4, clock, tenant="rival")])
        assert await store.forget("acme", "ann") == 2
        assert await store.forget("acme", "ann") == 0
        await store.add([said(5, clock), said(6, clock, user="bob")])
        assert await store.of_user("acme", "ann", limit=10) == []
        assert len(await store.of_user("acme", "bob", limit=10)) == 2
        await store.add([said(7, clock, at=clock.now + _SECOND)])
        assert [turn.id.int for turn in await store.of_user("acme", "ann", limit=10)] == [7]

    async def test_a_forgotten_tenant_takes_all_of_its_users_along(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await store.add([said(1, clock), said(2, clock, user=None), said(3, clock, tenant="rival")])
        assert await store.forget("acme", None) == 2
        await store.add([said(4, clock, user=None), said(5, clock)])
        assert await store.of("acme", None, "c1", limit=10) == []
        assert await store.of_user("acme", "ann", limit=10) == []
        assert len(await store.of_user("rival", "ann", limit=10)) == 1

    async def test_pruning_takes_the_old_and_what_is_beyond_each_bound(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await store.add([said(number, clock) for number in range(1, 7)])
        await store.add([said(number, clock, conversation="c2") for number in range(7, 10)])
        await store.add([said(number, clock, user=None) for number in range(10, 14)])
        assert await store.prune(said(2, clock).at, **_PLENTY) == 1
        assert await store.prune(clock.now - timedelta(days=1), **{**_PLENTY, "per_conversation": 3}) == 2 + 1
        assert await store.prune(clock.now - timedelta(days=1), **{**_PLENTY, "per_user": 4}) == 2
        assert [turn.id.int for turn in await store.of_user("acme", "ann", limit=10)] == [6, 7, 8, 9]
        assert await store.prune(clock.now - timedelta(days=1), **{**_PLENTY, "max_rows": 4}) == 3
        assert [turn.id.int for turn in await store.of_user("acme", "ann", limit=10)] == [9]
        assert [turn.number for turn in await store.of("acme", None, "c1", limit=10)] == [2, 3, 4]
        await store.add([said(20, clock, user=None)])
        assert (await store.of("acme", None, "c1", limit=1))[0].number == 5

    @pytest.mark.parametrize(
        "odd", [{"conversation": "a\0b"}, {"user": "a\0b"}, {"conversation": "x" * 2000}, {"payload": bytes(2**20 + 1)}]
    )
    async def test_what_it_cannot_hold_is_refused_and_nothing_of_the_batch_is_stored(self, talking: Talking, odd: dict[str, Any]) -> None:
        store, clock = talking.store, talking.clock
        with pytest.raises(InvalidRequest):
            await store.add([said(1, clock), said(2, clock, **odd)])
        assert await store.of_user("acme", "ann", limit=10) == []

    async def test_no_more_is_read_at_once_than_there_is_room_for(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        await store.add([said(number, clock, payload=bytes(2**20)) for number in range(1, 7)])
        most = MOST_TURN_BYTES // 2**20
        assert [turn.number for turn in await store.of("acme", "ann", "c1", limit=10)] == list(range(7 - most, 7))
        assert [turn.number for turn in await store.of_user("acme", "ann", limit=10)] == list(range(7 - most, 7))

    async def test_names_are_never_read_as_anything_else(self, talking: Talking) -> None:
        store, clock = talking.store, talking.clock
        for number, name in enumerate(["'; DROP TABLE farthing.turns; --", "%", "c1%s", "💥", " ", "\x1f"], 1):
            await store.add([said(number, clock, conversation=name)])
            (found,) = await store.of("acme", "ann", name, limit=10)
            assert found.conversation == name
