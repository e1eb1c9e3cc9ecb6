"""The semantic stage with the real embedder: what it answers, what it keeps, and what it does when something is away, slow or too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from semantic_house import SemanticHouse, Slow, World, minilm

from farthing.cipher import Cipher
from farthing.errors import NotFound
from farthing.ports import Embedder
from farthing.types import DEEP, CacheScope, Mode

ASK = "What is your returns policy?"
AGAIN = "What's your returns policy"
OTHER = "What is your privacy policy?"


@pytest.fixture
async def embedder() -> AsyncIterator[Embedder]:
    found = minilm()
    yield found
    await found.aclose()


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@both
async def test_the_same_question_in_other_words_gets_the_answer_that_is_there(embedder: Embedder, stream: bool) -> None:  # noqa: FBT001
    async with SemanticHouse(embedder) as house:
        first = await house.ask(ASK, stream=stream)
        await house.settle(known=1)
        assert first == ("model", f"About {ASK}")
        for streams in (False, True):
            assert await house.ask(AGAIN, stream=streams) == ("semantic", f"About {ASK}")
        assert (await house.ask(OTHER))[0] == "model"
        assert house.oracle.asked == [ASK, OTHER]
        rows = [(entry.source, entry.cost_microusd, entry.saved_microusd) for entry in house.ledger]
        assert rows == [("model", 21, 0), ("semantic", 0, 21), ("semantic", 0, 21), ("model", 21, 0)]


async def test_a_hit_is_not_kept_again_and_is_counted_for_its_question(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        await house.ask(ASK)
        await house.settle(known=1)
        [question] = await house.world.questions.latest(10)
        requests = [house.request(AGAIN) for _ in range(3)]
        for request in requests:
            assert (await house.send(request))[0] == "semantic", "and not exact: it has no copy of its own"
        await house.settle(known=1)
        hits = await house.world.records.hits("acme", question.id, 10)
        assert {hit.request_id for hit in hits} == {request.id for request in requests}
        assert {(hit.answer_key, hit.saved_microusd) for hit in hits} == {(question.answer_key, 21)}


@pytest.mark.parametrize(
    "more", [{"tenant": "other"}, {"namespace": "docs"}, {"before": [{"role": "system", "content": "Be brief."}]}], ids=str
)
async def test_nothing_is_answered_across(embedder: Embedder, more: dict[str, Any]) -> None:
    async with SemanticHouse(embedder) as house:
        await house.ask(ASK)
        await house.settle(known=1)
        assert (await house.ask(AGAIN, **more))[0] == "model"


async def test_off_neither_reads_nor_learns_and_refresh_learns_anew(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        await house.ask(ASK, cache="off")
        await house.settle(known=0)
        await house.ask(ASK)
        await house.settle(known=1)
        assert (await house.ask(AGAIN, cache="off"))[0] == "model"
        house.oracle.answers[AGAIN] = "Thirty days"
        assert await house.ask(AGAIN, cache="refresh") == ("model", "Thirty days")
        await house.settle(known=2)
        assert await house.ask(f"{AGAIN}?", cache="on") == ("semantic", "Thirty days")


async def test_a_question_whose_words_may_not_be_kept_is_not_learned(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        await house.ask(ASK, store=False)
        await house.settle(known=0)
        assert (await house.ask(ASK))[0] == "exact"
        assert (await house.ask(AGAIN))[0] == "model"


async def test_what_the_store_holds_of_a_question_is_sealed(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        await house.ask(ASK)
        await house.settle(known=1)
        [stored] = await house.world.questions.latest(1)
        assert b"returns" not in stored.payload
        house.world.cipher = Cipher(bytes([1]) * 32)
        async with SemanticHouse(embedder, house.world) as stranger:
            assert stranger.known == 0, "under another key it is as good as absent"
            assert (await stranger.ask(AGAIN))[0] == "model"


async def test_another_worker_knows_it_and_a_new_one_too(embedder: Embedder) -> None:
    world = World()
    async with SemanticHouse(embedder, world) as one, SemanticHouse(embedder, world) as other:
        await one.ask(ASK)
        await one.settle(known=1)
        await one.caches.shared.drain()
        await other.until(lambda: other.known == 1)
        assert (await other.ask(AGAIN))[0] == "semantic"
        async with SemanticHouse(embedder, world) as late:
            await late.until(lambda: late.known == 1)
            assert (await late.ask(AGAIN))[0] == "semantic"
            assert late.oracle.asked == []


async def test_a_flush_reaches_all_workers_and_what_is_under_way(embedder: Embedder) -> None:
    world = World()
    async with SemanticHouse(embedder, world) as one, SemanticHouse(embedder, world) as other:
        await one.ask(ASK, namespace="docs", tags=("policy",))
        await one.ask(ASK, namespace="shop")
        await one.settle(known=2)
        await one.caches.shared.drain()
        await other.until(lambda: other.known == 2)
        done = await other.caches.control.flush("acme", CacheScope(namespace="docs"))
        assert (done["answers"], done["questions"]) == (1, 1)
        await one.until(lambda: one.known == 1)
        for house in (one, other):
            assert (await house.ask(AGAIN, namespace="docs", cache="on"))[0] == "model"
            assert (await house.ask(AGAIN, namespace="shop"))[0] == "semantic"
            await house.caches.control.flush("acme", CacheScope(namespace="docs"))


@pytest.mark.parametrize("mood", ["away", "slow"])
async def test_a_store_that_is_away_or_slow_costs_hits_and_nothing_else(embedder: Embedder, mood: str) -> None:
    world = World()
    async with SemanticHouse(embedder, world) as one:
        await one.ask(ASK)
        await one.settle(known=1)
        await one.caches.shared.drain()
    world.questions.mood = mood
    async with SemanticHouse(embedder, world, search_timeout_s=0.02) as house:
        async with asyncio.timeout(5):
            assert (await house.ask(AGAIN))[0] == "model"
        world.questions.mood = "well"
        house.parts.recall._missed.set()
        await house.until(lambda: house.known >= 1)
        assert (await house.ask("whats your returns policy?"))[0] == "semantic"


async def test_an_embedder_that_is_slow_is_not_waited_for(embedder: Embedder) -> None:
    slow = Slow(embedder)
    slow.gate.set()
    async with SemanticHouse(slow, encode_timeout_s=0.5, max_waiting=2) as house:
        await house.ask(ASK)
        await house.settle(known=1)
        slow.gate.clear()
        asking = [asyncio.create_task(house.ask(f"{AGAIN} {'!' * at}")) for at in range(5)]
        async with asyncio.timeout(5):
            assert [source for source, _ in await asyncio.gather(*asking)] == ["model"] * 5
        finder = house.parts.finder
        assert (finder.late, finder.skipped) == (2, 3)
        slow.gate.set()
        assert (await house.ask("whats your returns policy"))[0] == "semantic"


async def test_a_flood_of_new_questions_is_learned_at_a_pace(embedder: Embedder) -> None:
    async with SemanticHouse(embedder, rate=5) as house:
        for at in range(60):
            assert (await house.ask(f"What is the {at}th letter of the word {at}?", namespace=f"n{at}"))[0] == "model"
        await house.settle()
        assert 5 <= house.world.questions.count <= 12
        assert house.parts.pace.skipped >= 60 - 12


async def test_questions_for_which_there_is_no_room_are_dropped_and_counted(embedder: Embedder) -> None:
    slow = Slow(embedder)
    async with SemanticHouse(slow, write_queue=20) as house:
        for at in range(60):
            assert (await house.ask(f"What is the {at}th letter of the word {at}?", namespace=f"n{at}"))[0] == "model"
        assert (house.parts.bookkeeper.pending, house.parts.bookkeeper.dropped) == (20, 40)
        slow.gate.set()
        await house.settle(known=20)


async def test_a_stale_answer_is_given_while_a_new_one_is_asked_for(embedder: Embedder) -> None:
    async with SemanticHouse(embedder, namespaces={"brief": {"ttl_s": 0.2, "stale_s": 60}}) as house:
        await house.ask(ASK, namespace="brief")
        await house.settle(known=1)
        await asyncio.sleep(0.25)
        house.oracle.answers[AGAIN] = "newer"
        assert await house.ask(AGAIN, namespace="brief") == ("semantic", f"About {ASK}")
        await house.until(lambda: house.oracle.asked == [ASK, AGAIN])
        await house.settle(known=2)
        assert await house.ask(AGAIN, namespace="brief") == ("exact", "newer")
        assert [entry.purpose for entry in house.ledger if not entry.final] == ["refresh"]


async def test_an_answer_that_is_gone_is_a_miss_and_asked_anew(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        await house.ask(ASK)
        await house.settle(known=1)
        await house.caches.shared.drain()
        await house.world.answers.forget("acme")
        house.caches.flush()
        assert (await house.ask(AGAIN))[0] == "model"
        assert house.known == 0
        await house.settle()
        assert (await house.ask("whats your returns policy"))[0] == "semantic"


# What is heard about hits


async def test_a_correction_kills_the_answer_everywhere_and_says_whom_it_reached(embedder: Embedder) -> None:
    world = World()
    async with SemanticHouse(embedder, world) as one, SemanticHouse(embedder, world) as other:
        await one.ask(ASK)
        await one.settle(known=1)
        hit = one.request(AGAIN)
        assert (await one.send(hit))[0] == "semantic"
        await one.settle()
        with pytest.raises(NotFound):
            await one.caches.control.hear("other", hit.id, right=False, by="correction")
        said = await other.caches.control.hear("acme", hit.id, right=False, by="correction")
        assert (said["new"], said["consequence"], said["answered"]) == (True, "dead", [hit.id])
        again = await one.caches.control.hear("acme", hit.id, right=False, by="correction")
        assert (again["new"], again["consequence"], again["answered"]) == (False, "none", [])
        assert world.questions.count == 0
        await one.until(lambda: one.known == 0)
        one.caches.flush()  # in a real worker the news of deleted answers do that
        assert [(await one.ask(text))[0] for text in (AGAIN, ASK)] == ["model", "model"]


async def test_a_shadow_call_compares_the_answers_and_is_paid_for(embedder: Embedder) -> None:
    async with SemanticHouse(embedder, shadow={"share": 1}) as house:
        house.oracle.answers |= {ASK: "You may return goods within 30 days.", AGAIN: "Goods can be returned within 30 days."}
        await house.ask(ASK)
        await house.settle(known=1)
        await house.hits_until_looked_at(AGAIN)
        found = await house.verdicts(1)
        [verdict] = found
        assert (verdict.by, verdict.same, verdict.served, verdict.audit > 0) == ("shadow", True, True, True)
        stats = await house.caches.control.stats()
        assert stats["tenants"]["acme"]["error_rate"] == 0
        paid = [entry for entry in house.ledger if entry.purpose == "verify"]
        assert [(entry.final, entry.cost_microusd, entry.saved_microusd) for entry in paid] == [(False, 21, -21)]
        assert (await house.ask(AGAIN))[0] == "semantic", "what the model said to the second look is not kept"


async def test_a_shadow_call_that_finds_another_answer_says_so(embedder: Embedder) -> None:
    async with SemanticHouse(embedder, shadow={"share": 1}, judge={"model": "judge"}) as house:
        house.oracle.answers |= {ASK: "Within 30 days.", AGAIN: "Never."}
        house.oracle.opinion = "No."
        await house.ask(ASK)
        await house.settle(known=1)
        await house.hits_until_looked_at(AGAIN)
        found = await house.verdicts(1)
        assert [(one.by, one.same) for one in found] == [("shadow", False)]
        assert "Within 30 days." in house.oracle.judged[0]
        assert "Never." in house.oracle.judged[0]


async def test_a_judge_reads_near_misses_only_and_is_bounded(embedder: Embedder) -> None:
    async with SemanticHouse(embedder, judge={"model": "judge", "band": 0, "per_minute": 2}, delta=0) as house:
        await house.ask(ASK)
        await house.settle(known=1)
        for at in range(4):
            assert (await house.ask(f"{AGAIN}{'?' * at}"))[0] == "model", "delta 0: nothing but the exact cache"
        await house.until(lambda: len(house.oracle.judged) == 2)
        found = await house.verdicts(2)
        assert {(one.by, one.same, one.served, one.audit) for one in found} == {("judge", True, False, 0.0)}
        assert AGAIN in house.oracle.judged[0]


async def test_explaining_does_nothing(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        assert (await house.caches.control.explain(house.request(AGAIN)))["why"].startswith(
            "nothing near it was asked before in this context"
        )
        await house.ask(ASK)
        await house.settle(known=1)
        for _ in range(3):
            told = await house.caches.control.explain(house.request(AGAIN))
            assert told["source"] == "semantic"
        assert [(one["asked"], one["guard"]) for one in told["candidates"]] == [(ASK, None)]
        swapped = await house.caches.control.explain(house.request(OTHER))
        assert swapped["source"] == "model"
        personal = await house.caches.control.explain(house.request("What is my balance?"))
        assert "personal" in personal["why"]
        assert (await house.caches.control.explain(house.request(ASK)))["source"] == "exact"
        assert (house.oracle.asked, house.world.questions.count) == ([ASK], 1)
        assert await house.world.records.hits("acme", UUID(str(told["candidates"][0]["question"])), 10) == []


# Modes

SHALLOW = Mode(name="SHALLOW", rank=1, cache_delta=0.02)


async def test_a_question_answered_in_a_worse_mode_helps_only_in_that_mode(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        house.oracle.answers[ASK] = "short"
        assert await house.ask(ASK, mode=SHALLOW) == ("model", "short")
        await house.settle(known=1)
        assert await house.ask(AGAIN, mode=SHALLOW) == ("semantic", "short")
        assert await house.ask(AGAIN, mode=Mode(name="SUPER_SHALLOW", rank=2)) == ("model", f"About {AGAIN}")
        assert (await house.ask(AGAIN))[0] == "model"


async def test_a_question_answered_in_the_best_mode_helps_in_all(embedder: Embedder) -> None:
    async with SemanticHouse(embedder) as house:
        await house.ask(ASK)
        await house.settle(known=1)
        assert await house.ask(AGAIN, mode=SHALLOW) == ("semantic", f"About {ASK}")


async def test_a_mode_widens_the_error_bound_and_never_narrows_it(embedder: Embedder) -> None:
    async with SemanticHouse(embedder, delta=0.01) as house:
        stage = house.caches.semantic
        assert stage is not None
        deltas = []
        for mode in (DEEP, SHALLOW, Mode(name="NARROW", rank=1, cache_delta=0.001)):
            asked, _ = await stage.consider(house.request(ASK, mode=mode))
            deltas.append(asked.delta if asked else None)
        assert deltas == [0.01, 0.02, 0.01]
