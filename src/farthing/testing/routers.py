"""What every adapter of `ports.RouterStore` and `ports.OutcomeStore` must do. Subclass the suites and give them a fixture `routed`.

class TestMyRouters(RouterStoreContract): ...

@pytest.fixture
async def routed() -> AsyncIterator[Routed]: ...    # empty stores that keep 20 versions and 100 promotions, and their clock
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, literal expectations are its point, and its dice are no secrets

from __future__ import annotations

import asyncio
import math
import random
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from farthing.errors import InvalidRequest, NotFound
from farthing.ports import CHANNELS, MOST_ARTEFACT_BYTES, Changes, OutcomeStore, RouterStore
from farthing.testing.stores import Clock, watched
from farthing.types import Outcome, OutcomeBy, Promotion, RouterVersion, time_of, uuid7_at

_SECOND = timedelta(seconds=1)
_MACHINES: tuple[OutcomeBy, ...] = ("check", "judge", "shadow", "file")
_PEOPLE: tuple[OutcomeBy, ...] = ("thumb", "correction")


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """The stores under test, where their news come from, and the clock that they tell the time by."""

    routers: RouterStore
    outcomes: OutcomeStore
    changes: Changes
    clock: Clock


def asked_id(number: int) -> UUID:
    """The id of a request; those of higher numbers arrived later, all of them long before `Clock` begins."""
    return uuid7_at(1_000_000 + number, bytes(10))


def outcome(number: int, clock: Clock, **facts: Any) -> Outcome:
    """A check says now that what the weak model answered to such a request was good."""
    usual = {"request_id": asked_id(number), "tenant": "acme", "router": "auto", "model": "weak", "score": 1.0, "by": "check"}
    vector = {"vector": bytes([0, 127, 129, 255]), "embedder": "e1", "features": (0.5, -1.0), "at": clock.now}
    return Outcome(**{**usual, **vector, **facts})


class RouterStoreContract:
    """`ports.RouterStore`."""

    async def test_versions_count_up_and_come_newest_first_without_their_artefacts(self, routed: Routed) -> None:
        store, clock = routed.routers, routed.clock
        first = await store.add("auto", b"one", {"apgr": 0.7, "of": ["a", {"b": None}]}, "ann")
        began = clock.now
        clock.now += _SECOND
        second = await store.add("auto", b"two", {}, "bob")
        other = await store.add("other", b"", {}, "")
        assert first == RouterVersion(
            router="auto", version=1, metrics={"apgr": 0.7, "of": ["a", {"b": None}]}, created_at=began, created_by="ann"
        )
        assert (second.version, other.version, second.created_at) == (2, 1, clock.now)
        assert await store.versions("auto") == [second, first]
        assert await store.versions() == [second, first, other]
        assert await store.versions("nobody") == []

    async def test_nothing_decides_before_a_promotion(self, routed: Routed) -> None:
        assert await routed.routers.promoted("auto") is None
        await routed.routers.add("auto", b"one", {}, "ann")
        assert await routed.routers.promoted("auto") is None
        assert await routed.routers.promotions("auto", 10) == []

    async def test_the_promoted_version_comes_with_its_artefact_and_since_when(self, routed: Routed) -> None:
        store, clock = routed.routers, routed.clock
        artefact = bytes(range(256)) * 100
        made = await store.add("auto", artefact, {"apgr": 1}, "ann")
        await store.add("auto", b"two", {}, "ann")
        clock.now += _SECOND
        shown = msgspec.structs.replace(made, promoted_at=clock.now)
        assert await store.promote("auto", 1, "bob") == shown
        assert await store.promoted("auto") == msgspec.structs.replace(shown, artefact=artefact)
        assert [one.promoted_at for one in await store.versions("auto")] == [None, clock.now]

    async def test_what_decided_before_can_be_promoted_again_and_nothing_at_all_too(self, routed: Routed) -> None:
        store = routed.routers
        for _ in range(2):
            await store.add("auto", b"x", {}, "ann")
        for version in (1, 2, 1, None):
            await store.promote("auto", version, "ann")
            found = await store.promoted("auto")
            assert (found and found.version) == version
            assert [one.version for one in await store.versions("auto") if one.promoted_at] == ([version] if version else [])

    async def test_promotions_are_remembered_newest_first_with_who_and_when(self, routed: Routed) -> None:
        store, clock = routed.routers, routed.clock
        await store.add("auto", b"x", {}, "ann")
        await store.add("other", b"x", {}, "ann")
        expected: list[Promotion] = []
        for version, by in ((1, "ann"), (None, "bob"), (1, "cy")):
            clock.now += _SECOND
            await store.promote("auto", version, by)
            expected.insert(0, Promotion(router="auto", version=version, at=clock.now, by=by))
        await store.promote("other", 1, "ann")
        assert await store.promotions("auto", 10) == expected
        assert await store.promotions("auto", 2) == expected[:2]
        for _ in range(110):
            await store.promote("auto", 1, "ann")
        assert len(await store.promotions("auto", 1000)) == 100
        assert len(await store.promotions("other", 1000)) == 1

    @pytest.mark.parametrize(("router", "version"), [("auto", 2), ("auto", 0), ("auto", -1), ("other", 1), ("nobody", 1), ("nobody", None)])
    async def test_an_unknown_version_is_not_found_and_changes_nothing(self, routed: Routed, router: str, version: int | None) -> None:
        await routed.routers.add("auto", b"one", {}, "ann")
        await routed.routers.promote("auto", 1, "ann")
        with pytest.raises(NotFound):
            await routed.routers.promote(router, version, "bob")
        found = await routed.routers.promoted("auto")
        assert found is not None
        assert found.version == 1
        assert len(await routed.routers.promotions("auto", 10)) == 1

    async def test_an_artefact_that_is_too_large_is_refused(self, routed: Routed) -> None:
        with pytest.raises(InvalidRequest, match=str(MOST_ARTEFACT_BYTES)):
            await routed.routers.add("auto", bytes(17 * 2**20), {}, "ann")
        assert await routed.routers.versions() == []
        await routed.routers.add("auto", bytes(MOST_ARTEFACT_BYTES), {}, "ann")
        await routed.routers.promote("auto", 1, "ann")
        found = await routed.routers.promoted("auto")
        assert found is not None
        assert found.artefact == bytes(MOST_ARTEFACT_BYTES)

    async def test_the_oldest_versions_go_but_not_what_decides_or_did_lately(self, routed: Routed) -> None:
        store = routed.routers
        for _ in range(4):
            await store.add("auto", b"x", {}, "ann")
        for version in (3, 1):
            await store.promote("auto", version, "ann")
        for number in range(5, 31):
            assert (await store.add("auto", b"x", {}, "ann")).version == number
        assert [one.version for one in await store.versions("auto")] == [*range(30, 10, -1), 3, 1]
        found = await store.promoted("auto")
        assert found is not None
        assert found.version == 1

    async def test_of_those_who_add_at_once_each_gets_a_version_of_its_own(self, routed: Routed) -> None:
        made = await asyncio.gather(*(routed.routers.add("auto", b"%d" % n, {"n": n}, "ann") for n in range(10)))
        assert sorted(one.version for one in made) == list(range(1, 11))
        assert {one.version: one.metrics for one in await routed.routers.versions("auto")} == {one.version: one.metrics for one in made}

    async def test_of_two_who_promote_at_once_the_last_one_counts_for_all(self, routed: Routed) -> None:
        store = routed.routers
        for _ in range(2):
            await store.add("auto", b"x", {}, "ann")
        await asyncio.gather(*(store.promote("auto", 1 + n % 2, f"who{n}") for n in range(10)))
        promotions = await store.promotions("auto", 100)
        assert sorted(one.by for one in promotions) == [f"who{n}" for n in range(10)]
        found = await store.promoted("auto")
        assert found is not None
        assert found.version == promotions[0].version
        assert [one.version for one in await store.versions("auto") if one.promoted_at] == [found.version]

    async def test_other_workers_hear_which_router_changed(self, routed: Routed) -> None:
        await routed.routers.add("auto", b"x", {}, "ann")
        async with aclosing(watched(routed.changes)) as news:
            for _ in CHANNELS:
                await anext(news)
            await routed.routers.promote("auto", 1, "ann")
            assert await anext(news) == ("routers", "auto")
            await routed.routers.promote("auto", None, "ann")
            assert await anext(news) == ("routers", "auto")


class OutcomeStoreContract:
    """`ports.OutcomeStore`."""

    async def _all(self, routed: Routed) -> list[Outcome]:
        return await routed.outcomes.latest(router=None, tenant=None, limit=10_000)

    async def test_outcomes_come_back_as_they_were_and_newest_first(self, routed: Routed) -> None:
        made = [
            outcome(n, routed.clock, user_id=[None, "ann"][n % 2], features=tuple(float(f) for f in range(n)), vector=bytes([n] * (n + 1)))
            for n in range(5)
        ]
        await routed.outcomes.add(random.sample(made, 5))
        assert await self._all(routed) == made[::-1]
        assert await routed.outcomes.latest(router=None, tenant=None, limit=2) == [made[4], made[3]]
        assert await routed.outcomes.latest(router=None, tenant=None, limit=0) == []

    async def test_each_model_of_a_request_has_one(self, routed: Routed) -> None:
        made = [outcome(1, routed.clock, model=model, score=score) for model, score in (("Strong", 1.0), ("strong", 0.75), ("weak", 0.0))]
        await routed.outcomes.add(made)
        assert await routed.outcomes.of("acme", asked_id(1)) == made
        assert await self._all(routed) == made[::-1]
        assert await routed.outcomes.of("acme", asked_id(2)) == []

    async def test_pages_follow_each_other_without_a_gap_or_a_double(self, routed: Routed) -> None:
        made = [outcome(n, routed.clock, model=model) for n in range(7) for model in ("a", "b", "c")]
        await routed.outcomes.add(made)
        seen: list[Outcome] = []
        while page := await routed.outcomes.latest(
            router="auto", tenant=None, limit=4, before=(seen[-1].request_id, seen[-1].model) if seen else None
        ):
            seen += page
        assert seen == made[::-1]

    async def test_only_of_the_router_and_the_tenant_that_are_asked_for(self, routed: Routed) -> None:
        made = [
            outcome(n, routed.clock, tenant=tenant, router=router)
            for n, (tenant, router) in enumerate((tenant, router) for tenant in ("acme", "rival") for router in ("auto", "other"))
        ]
        await routed.outcomes.add(made)
        for tenant in (None, "acme", "rival", "nobody", ""):
            for router in (None, "auto", "other", "nobody"):
                expected = [one for one in made[::-1] if tenant in {None, one.tenant} and router in {None, one.router}]
                assert await routed.outcomes.latest(router=router, tenant=tenant, limit=10) == expected
        assert await routed.outcomes.of("rival", made[0].request_id) == []

    @pytest.mark.parametrize("old", _MACHINES)
    @pytest.mark.parametrize("new", _MACHINES)
    async def test_what_a_machine_says_later_replaces_what_one_said(self, routed: Routed, old: OutcomeBy, new: OutcomeBy) -> None:
        later = outcome(1, routed.clock, score=0.0, by=new, features=(), user_id="ann", explored=True)
        await routed.outcomes.add([outcome(1, routed.clock, by=old)])
        await routed.outcomes.add([later])
        assert await self._all(routed) == [later]

    @pytest.mark.parametrize("person", _PEOPLE)
    @pytest.mark.parametrize("together", [False, True])
    async def test_a_person_is_not_overruled_by_a_machine(self, routed: Routed, person: OutcomeBy, together: bool) -> None:  # noqa: FBT001 - a table
        said = outcome(1, routed.clock, score=0.25, by=person)
        ones = [outcome(1, routed.clock), said, *(outcome(1, routed.clock, score=1.0, by=by) for by in _MACHINES)]
        for some in [ones] if together else [[one] for one in ones]:
            await routed.outcomes.add(some)
        assert await self._all(routed) == [said]
        again = outcome(1, routed.clock, score=0.5, by="correction")
        await routed.outcomes.add([again])
        assert await self._all(routed) == [again]

    @pytest.mark.parametrize("wrong", [{"score": 1.01}, {"score": -0.1}, {"score": math.nan}, {"vector": bytes(65_537)}])
    async def test_what_is_no_outcome_is_refused_and_with_it_all_of_its_batch(self, routed: Routed, wrong: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest):
            await routed.outcomes.add([outcome(1, routed.clock), outcome(2, routed.clock, **wrong)])
        assert await self._all(routed) == []

    async def test_what_nothing_was_said_of_yet_is_known_by_its_request_and_taught_by_nobody(self, routed: Routed) -> None:
        unsaid, said = outcome(1, routed.clock, score=None, by="nobody"), outcome(1, routed.clock, model="strong")
        await routed.outcomes.add([unsaid, said])
        assert await routed.outcomes.of("acme", asked_id(1)) == [said, unsaid]
        assert await self._all(routed) == [said]

    @pytest.mark.parametrize("by", [*_MACHINES, *_PEOPLE])
    async def test_who_says_something_is_heard_over_who_says_nothing(self, routed: Routed, by: OutcomeBy) -> None:
        unsaid, said = outcome(1, routed.clock, score=None, by="nobody"), outcome(1, routed.clock, score=0.5, by=by)
        for one in (unsaid, said, unsaid):
            await routed.outcomes.add([one])
        assert await routed.outcomes.of("acme", asked_id(1)) == [said]
        await routed.outcomes.forget("acme", None)
        assert await routed.outcomes.of("acme", asked_id(1)) == []

    async def test_nothing_can_be_added(self, routed: Routed) -> None:
        await routed.outcomes.add([])
        assert await self._all(routed) == []

    async def test_a_user_is_forgotten_and_others_stay(self, routed: Routed) -> None:
        whose = [("acme", "ann"), ("acme", None), ("acme", "bob"), ("rival", "ann")]
        made = [outcome(n, routed.clock, tenant=tenant, user_id=user) for n, (tenant, user) in enumerate(whose)]
        await routed.outcomes.add(made)
        assert await routed.outcomes.forget("acme", "") == 0
        assert await routed.outcomes.forget("acme", "ann") == 1
        assert await self._all(routed) == [made[3], made[2], made[1]]
        assert await routed.outcomes.forget("acme", None) == 2
        assert await self._all(routed) == [made[3]]

    async def test_what_was_asked_before_somebody_was_forgotten_is_not_stored_afterwards(self, routed: Routed) -> None:
        """Whenever somebody says how good the answer was."""
        routed.clock.now = time_of(asked_id(10))
        await routed.outcomes.forget("acme", "ann")
        before, after = (outcome(n, routed.clock, user_id="ann") for n in (9, 11))
        other = outcome(8, routed.clock, user_id="bob")
        await routed.outcomes.add([before, after, other])
        assert await self._all(routed) == [after, other]
        routed.clock.now = time_of(asked_id(20))
        await routed.outcomes.forget("acme", None)
        await routed.outcomes.add([outcome(12, routed.clock), outcome(13, routed.clock, tenant="rival")])
        assert [one.tenant for one in await self._all(routed)] == ["rival"]

    async def test_the_oldest_go_beyond_the_bound(self, routed: Routed) -> None:
        made = [outcome(n, routed.clock) for n in range(1500)]
        await routed.outcomes.add(random.sample(made, len(made)))
        assert await routed.outcomes.prune(1500) == 0
        assert await routed.outcomes.prune(3) == 1497
        assert await self._all(routed) == made[:-4:-1]

    async def test_what_nothing_was_said_of_makes_no_room_of_what_is_known(self, routed: Routed) -> None:
        said = [outcome(n, routed.clock) for n in range(5)]
        unsaid = [outcome(n, routed.clock, score=None, by="nobody") for n in range(10, 20)]
        await routed.outcomes.add([*said, *unsaid])
        assert await routed.outcomes.prune(4) == 7
        assert await self._all(routed) == said[:0:-1]
        assert [len(await routed.outcomes.of("acme", asked_id(n))) for n in range(10, 20)] == [0] * 6 + [1] * 4

    async def test_two_who_write_the_same_in_different_order_do_not_stop_each_other(self, routed: Routed) -> None:
        made = [outcome(n, routed.clock) for n in range(200)]
        await asyncio.gather(*(routed.outcomes.add(random.sample(made, len(made))) for _ in range(6)))
        assert await self._all(routed) == made[::-1]
