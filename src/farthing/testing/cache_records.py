"""What every adapter of `ports.CacheRecords` must do. Subclass the suite and give it a fixture `recorded`: empty stores and their clock.

class TestMyRecords(CacheRecordsContract): ...

@pytest.fixture
async def recorded() -> AsyncIterator[Recorded]: ...
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, literal expectations are its point, and its dice are no secrets

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from farthing.ports import CHANNELS, CacheRecords, Changes, QuestionStore
from farthing.testing.questions import question, question_id
from farthing.testing.stores import Clock, watched
from farthing.types import ServedHit, Verdict, uuid7_at

_SECOND = timedelta(seconds=1)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The records under test, the questions that they are of, where news come from, and the clock that they tell the time by."""

    records: CacheRecords
    questions: QuestionStore
    changes: Changes
    clock: Clock


def served_hit(seed: str, clock: Clock, **facts: Any) -> ServedHit:
    """A request that was answered now with the answer to `question("q")`."""
    usual = {"request_id": _id("request", seed), "question_id": question_id("q"), "answer_key": bytes(32), "tenant": "acme"}
    return ServedHit(**{**usual, "score": 2.5, "saved_microusd": 7, "at": clock.now, **facts})


def verdict(seed: str, clock: Clock, **facts: Any) -> Verdict:
    """A judge says now that such a hit was right."""
    usual = {"id": _id("verdict", seed), "tenant": "acme", "question_id": question_id("q"), "request_id": _id("request", seed)}
    return Verdict(**{**usual, "same": True, "by": "judge", "score": 2.5, "served": True, "at": clock.now, **facts})


def _id(kind: str, seed: str) -> UUID:
    return uuid7_at(2_000_000, sha256(f"{kind} {seed}".encode()).digest()[:10])


class CacheRecordsContract:
    """`ports.CacheRecords`."""

    async def test_a_hit_comes_back_as_it_was_noted(self, recorded: Recorded) -> None:
        hits = [served_hit("a", recorded.clock), served_hit("b", recorded.clock, score=-0.1, saved_microusd=-(10**12))]
        await recorded.records.served(hits)
        for hit in hits:
            assert await recorded.records.hit("acme", hit.request_id) == hit
        assert await recorded.records.hit("acme", _id("request", "nobody")) is None

    async def test_another_tenants_hit_is_absent(self, recorded: Recorded) -> None:
        hit = served_hit("a", recorded.clock)
        await recorded.records.served([hit])
        for tenant in ("rival", "", "ACME"):
            assert await recorded.records.hit(tenant, hit.request_id) is None
            assert await recorded.records.hits(tenant, hit.question_id, 10) == []

    async def test_hits_of_a_question_are_the_newest_first(self, recorded: Recorded) -> None:
        hits = [served_hit(str(n), recorded.clock, at=recorded.clock.now + n * _SECOND) for n in range(5)]
        other = served_hit("other", recorded.clock, question_id=question_id("other"))
        await recorded.records.served([*random.sample(hits, 5), other])
        assert await recorded.records.hits("acme", question_id("q"), 10) == hits[::-1]
        assert await recorded.records.hits("acme", question_id("q"), 2) == [hits[4], hits[3]]
        assert await recorded.records.hits("acme", question_id("other"), 10) == [other]

    async def test_a_request_is_noted_once(self, recorded: Recorded) -> None:
        hit = served_hit("a", recorded.clock)
        await recorded.records.served([hit])
        await recorded.records.served([msgspec.structs.replace(hit, score=9.0), hit])
        assert await recorded.records.hits("acme", hit.question_id, 10) == [hit]

    async def test_reuse_makes_a_question_worth_more_and_counts_each_request_once(self, recorded: Recorded) -> None:
        """Twice as dear is worth as much as reused once; so what was reused twice (three uses) stays behind what is four times as dear."""
        dear = question("dear", recorded.clock, cost_microusd=1500)
        dearer = question("dearer", recorded.clock, cost_microusd=4500)
        reused = question("q", recorded.clock, cost_microusd=1000)
        await recorded.questions.put([dear, dearer, reused])
        assert [one.id for one in await recorded.questions.latest(3)] == [dearer.id, dear.id, reused.id]
        hits = [served_hit(str(n), recorded.clock) for n in range(3)]
        for _ in range(2):
            await recorded.records.served(hits[:1])
            await recorded.records.served([hits[0], hits[0], hits[0]])
        assert [one.id for one in await recorded.questions.latest(3)] == [dearer.id, reused.id, dear.id]
        await recorded.records.served([served_hit(str(n), recorded.clock) for n in range(7)])
        assert [one.id for one in await recorded.questions.latest(3)] == [reused.id, dearer.id, dear.id]
        assert await recorded.questions.prune(1) == 2
        assert [one.id for one in await recorded.questions.latest(3)] == [reused.id]

    async def test_a_hit_of_another_tenant_is_no_reuse(self, recorded: Recorded) -> None:
        await recorded.questions.put([question("q", recorded.clock), question("dear", recorded.clock, cost_microusd=1500)])
        await recorded.records.served([served_hit(str(n), recorded.clock, tenant="rival") for n in range(9)])
        assert [one.id for one in await recorded.questions.latest(2)] == [question_id("dear"), question_id("q")]

    async def test_a_hit_of_a_question_that_is_gone_is_noted(self, recorded: Recorded) -> None:
        hit = served_hit("a", recorded.clock, question_id=question_id("gone"))
        await recorded.records.served([hit])
        assert await recorded.records.hits("acme", question_id("gone"), 1) == [hit]

    async def test_verdicts_come_back_newest_first(self, recorded: Recorded) -> None:
        verdicts = [
            verdict("a", recorded.clock),
            verdict("b", recorded.clock, same=False, by="thumb", score=-3.25, at=recorded.clock.now + _SECOND),
            verdict("c", recorded.clock, tenant="rival", by="shadow", served=False, audit=0.25, at=recorded.clock.now + 2 * _SECOND),
        ]
        assert set(await recorded.records.add_verdicts(verdicts)) == {one.id for one in verdicts}
        assert await recorded.records.verdicts(10) == verdicts[::-1]
        assert await recorded.records.verdicts(10, "acme") == [verdicts[1], verdicts[0]]
        assert await recorded.records.verdicts(1) == [verdicts[2]]
        assert await recorded.records.verdicts(10, "nobody") == []

    async def test_a_second_verdict_of_the_same_id_is_the_same(self, recorded: Recorded) -> None:
        one, two = verdict("a", recorded.clock), verdict("b", recorded.clock)
        assert await recorded.records.add_verdicts([one]) == [one.id]
        assert await recorded.records.add_verdicts([msgspec.structs.replace(one, same=False), two, two]) == [two.id]
        assert await recorded.records.add_verdicts([one, two]) == []
        assert sorted((found.id, found.same) for found in await recorded.records.verdicts(10)) == sorted([(one.id, True), (two.id, True)])

    async def test_new_verdicts_are_told_whole_and_old_ones_not(self, recorded: Recorded) -> None:
        verdicts = [verdict(str(n), recorded.clock, tenant="t" * 128) for n in range(40)]
        await recorded.records.add_verdicts(verdicts[:1])
        told: list[Verdict] = []
        async with aclosing(watched(recorded.changes)) as news:
            while (await anext(news))[0] != CHANNELS[-1]:
                pass
            await recorded.records.add_verdicts(verdicts)
            while len(told) < 39:
                channel, payload = await anext(news)
                assert channel == "verdicts"
                told += msgspec.json.decode(payload, type=list[Verdict])
        assert sorted(told, key=lambda one: one.id) == sorted(verdicts[1:], key=lambda one: one.id)

    async def test_what_a_tenant_had_goes_and_does_not_come_back(self, recorded: Recorded) -> None:
        clock = recorded.clock
        hit, rival = served_hit("a", clock), served_hit("r", clock, tenant="rival")
        await recorded.records.served([hit, rival])
        await recorded.records.add_verdicts([verdict("a", clock), verdict("r", clock, tenant="rival")])
        late, late_verdict = served_hit("late", clock), verdict("late", clock)
        clock.now += _SECOND
        assert await recorded.records.forget("acme", None) == 2
        fresh = served_hit("fresh", clock, at=clock.now + _SECOND)
        await recorded.records.served([late, fresh])
        assert await recorded.records.add_verdicts([late_verdict]) == []
        assert await recorded.records.hits("acme", question_id("q"), 10) == [fresh]
        assert await recorded.records.hit("rival", rival.request_id) == rival
        assert [one.tenant for one in await recorded.records.verdicts(10)] == ["rival"]

    async def test_what_is_of_a_users_questions_goes(self, recorded: Recorded) -> None:
        clock = recorded.clock
        await recorded.questions.put([question("q", clock), question("ann", clock, user_id="ann"), question("bob", clock, user_id="bob")])
        hits = [served_hit(name, clock, question_id=question_id(name)) for name in ("q", "ann", "bob")]
        await recorded.records.served(hits)
        await recorded.records.add_verdicts([verdict(name, clock, question_id=question_id(name)) for name in ("q", "ann", "bob")])
        assert await recorded.records.forget("acme", "ann") == 2
        assert await recorded.records.forget("rival", "bob") == 0
        left = [await recorded.records.hit("acme", hit.request_id) is not None for hit in hits]
        assert left == [True, False, True]
        assert len(await recorded.records.verdicts(10)) == 2

    async def test_pruning_takes_the_oldest(self, recorded: Recorded) -> None:
        hits = [served_hit(str(n), recorded.clock, at=recorded.clock.now + n * _SECOND) for n in range(6)]
        verdicts = [verdict(str(n), recorded.clock, at=recorded.clock.now + n * _SECOND) for n in range(6)]
        await recorded.records.served(random.sample(hits, 6))
        await recorded.records.add_verdicts(random.sample(verdicts, 6))
        assert await recorded.records.prune(max_hits=4, max_verdicts=1) == 7
        assert await recorded.records.hits("acme", question_id("q"), 10) == hits[:1:-1]
        assert await recorded.records.verdicts(10) == [verdicts[5]]
        assert await recorded.records.prune(max_hits=4, max_verdicts=1) == 0

    async def test_nothing_is_no_work(self, recorded: Recorded) -> None:
        await recorded.records.served([])
        assert await recorded.records.add_verdicts([]) == []
        assert await recorded.records.prune(max_hits=0, max_verdicts=0) == 0

    async def test_concurrent_writers_of_the_same_hits_all_succeed(self, recorded: Recorded) -> None:
        await recorded.questions.put([question(f"q{n}", recorded.clock) for n in range(5)])
        hits = [served_hit(str(n), recorded.clock, question_id=question_id(f"q{n % 5}")) for n in range(50)]
        await asyncio.gather(*(recorded.records.served(random.sample(hits, 50)) for _ in range(8)))
        assert len(await recorded.records.hits("acme", question_id("q0"), 100)) == 10
