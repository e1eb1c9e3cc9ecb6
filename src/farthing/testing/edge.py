"""What every adapter of `ports.EdgeStore` must do. Subclass the suite and give it a fixture `edge`.

class TestMyEdge(EdgeStoreContract): ...

@pytest.fixture
async def edge() -> AsyncIterator[Edge]: ...    # an empty store, and the clock that it tells the time by
"""
# ruff: noqa: D102, PLR2004, S311  # a test's name is its docstring, literal expectations are its point, its dice are no secrets

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from farthing.ports import EdgeStore
from farthing.testing.stores import Clock
from farthing.types import EdgeAnswer, uuid7_at

_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test, and the clock that it tells the time by."""

    store: EdgeStore
    clock: Clock


def begun_id(at: datetime, number: int = 0) -> UUID:
    """The id of a request that began at a time."""
    return uuid7_at(int(at.timestamp() * 1000), number.to_bytes(10, "big"))


def edge_answer(clock: Clock, **facts: Any) -> EdgeAnswer:
    """An answer of now to Ann's briefing, good for an hour, that hangs on the state `deployments` as it was before it ever changed."""
    usual: dict[str, Any] = {
        "tenant": "acme",
        "user": "ann",
        "action": "briefing",
        "body": {"content": "All is well."},
        "model": "fast",
        "versions": {"deployments": 0},
        "request_id": begun_id(clock.now),
        "made_at": clock.now,
        "expires_at": clock.now + _HOUR,
        "cost_microusd": 7,
    }
    return EdgeAnswer(**{**usual, **facts})


class EdgeStoreContract:
    """`ports.EdgeStore`. `schedules` random interleavings are tried: set it to what the engine can do in a few seconds."""

    schedules = 20

    async def test_an_answer_is_found_as_it_was_stored(self, edge: Edge) -> None:
        body = {"content": 'Ünï "quoted"\n\u2028', "list": [1, 2.5, None, {"deep": [True]}], "big": "x" * 3000}
        answer = edge_answer(edge.clock, body=body)
        assert await edge.store.put(answer)
        assert await edge.store.get("acme", "ann", "briefing") == answer

    async def test_each_tenant_user_and_action_has_its_own(self, edge: Edge) -> None:
        assert await edge.store.put(edge_answer(edge.clock))
        for place in (("other", "ann", "briefing"), ("acme", "bob", "briefing"), ("acme", "ann", "alerts"), ("acme", "ann_briefing", "")):
            assert await edge.store.get(*place) is None

    async def test_names_that_only_look_the_same_when_joined_are_apart(self, edge: Edge) -> None:
        assert await edge.store.put(edge_answer(edge.clock, user="a_b", action="c"))
        assert await edge.store.get("acme", "a", "b_c") is None

    async def test_versions_count_from_zero_by_tenant(self, edge: Edge) -> None:
        store = edge.store
        assert await store.versions("acme", ["s", "t"]) == {"s": 0, "t": 0}
        assert await store.bump("acme", ["s"]) == {"s": 1}
        assert await store.bump("acme", ["s", "t", "s"]) == {"s": 2, "t": 1}
        assert await store.versions("acme", ["s", "t"]) == {"s": 2, "t": 1}
        assert await store.versions("other", ["s"]) == {"s": 0}
        assert await store.versions("acme", []) == {}

    async def test_a_changed_state_takes_the_answer_away_at_once(self, edge: Edge) -> None:
        assert await edge.store.put(edge_answer(edge.clock))
        await edge.store.bump("acme", ["deployments"])
        assert await edge.store.get("acme", "ann", "briefing") is None

    async def test_a_change_elsewhere_takes_nothing_away(self, edge: Edge) -> None:
        assert await edge.store.put(edge_answer(edge.clock))
        await edge.store.bump("acme", ["tickets"])
        await edge.store.bump("other", ["deployments"])
        assert await edge.store.get("acme", "ann", "briefing") is not None

    async def test_an_answer_from_older_state_is_not_stored_and_leaves_the_newer_one(self, edge: Edge) -> None:
        store = edge.store
        await store.bump("acme", ["deployments"])
        newer = edge_answer(edge.clock, versions={"deployments": 1})
        assert await store.put(newer)
        assert not await store.put(edge_answer(edge.clock, made_at=edge.clock.now + _SECOND))
        assert await store.get("acme", "ann", "briefing") == newer

    async def test_of_two_fresh_ones_the_one_made_later_stays(self, edge: Edge) -> None:
        later = edge_answer(edge.clock, made_at=edge.clock.now + _SECOND, body={"content": "later"})
        assert await edge.store.put(later)
        await edge.store.put(edge_answer(edge.clock))
        assert await edge.store.get("acme", "ann", "briefing") == later

    async def test_a_stale_one_makes_room_for_any_fresh_one(self, edge: Edge) -> None:
        assert await edge.store.put(edge_answer(edge.clock, made_at=edge.clock.now + _SECOND))
        await edge.store.bump("acme", ["deployments"])
        fresh = edge_answer(edge.clock, versions={"deployments": 1}, request_id=begun_id(edge.clock.now, 1))
        assert await edge.store.put(fresh)
        assert await edge.store.get("acme", "ann", "briefing") == fresh

    async def test_an_answer_that_hangs_on_nothing_lasts_until_it_expires(self, edge: Edge) -> None:
        assert await edge.store.put(edge_answer(edge.clock, versions={}))
        edge.clock.now += _HOUR - _SECOND
        assert await edge.store.get("acme", "ann", "briefing") is not None
        edge.clock.now += _SECOND
        assert await edge.store.get("acme", "ann", "briefing") is None

    async def test_one_of_several_states_is_enough(self, edge: Edge) -> None:
        assert await edge.store.put(edge_answer(edge.clock, versions={"deployments": 0, "inbox:ann": 0}))
        await edge.store.bump("acme", ["inbox:ann"])
        assert await edge.store.get("acme", "ann", "briefing") is None

    async def test_a_user_is_forgotten_and_what_was_on_its_way_is_not_stored(self, edge: Edge) -> None:
        store, clock = edge.store, edge.clock
        assert await store.put(edge_answer(clock))
        assert await store.put(edge_answer(clock, user="bob"))
        clock.now += _SECOND
        assert await store.forget("acme", "ann") == 1
        assert await store.get("acme", "ann", "briefing") is None
        assert await store.get("acme", "bob", "briefing") is not None
        on_its_way = edge_answer(clock, request_id=begun_id(clock.now - _SECOND))
        assert not await store.put(on_its_way)
        clock.now += _SECOND
        assert await store.put(edge_answer(clock))
        assert await store.forget("acme", "") == 0
        assert await store.forget("acme", None) == 2
        assert await store.get("acme", "bob", "briefing") is None

    async def test_pruning_drops_the_dead_first_and_then_the_oldest(self, edge: Edge) -> None:
        store, clock = edge.store, edge.clock
        for number in range(4):
            at = clock.now + number * _SECOND
            assert await store.put(edge_answer(clock, user=f"u{number}", made_at=at, versions={f"s{number}": 0}))
        assert await store.put(edge_answer(clock, user="short", expires_at=clock.now + _SECOND))
        await store.bump("acme", ["s3"])
        clock.now += 2 * _SECOND
        assert await store.prune(2) == 3
        assert [await store.get("acme", f"u{number}", "briefing") is not None for number in range(4)] == [False, True, True, False]

    async def test_concurrent_reads_each_get_their_own(self, edge: Edge) -> None:
        users = [f"u{number}" for number in range(50)]
        await asyncio.gather(*(edge.store.put(edge_answer(edge.clock, user=user, body={"content": user})) for user in users))
        found = await asyncio.gather(*(edge.store.get("acme", user, "briefing") for user in [*users, "nobody"]))
        assert [one.body["content"] if one else None for one in found] == [*users, None]

    async def test_whatever_the_order_nothing_stale_is_served_and_nothing_fresh_is_lost(self, edge: Edge) -> None:
        for seed in range(self.schedules):
            await Schedule(edge, random.Random(seed), tenant=f"t{seed}").play()


class _Computed(msgspec.Struct, kw_only=True):
    """An answer on its way: the versions it read, and then what it saw."""

    versions: dict[str, int]
    begun: datetime
    saw: dict[str, frozenset[int]] | None = None


class Schedule:
    """Changes, their events in any order, computations, reads and expiry, one step of one of them at a time, in random order.

    A change happens first; its event comes some time later, and others may overtake it. An answer is stale when an event has come of a
    change that it has not seen. `served` counts what was read. Plays against a plain model of the store, and raises AssertionError.
    """

    def __init__(self, edge: Edge, rng: random.Random, *, tenant: str, steps: int = 60) -> None:
        self._store, self._clock, self._rng, self._tenant = edge.store, edge.clock, rng, tenant
        self._steps = steps
        self._states = ("a", "b", "c")[: rng.randint(1, 3)]
        self._happened: dict[str, set[int]] = {state: set() for state in self._states}
        self._heard: dict[str, set[int]] = {state: set() for state in self._states}
        self._unheard: list[tuple[str, int]] = []
        self._computing: list[_Computed] = []
        self._sure: datetime | None = None
        self._changes = 0
        self.served = 0

    async def play(self) -> None:
        """All steps."""
        steps = (self._change, self._hear, self._begin, self._look, self._store_one, self._read, self._read, self._pass_time)
        for _ in range(self._steps):
            await self._rng.choice(steps)()

    async def _change(self) -> None:
        self._changes += 1
        state = self._rng.choice(self._states)
        self._happened[state].add(self._changes)
        self._unheard.append((state, self._changes))

    async def _hear(self) -> None:
        if self._unheard:
            state, change = self._unheard.pop(self._rng.randrange(len(self._unheard)))
            await self._store.bump(self._tenant, [state])
            self._heard[state].add(change)
            self._sure = None

    async def _begin(self) -> None:
        self._computing.append(_Computed(versions=await self._store.versions(self._tenant, self._states), begun=self._clock.now))

    async def _look(self) -> None:
        waiting = [one for one in self._computing if one.saw is None]
        if waiting:
            self._rng.choice(waiting).saw = {state: frozenset(changes) for state, changes in self._happened.items()}

    async def _store_one(self) -> None:
        ready = [one for one in self._computing if one.saw is not None]
        if not ready:
            return
        one = self._rng.choice(ready)
        self._computing.remove(one)
        assert one.saw is not None
        answer = edge_answer(
            self._clock,
            tenant=self._tenant,
            versions=one.versions,
            body={"saw": {state: sorted(changes) for state, changes in one.saw.items()}},
            request_id=begun_id(one.begun),
            expires_at=self._clock.now + 20 * _SECOND,
        )
        stale = any(self._heard[state] - one.saw[state] for state in self._states)
        stored = await self._store.put(answer)
        assert not (stored and stale), "an answer from older state was stored"
        if stored:
            self._sure = answer.expires_at

    async def _read(self) -> None:
        found = await self._store.get(self._tenant, "ann", "briefing")
        if found is None:
            assert self._sure is None or self._sure <= self._clock.now, "a fresh answer was lost"
            return
        self.served += 1
        assert found.expires_at > self._clock.now, "an expired answer was served"
        for state in self._states:
            assert self._heard[state] <= set(found.body["saw"][state]), "a stale answer was served"

    async def _pass_time(self) -> None:
        self._clock.now += self._rng.choice((1, 3, 15)) * _SECOND
