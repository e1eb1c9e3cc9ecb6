"""What every adapter of `ports.FactStore` must do. Subclass the suite and give it a fixture `minded`.

class TestMyFacts(FactStoreContract): ...

@pytest.fixture
async def minded() -> AsyncIterator[Minded]: ...    # an empty store that lets five facts hold of a user, and its clock
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from farthing.errors import InvalidRequest
from farthing.ports import Changes, FactStore
from farthing.testing.stores import Clock, watched
from farthing.types import Fact, NewFact, Profile, new_id

_HOUR = timedelta(hours=1)


_WRONG: tuple[dict[str, Any], ...] = (
    {"key": ""},
    {"key": "City"},
    {"key": "a" * 65},
    {"key": "a b"},
    {"key": "a\n"},
    {"value": "x" * 1100},
    {"value": "a\0b"},
    {"value": "\ud800"},
    {"value": float("nan")},
    {"value": float("inf")},
    {"value": 2**60},
    {"value": {1: 2}},
    {"value": object()},
    {"confidence": 1.01},
    {"confidence": float("nan")},
    {"by": "somebody"},
    {"sources": ("",)},
    {"sources": ("a\0",)},
    {"sources": ("x" * 600,)},
    {"valid_from": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is what is wrong with it
)


class Minded(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test and the clock that it tells the time by.

    `changes`: where its news come from, None: it tells none. `bounds_all`: `prune` bounds the history of all users together.
    """

    store: FactStore
    clock: Clock
    changes: Changes | None = None
    bounds_all: bool = True

    async def learn(self, *facts: NewFact, tenant: str = "acme", user: str = "ann") -> Profile:
        """Learn what arrives now."""
        return await self.store.learn(tenant, user, facts, arrived=self.clock.now)

    async def holds(self, tenant: str = "acme", user: str = "ann") -> list[tuple[str, Any]]:
        """Keys and values of a user."""
        found = await self.store.profile(tenant, user)
        return [] if found is None else [(one.key, one.value) for one in found.facts]

    async def history(self, key: str | None = None, *, tenant: str = "acme", user: str = "ann", limit: int = 1000) -> list[Fact]:
        """All that was believed of a user."""
        return await self.store.history(tenant, user, key=key, limit=limit)


def fact(minded: Minded, key: str, value: Any, *, ago_h: float = 24, **facts: Any) -> NewFact:
    """A rule has read it in an event of its own, which happened so many hours ago."""
    at = minded.clock.now - ago_h * _HOUR
    return NewFact(**{"key": key, "value": value, "by": "rule:r", "valid_from": at, "sources": (f"app#{new_id()}",), **facts})


class FactStoreContract:
    """`ports.FactStore`."""

    async def test_of_a_user_of_whom_nothing_is_known_there_is_no_profile(self, minded: Minded) -> None:
        assert await minded.store.profile("acme", "ann") is None
        assert await minded.history() == []
        assert await minded.store.forget("acme", "ann") == 0

    async def test_a_fact_comes_back_as_it_was_learnt(self, minded: Minded) -> None:
        value = {"b": [1, 2.5, None, True], "a": "\u00fc\U0001f600'\"\\ %s"}
        until = minded.clock.now + _HOUR
        new = fact(minded, "works.on", value, confidence=0.75, multi=True, expires_at=until, sources=("app#1", "app#2"), by="model:m")
        profile = await minded.learn(new)
        (learnt,) = profile.facts
        assert {name: getattr(learnt, name) for name in NewFact.__struct_fields__} == msgspec.structs.asdict(new)
        assert (learnt.tenant, learnt.user, learnt.known_from) == ("acme", "ann", minded.clock.now)
        assert (learnt.valid_to, learnt.known_to, learnt.ended_by) == (None, None, None)
        assert await minded.store.profile("acme", "ann") == profile
        assert await minded.history() == [learnt]

    async def test_the_version_goes_up_with_each_change_and_with_nothing_else(self, minded: Minded) -> None:
        first = await minded.learn(new := fact(minded, "city", "Oslo"))
        again = await minded.learn(new)
        assert again == first
        assert (await minded.learn()) == first
        second = await minded.learn(fact(minded, "city", "Bergen", ago_h=1))
        assert second.version > first.version

    async def test_a_new_value_supersedes_the_old_one_which_stays_in_history(self, minded: Minded) -> None:
        (old,) = (await minded.learn(fact(minded, "city", "Oslo", ago_h=5), fact(minded, "age", 7))).facts[1:]
        minded.clock.now += _HOUR
        new = fact(minded, "city", "Bergen", ago_h=1)
        profile = await minded.learn(new)
        assert await minded.holds() == [("age", 7), ("city", "Bergen")]
        made = profile.facts[-1]
        ended = msgspec.structs.replace(old, valid_to=new.valid_from, ended_by=f"fact:{made.id}")
        assert await minded.history("city") == [made, ended]
        assert [one.key for one in await minded.history()] == ["city", "city", "age"]
        assert await minded.history(limit=1) == [made]
        assert await minded.history("shoe") == []

    async def test_values_of_a_multi_valued_key_accumulate(self, minded: Minded) -> None:
        for value in ("Python", "SQL", "Python"):
            await minded.learn(fact(minded, "likes", value, multi=True))
        assert await minded.holds() == [("likes", "Python"), ("likes", "SQL")]

    async def test_the_same_again_only_gains_sources_and_lives_longer(self, minded: Minded) -> None:
        soon, later = minded.clock.now + _HOUR, minded.clock.now + 2 * _HOUR
        first = await minded.learn(fact(minded, "city", "Oslo", sources=("app#1",), expires_at=later, confidence=0.5))
        second = await minded.learn(fact(minded, "city", "Oslo", ago_h=1, sources=("app#2",), expires_at=soon, confidence=0.75))
        (one,) = second.facts
        assert (one.id, one.sources, one.confidence, one.expires_at) == (first.facts[0].id, ("app#1", "app#2"), 0.75, later)
        assert (one.valid_from, one.confirmed_at) == (first.facts[0].valid_from, minded.clock.now - _HOUR)
        assert len(await minded.history()) == 1

    async def test_what_was_valid_earlier_goes_into_history_and_supersedes_nothing(self, minded: Minded) -> None:
        (now,) = (await minded.learn(fact(minded, "city", "Bergen", ago_h=1))).facts
        late = fact(minded, "city", "Oslo", ago_h=9)
        for _ in range(2):
            await minded.learn(late)
            assert await minded.holds() == [("city", "Bergen")]
            (then,) = [one for one in await minded.history() if one.id != now.id]
            assert (then.value, then.valid_from, then.valid_to) == ("Oslo", late.valid_from, now.valid_from)
            assert then.ended_by == f"fact:{now.id}"

    async def test_what_was_confirmed_since_is_not_superseded_by_what_came_in_between(self, minded: Minded) -> None:
        await minded.learn(fact(minded, "city", "Oslo", ago_h=9))
        await minded.learn(fact(minded, "city", "Oslo", ago_h=1))
        await minded.learn(fact(minded, "city", "Bergen", ago_h=5))
        assert await minded.holds() == [("city", "Oslo")]

    async def test_of_facts_that_contradict_each_other_the_later_one_holds(self, minded: Minded) -> None:
        await minded.learn(fact(minded, "city", "Bergen", ago_h=1), fact(minded, "city", "Oslo", ago_h=2))
        assert await minded.holds() == [("city", "Bergen")]
        assert sorted(one.value for one in await minded.history()) == ["Bergen", "Oslo"]

    async def test_of_one_instant_the_surer_one_holds_then_the_last_one(self, minded: Minded) -> None:
        said = [fact(minded, "city", city, confidence=sure) for city, sure in (("A", 0.5), ("B", 0.9), ("C", 0.9), ("D", 0.1))]
        for _ in range(2):
            await minded.learn(*said)
            assert await minded.holds() == [("city", "C")]
            assert len(await minded.history()) == 4

    async def test_an_event_that_is_told_again_does_not_turn_back_what_came_after_it(self, minded: Minded) -> None:
        first, second = fact(minded, "city", "Oslo", ago_h=5), fact(minded, "city", "Bergen", ago_h=4)
        for one in (first, second, first, first, second):
            await minded.learn(one)
        assert await minded.holds() == [("city", "Bergen")]
        assert len(await minded.history()) == 2

    async def test_a_value_that_held_before_can_hold_again(self, minded: Minded) -> None:
        for ago, city in ((5, "Oslo"), (4, "Bergen"), (3, "Oslo")):
            await minded.learn(fact(minded, "city", city, ago_h=ago))
        assert await minded.holds() == [("city", "Oslo")]
        assert len(await minded.history()) == 3

    async def test_what_is_said_to_hold_in_time_to_come_holds_from_now(self, minded: Minded) -> None:
        (one,) = (await minded.learn(fact(minded, "city", "Oslo", ago_h=-1e4))).facts
        assert one.valid_from == minded.clock.now

    async def test_those_who_learn_at_once_lose_nothing(self, minded: Minded) -> None:
        said = [fact(minded, f"key{n % 4}", n, ago_h=100 - n) for n in range(16)]
        await asyncio.gather(*(minded.learn(one) for one in said))
        assert sorted(await minded.holds()) == [(f"key{n}", 12 + n) for n in range(4)]
        history = await minded.history()
        assert sorted(one.value for one in history) == list(range(16))
        assert sum(one.valid_to is None for one in history) == 4

    async def test_an_expired_fact_is_left_out_and_pruned(self, minded: Minded) -> None:
        await minded.learn(
            fact(minded, "mood", "cross", expires_at=minded.clock.now + _HOUR),
            fact(minded, "trial", "on", expires_at=minded.clock.now + 3 * _HOUR),
            fact(minded, "city", "Oslo"),
        )
        minded.clock.now += _HOUR
        assert await minded.holds() == [("trial", "on"), ("city", "Oslo")]
        await minded.learn(fact(minded, "age", 7))
        await minded.store.prune(max_history=100)
        assert sorted(await minded.holds()) == [("age", 7), ("city", "Oslo"), ("trial", "on")]
        assert sorted(one.key for one in await minded.history()) == ["age", "city", "trial"]
        minded.clock.now += 2 * _HOUR
        await minded.store.prune(max_history=100)
        assert sorted(one.key for one in await minded.history()) == ["age", "city"]

    async def test_what_has_expired_superseded_what_was_before_it(self, minded: Minded) -> None:
        await minded.learn(fact(minded, "mood", "glad", ago_h=9))
        await minded.learn(fact(minded, "mood", "cross", ago_h=3, expires_at=minded.clock.now - _HOUR))
        assert await minded.holds() == []
        await minded.learn(fact(minded, "mood", "glad", ago_h=8))
        assert await minded.holds() == []
        await minded.learn(fact(minded, "mood", "glad", ago_h=1))
        assert await minded.holds() == [("mood", "glad")]

    async def test_who_takes_a_fact_back_is_remembered(self, minded: Minded) -> None:
        (one, two) = (await minded.learn(said := fact(minded, "city", "Oslo"), fact(minded, "age", 7))).facts
        minded.clock.now += _HOUR
        assert await minded.store.retract("acme", "ann", one.id, by="person:ann")
        assert await minded.holds() == [("age", 7)]
        taken_back = msgspec.structs.replace(one, known_to=minded.clock.now, ended_by="person:ann")
        assert await minded.history("city") == [taken_back]
        assert not await minded.store.retract("acme", "ann", one.id, by="person:bob")
        await minded.learn(said)
        assert await minded.holds() == [("age", 7)], "the same event says nothing new"
        await minded.learn(fact(minded, "city", "Oslo"))
        assert sorted(await minded.holds()) == [("age", 7), ("city", "Oslo")]
        for wrong in (("rival", "ann", two.id), ("acme", "bob", two.id), ("acme", "ann", new_id())):
            assert not await minded.store.retract(*wrong, by="person:ann")

    async def test_no_tenant_and_no_user_sees_another_one(self, minded: Minded) -> None:
        strange = "o'\\ann\";--%s"
        for tenant, user, city in (("acme", "ann", "Oslo"), ("rival", "ann", "Rome"), ("acme", "bob", "Bonn"), ("acme", strange, "Baku")):
            await minded.learn(fact(minded, "city", city), tenant=tenant, user=user)
        assert await minded.holds("acme", strange) == [("city", "Baku")]
        assert await minded.holds("acme", strange + " ") == []
        assert await minded.holds() == [("city", "Oslo")]
        assert await minded.holds("rival") == [("city", "Rome")]
        assert [one.value for one in await minded.history(user="bob")] == ["Bonn"]
        assert await minded.store.profile("rival", "bob") is None

    async def test_a_user_is_forgotten_with_all_history_and_others_stay(self, minded: Minded) -> None:
        for tenant, user in (("acme", "ann"), ("acme", "bob"), ("rival", "ann")):
            await minded.learn(fact(minded, "city", "Oslo", ago_h=2), tenant=tenant, user=user)
            await minded.learn(fact(minded, "city", "Rome", ago_h=1), tenant=tenant, user=user)
        assert await minded.store.forget("acme", "") == 0
        assert await minded.store.forget("acme", "ann") == 2
        assert await minded.store.profile("acme", "ann") is None
        assert await minded.history() == []
        assert await minded.holds("rival") == await minded.holds("acme", "bob") == [("city", "Rome")]
        assert await minded.store.forget("acme", None) == 2
        assert await minded.holds("acme", "bob") == []
        assert await minded.store.forget("acme", None) == 0
        assert await minded.holds("rival") == [("city", "Rome")]

    async def test_what_was_on_its_way_when_somebody_was_forgotten_is_not_learnt(self, minded: Minded) -> None:
        before, said = minded.clock.now, fact(minded, "city", "Oslo")
        minded.clock.now += _HOUR
        for forgotten in ("ann", None):
            await minded.store.forget("acme", forgotten)
            for arrived in (before, minded.clock.now):
                profile = await minded.store.learn("acme", "ann", [said], arrived=arrived)
                assert profile.facts == ()
            assert await minded.history() == []
        await minded.store.learn("rival", "ann", [said], arrived=before)
        assert await minded.holds("rival") == [("city", "Oslo")]
        minded.clock.now += _HOUR
        await minded.learn(said)
        assert await minded.holds() == [("city", "Oslo")]

    async def test_a_version_never_comes_back(self, minded: Minded) -> None:
        seen = {(await minded.learn(fact(minded, "n", n))).version for n in range(3)}
        for _ in range(2):
            minded.clock.now += _HOUR
            await minded.store.forget("acme", "ann")
            minded.clock.now += _HOUR
            version = (await minded.learn(fact(minded, "n", 0))).version
            assert version not in seen
            seen.add(version)

    async def test_those_who_learn_while_somebody_is_forgotten_leave_nothing_half(self, minded: Minded) -> None:
        """Each fact is in the profile and in history, or in neither."""
        said = [fact(minded, f"key{n}", n) for n in range(12)]
        before = minded.clock.now
        minded.clock.now += _HOUR
        learning = [minded.store.learn("acme", "ann", [one], arrived=before) for one in said]
        await asyncio.gather(*learning[:6], minded.store.forget("acme", "ann"), *learning[6:])
        assert await minded.holds() == []
        assert await minded.history() == []

    async def test_beyond_the_bound_what_is_worth_least_is_believed_no_more(self, minded: Minded) -> None:
        surest = [fact(minded, f"sure{n}", n, confidence=0.9) for n in range(3)]
        said = fact(minded, "said", 1, confidence=0.1, by="person:k", ago_h=99)
        await minded.learn(*surest, said, fact(minded, "guess", 1, confidence=0.2))
        await minded.learn(fact(minded, "better", 1, confidence=0.3))
        held = {key for key, _ in await minded.holds()}
        assert held == {"sure0", "sure1", "sure2", "said", "better"}
        (gone,) = await minded.history("guess")
        assert (gone.known_to, gone.ended_by) == (minded.clock.now, "max_facts")

    async def test_what_is_no_fact_is_refused_and_with_it_all_of_its_batch(self, minded: Minded) -> None:
        """Nor is a name that no user can have taken."""
        for wrong in _WRONG:
            bad = msgspec.structs.replace(fact(minded, "city", "Oslo"), **wrong)
            with pytest.raises(InvalidRequest):
                await minded.learn(fact(minded, "age", 7), bad)
        for user in ("", "x" * 257, "a\0b", "a\nb"):
            with pytest.raises(InvalidRequest, match="user"):
                await minded.learn(fact(minded, "city", "Oslo"), user=user)
        assert await minded.history() == []

    async def test_many_facts_at_once_and_too_many(self, minded: Minded) -> None:
        said = [fact(minded, f"k{n}", "x" * 1000, ago_h=300 - n, multi=True) for n in range(200)]
        await minded.learn(*said)
        assert [key for key, _ in await minded.holds()] == [f"k{n}" for n in range(195, 200)]
        assert len(await minded.history()) == 200
        with pytest.raises(InvalidRequest, match="200"):
            await minded.learn(*said, fact(minded, "one", 1))

    async def test_the_oldest_history_goes_beyond_the_bound_and_what_holds_stays(self, minded: Minded) -> None:
        for n in range(6):
            for user in ("ann", "bob"):
                minded.clock.now += _HOUR
                await minded.learn(fact(minded, "n", n), user=user)
        await minded.store.prune(max_history=3)
        assert await minded.holds() == await minded.holds("acme", "bob") == [("n", 5)]
        if minded.bounds_all:
            assert [one.value for one in await minded.history()] == [5, 4]
            assert [one.value for one in await minded.history(user="bob")] == [5, 4, 3]
            assert await minded.store.prune(max_history=3) == 0

    async def test_other_workers_hear_whose_facts_are_others_now(self, minded: Minded) -> None:
        if minded.changes is None:
            return
        async with aclosing(watched(minded.changes)) as news:
            while (await anext(news))[0] != "facts":
                pass
            (one,) = (await minded.learn(said := fact(minded, "city", "Oslo"), user="\u00fc\"'")).facts
            await minded.learn(said, user="\u00fc\"'")
            await minded.store.retract("acme", "\u00fc\"'", one.id, by="person:k")
            await minded.store.forget("acme", None)
            for _ in range(3):
                channel, payload = await anext(news)
                while channel != "facts":
                    channel, payload = await anext(news)
                assert msgspec.json.decode(payload) == {"tenant": "acme", "user": "\u00fc\"'"}
