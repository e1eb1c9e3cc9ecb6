"""What every adapter of `ports.FeedbackStore` must do. Subclass the suite and give it a fixture `said`.

class TestMyFeedback(FeedbackStoreContract): ...

@pytest.fixture
async def said() -> AsyncIterator[Said]: ...    # an empty store, its clock, and the events that it told
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from farthing.errors import InvalidRequest
from farthing.ports import FeedbackStore
from farthing.testing.stores import Clock
from farthing.types import Event, Feedback, feedback_event, time_of, uuid7_at


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test, the clock that it tells the time by, and what the bus was told."""

    store: FeedbackStore
    clock: Clock
    told: Callable[[], Awaitable[Sequence[Event]]]


def numbered_id(number: int) -> UUID:
    """A UUIDv7; those of higher numbers are later, all of them long before `Clock` begins."""
    return uuid7_at(1_000_000 + number, bytes(10))


def feedback(number: int, clock: Clock, **facts: Any) -> Feedback:
    """Somebody found the answer to such a request bad."""
    usual = {"id": numbered_id(number), "tenant": "acme", "request_id": numbered_id(number), "user": None, "score": 0.0}
    return Feedback(**{**usual, "by": UUID(int=7), "digest": b"%d" % number, "at": clock.now, **facts})


class FeedbackStoreContract:
    """`ports.FeedbackStore`."""

    async def test_what_is_stored_comes_back_newest_first(self, said: Said) -> None:
        made = [feedback(n, said.clock, user=[None, "ann"][n % 2], score=n / 4, reason="rude") for n in range(5)]
        for one in random.sample(made, 5):
            assert await said.store.add(one)
        assert await said.store.latest(tenant=None, limit=10) == made[::-1]
        assert await said.store.latest(tenant="acme", limit=2) == [made[4], made[3]]
        assert await said.store.latest(tenant="acme", limit=10, before=made[3].id) == made[2::-1]
        assert await said.store.latest(tenant=None, limit=0) == []

    async def test_all_that_was_said_of_a_request_is_kept_even_what_contradicts(self, said: Said) -> None:
        texts = [None, "Paris", "Lyon"]
        made = [feedback(n, said.clock, request_id=numbered_id(99), correction=text) for n, text in enumerate(texts)]
        for one in made:
            assert await said.store.add(one)
        assert await said.store.of("acme", numbered_id(99)) == made[::-1]
        assert await said.store.of("rival", numbered_id(99)) == []
        assert await said.store.of("acme", numbered_id(1)) == []
        assert await said.store.latest(tenant="acme", limit=10, corrected=True) == [made[2], made[1]]

    async def test_the_same_said_twice_is_stored_and_told_once(self, said: Said) -> None:
        first = feedback(1, said.clock, request_id=numbered_id(9), digest=b"same")
        again = msgspec.structs.replace(first, id=numbered_id(2))
        other = msgspec.structs.replace(first, id=numbered_id(3), by=UUID(int=8))
        assert sorted(await asyncio.gather(*(said.store.add(one) for one in (first, again)))) == [False, True]
        assert await said.store.add(other)
        assert len(await said.store.of("acme", numbered_id(9))) == 2
        assert len(await said.told()) == 2

    async def test_the_bus_is_told_that_something_was_said_and_not_what(self, said: Said) -> None:
        one = feedback(1, said.clock, user="ann", correction="a secret", reason="another")
        await said.store.add(one)
        (event,) = await said.told()
        assert msgspec.structs.replace(event, position=0) == feedback_event(one)
        assert event.type == "farthing.feedback.given"
        assert (event.tenant, event.user, event.subject) == ("acme", "ann", str(one.request_id))
        assert event.data == {"request_id": str(one.request_id), "score": 0.0, "corrected": True}

    async def test_no_tenant_is_given_what_anothers_people_said(self, said: Said) -> None:
        made = [feedback(n, said.clock, tenant=tenant, request_id=numbered_id(50)) for n, tenant in enumerate(("acme", "rival"))]
        for one in made:
            await said.store.add(one)
        for tenant, one in zip(("acme", "rival"), made, strict=True):
            assert await said.store.latest(tenant=tenant, limit=10) == [one]
            assert await said.store.of(tenant, numbered_id(50)) == [one]
        assert await said.store.latest(tenant="nobody", limit=10) == []

    @pytest.mark.parametrize("score", [-0.1, 1.01, math.nan])
    async def test_what_is_no_score_is_refused_and_nothing_is_told(self, said: Said, score: float) -> None:
        with pytest.raises(InvalidRequest):
            await said.store.add(feedback(1, said.clock, score=score))
        assert await said.store.latest(tenant=None, limit=10) == []
        assert list(await said.told()) == []

    async def test_a_user_is_forgotten_and_others_stay(self, said: Said) -> None:
        whose = [("acme", "ann"), ("acme", None), ("acme", "bob"), ("rival", "ann")]
        made = [feedback(n, said.clock, tenant=tenant, user=user) for n, (tenant, user) in enumerate(whose)]
        for one in made:
            await said.store.add(one)
        assert await said.store.forget("acme", "") == 0
        assert await said.store.forget("acme", "ann") == 1
        assert await said.store.latest(tenant=None, limit=10) == [made[3], made[2], made[1]]
        assert await said.store.forget("acme", None) == 2
        assert await said.store.latest(tenant=None, limit=10) == [made[3]]

    async def test_what_is_said_of_a_request_of_somebody_who_was_forgotten_since_is_not_stored(self, said: Said) -> None:
        said.clock.now = time_of(numbered_id(10))
        await said.store.forget("acme", "ann")
        assert not await said.store.add(feedback(11, said.clock, request_id=numbered_id(9), user="ann"))
        assert await said.store.add(feedback(12, said.clock, request_id=numbered_id(11), user="ann"))
        assert await said.store.add(feedback(13, said.clock, request_id=numbered_id(9), user="bob"))
        said.clock.now += timedelta(milliseconds=10)
        await said.store.forget("acme", None)
        assert not await said.store.add(feedback(14, said.clock, request_id=numbered_id(12)))
        assert await said.store.add(feedback(15, said.clock, request_id=numbered_id(12), tenant="rival"))
        assert [one.tenant for one in await said.store.latest(tenant=None, limit=10)] == ["rival"]

    async def test_the_oldest_go_beyond_the_bound(self, said: Said) -> None:
        made = [feedback(n, said.clock) for n in range(20)]
        for one in made:
            await said.store.add(one)
        assert await said.store.prune(20) == 0
        assert await said.store.prune(3) == 17
        assert await said.store.latest(tenant=None, limit=100) == made[:-4:-1]
        assert await said.store.add(made[0])
