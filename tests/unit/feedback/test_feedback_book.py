"""What follows from what people say of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.cipher import CannotOpen, Cipher
from farthing.errors import NotFound, Unavailable
from farthing.feedback.book import QUESTION, FeedbackBook, Said
from farthing.feedback.sealing import FeedbackSealing
from farthing.inprocess.feedback import InProcessFeedback
from farthing.settings import FeedbackSettings
from farthing.testing.feedback import feedback
from farthing.testing.stores import Clock, ledger_entry
from farthing.types import CacheScope, Feedback, Json, LedgerEntry, Principal, Request, Source, new_id, utc_now

_KEY = "ab" * 32


class Ledger:
    """The ledger's records of requests. `late`: looks that see nothing yet."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self.late = 0

    async def attempts(self, request_id: UUID) -> list[LedgerEntry]:
        if self.late:
            self.late -= 1
            return []
        return [entry for entry in self.entries if entry.request_id == request_id]

    async def latest(self, **_: Any) -> list[LedgerEntry]:
        return self.entries


class Caches:
    """A cache that writes down what it is told. `late`: times that it does not know the hit yet."""

    def __init__(self) -> None:
        self.flushed: list[tuple[str | None, CacheScope]] = []
        self.verdicts: list[tuple[str, UUID, bool, str]] = []
        self.late = 0

    async def flush(self, tenant: str | None, scope: CacheScope) -> Json:
        self.flushed.append((tenant, scope))
        return {"answers": 1, "questions": 1}

    async def hear(self, tenant: str, request_id: UUID, *, right: bool, by: Literal["thumb", "correction"]) -> Json:
        if self.late:
            self.late -= 1
            raise NotFound("no such hit")
        self.verdicts.append((tenant, request_id, right, by))
        return {"consequence": "none" if right else "dead", "question": "q", "answered": [] if right else [request_id]}

    async def explain(self, request: Request) -> Json:
        raise NotImplementedError

    async def hits(self, tenant: str, question_id: UUID, limit: int) -> Json:
        raise NotImplementedError

    async def stats(self) -> Json:
        raise NotImplementedError


class Edge:
    """Answers that were computed ahead, by the users whose were deleted."""

    def __init__(self) -> None:
        self.gone: list[tuple[str, str | None]] = []

    async def forget(self, tenant: str, user_id: str | None) -> int:
        self.gone.append((tenant, user_id))
        return 1


class Moody(InProcessFeedback):
    away = False

    async def add(self, said: Feedback) -> bool:
        if self.away:
            raise Unavailable("away")
        return await super().add(said)


class House:
    def __init__(self, *, settle_s: float = 2.0) -> None:
        self.ledger, self.caches, self.edge = Ledger(), Caches(), Edge()
        self.clock = Clock(utc_now())
        self.store = Moody(clock=self.clock)
        self.sealing = FeedbackSealing(Cipher(bytes(32)))
        self.taught: list[tuple[str, UUID, float, str]] = []
        self.routed = True
        settings = FeedbackSettings(settle_s=settle_s)
        self.book = FeedbackBook(
            self.store,
            self.ledger,
            self.caches,
            self.edge,
            self._hear,
            self.sealing,
            lambda text: text.replace("hunter2", "[secret]"),
            settings,
            clock=self.clock,
        )
        self.who = Principal(key_id=UUID(int=7), tenant="acme")

    async def _hear(self, tenant: str, request_id: UUID, score: float, by: str) -> Json:
        if not self.routed:
            raise NotFound("no router has read it")
        self.taught.append((tenant, request_id, score, by))
        return {"router": "auto", "model": "weak"}

    def asked(self, **facts: Any) -> UUID:
        entry = ledger_entry(self.clock.now, answer_key=_KEY, **facts)
        self.ledger.entries.append(entry)
        return entry.request_id

    async def say(self, request_id: UUID, score: float, correction: str | None = None, **more: Any) -> Json:
        who = more.pop("who", self.who)
        return await self.book.hear(who, Said(request_id=request_id, score=score, correction=correction, **more))

    async def kept(self) -> list[Feedback]:
        return [self.sealing.open(one) for one in await self.store.latest(tenant=None, limit=100)]


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("source", [Source.MODEL, Source.EXACT])
async def test_a_bad_answer_leaves_the_exact_cache_and_a_good_one_stays(house: House, source: Source) -> None:
    asked = house.asked(source=source)
    for score in (1.0, 0.5):
        assert (await house.say(asked, score))["cache"] == {"source": source, "consequence": "none"}
    assert house.caches.flushed == []
    said = await house.say(asked, 0.4)
    assert said["cache"] == {"source": source, "consequence": "dead"}
    assert house.caches.flushed == [("acme", CacheScope(answer_key=bytes.fromhex(_KEY)))]
    assert house.caches.verdicts == []


async def test_a_bad_answer_from_the_edge_takes_with_it_what_was_computed_ahead_for_its_user(house: House) -> None:
    asked = house.asked(source=Source.EDGE, user_id="ann")
    assert (await house.say(asked, 1))["cache"] == {"source": Source.EDGE, "consequence": "none"}
    assert house.edge.gone == []
    assert (await house.say(asked, 0))["cache"] == {"source": Source.EDGE, "consequence": "dead"}
    assert house.edge.gone == [("acme", "ann")]
    assert house.caches.flushed == []


async def test_an_answer_that_is_not_kept_is_not_looked_for(house: House) -> None:
    entry = ledger_entry(house.clock.now)
    house.ledger.entries.append(entry)
    assert (await house.say(entry.request_id, 0))["cache"]["consequence"] == "none"
    assert house.caches.flushed == []


async def test_the_semantic_cache_gives_its_verdict_as_soon_as_it_knows_the_hit(house: House) -> None:
    asked = house.asked(source=Source.SEMANTIC)
    house.caches.late = 2
    assert (await house.say(asked, 1))["cache"] == {"source": Source.SEMANTIC, "consequence": "none", "question": "q"}
    bad = await house.say(asked, 0, "It is Paris.")
    assert bad["cache"] == {"source": Source.SEMANTIC, "consequence": "dead", "question": "q", "given_to": 1}
    assert house.caches.verdicts == [("acme", asked, True, "thumb"), ("acme", asked, False, "correction")]
    await house.say(asked, 0.5)
    assert len(house.caches.verdicts) == 2


async def test_a_hit_that_the_semantic_cache_never_knows_is_said_and_the_rest_is_done() -> None:
    house = House(settle_s=0)
    house.caches.late = 99
    said = await house.say(house.asked(source=Source.SEMANTIC), 0)
    assert said["cache"] == {"source": Source.SEMANTIC, "consequence": "none", "why": "no such hit"}
    assert said["router"] == {"learnt": True, "router": "auto", "model": "weak"}


async def test_the_router_learns_from_thumbs_and_corrections_where_one_was_asked(house: House) -> None:
    asked = house.asked()
    await house.say(asked, 0.3)
    await house.say(asked, 0, "Paris")
    assert house.taught == [("acme", asked, 0.3, "thumb"), ("acme", asked, 0.0, "correction")]
    house.routed = False
    assert (await house.say(asked, 1))["router"] == {"learnt": False, "why": "no router has read it"}


async def test_a_thumb_down_is_asked_what_it_should_have_been_until_somebody_says_so(house: House) -> None:
    asked = house.asked()
    assert (await house.say(asked, 0))["ask"] == QUESTION
    assert (await house.say(asked, 0.49))["ask"] == QUESTION
    assert "ask" not in await house.say(asked, 0.5)
    assert "ask" not in await house.say(asked, 0, "Paris")
    assert "ask" not in await house.say(asked, 0.1)


async def test_the_same_said_twice_is_one_and_is_acted_upon_again(house: House) -> None:
    asked = house.asked()
    first, again = await house.say(asked, 0, "Paris"), await house.say(asked, 0, "Paris")
    assert (first["new"], again["new"]) == (True, False)
    assert first["id"] == again["id"]
    assert len(house.caches.flushed) == 2
    other = await house.say(asked, 0, "Lyon")
    assert (other["new"], other["id"] != first["id"]) == (True, True)
    assert {one.correction for one in await house.kept()} == {"Lyon", "Paris"}
    assert (house.book.good, house.book.bad, house.book.corrected) == (0, 2, 2)


async def test_secrets_are_not_kept_and_nothing_is_kept_in_clear(house: House) -> None:
    await house.say(house.asked(), 0, "Your password is hunter2", reason="hunter2!")
    (kept,) = await house.kept()
    assert (kept.correction, kept.reason) == ("Your password is [secret]", "[secret]!")
    (sealed,) = await house.store.latest(tenant=None, limit=1)
    assert "password" not in str(sealed)


async def test_nobody_elses_requests_can_be_told_from_ones_that_never_were() -> None:
    house = House(settle_s=0)
    of_rival, of_ann = house.asked(tenant="rival"), house.asked(user_id="ann")
    bob = Principal(key_id=UUID(int=8), tenant="acme", user="bob")
    never = new_id()
    errors = []
    for who, asked in ((house.who, of_rival), (bob, of_ann), (house.who, never)):
        with pytest.raises(NotFound) as caught:
            await house.say(asked, 0, who=who)
        errors.append((caught.value.message.replace(str(asked), "ID"), caught.value.retry_after_s, caught.value.retry))
    assert len(set(errors)) == 1
    assert await house.kept() == []
    assert house.caches.flushed == []
    ann = Principal(key_id=UUID(int=9), tenant="acme", user="ann")
    assert (await house.say(of_ann, 0, who=ann))["new"]
    (kept,) = await house.kept()
    assert (kept.user, kept.by) == ("ann", UUID(int=9))


async def test_a_request_on_its_way_into_the_ledger_is_waited_for(house: House) -> None:
    asked = house.asked()
    house.ledger.late = 3
    assert (await house.say(asked, 1))["new"]


async def test_a_request_that_may_be_under_way_is_to_be_spoken_of_later_and_an_old_one_is_not() -> None:
    house = House(settle_s=0)
    for asked, retry in ((new_id(), True), (UUID("01900000-0000-7000-8000-000000000000"), False)):
        with pytest.raises(NotFound) as caught:
            await house.say(asked, 1)
        assert caught.value.retry is retry
        assert (caught.value.retry_after_s is not None) is retry


async def test_an_unfinished_attempt_is_no_answer() -> None:
    house = House(settle_s=0)
    asked = house.asked(final=False)
    with pytest.raises(NotFound):
        await house.say(asked, 1)


async def test_what_cannot_be_stored_has_no_effect_and_is_told(house: House) -> None:
    asked = house.asked()
    house.store.away = True
    with pytest.raises(Unavailable):
        await house.say(asked, 0)
    assert house.caches.flushed == []
    house.store.away = False
    assert (await house.say(asked, 0))["new"]


async def test_of_somebody_who_was_forgotten_since_nothing_is_kept(house: House) -> None:
    asked = house.asked(user_id="ann")
    house.clock.now = utc_now()
    await house.store.forget("acme", "ann")
    with pytest.raises(NotFound):
        await house.say(asked, 0, "Paris")
    assert await house.kept() == []


async def test_those_who_speak_at_the_same_time_are_all_heard(house: House) -> None:
    asked = house.asked()
    answers = await asyncio.gather(*(house.say(asked, number / 20) for number in range(20)), *(house.say(asked, 0.0) for _ in range(5)))
    assert sum(one["new"] for one in answers) == 20
    assert len(await house.kept()) == 20


_texts: Callable[[], st.SearchStrategy[str | None]] = lambda: st.none() | st.text(max_size=200)  # noqa: E731 - a name for a strategy


@given(correction=_texts(), reason=_texts(), score=st.floats(0, 1))
def test_what_is_sealed_opens_for_its_own_row_alone(correction: str | None, reason: str | None, score: float) -> None:
    sealing = FeedbackSealing(Cipher(bytes(32)))
    said = feedback(1, Clock(), correction=correction, reason=reason, score=score)
    sealed = sealing.seal(said)
    opened = sealing.open(sealed)
    assert (opened.correction, opened.reason) == (correction, reason)
    assert sealing.seal(said).digest == sealed.digest
    assert FeedbackSealing(Cipher(bytes([1] * 32))).seal(said).digest != sealed.digest
    moved = feedback(2, Clock(), correction=sealed.correction, reason=sealed.reason)
    if correction is not None or reason is not None:
        with pytest.raises(CannotOpen):
            sealing.open(moved)
