"""The learned router at work: what it knows, what it does not, and that nothing takes it down."""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from farthing.errors import InvalidRequest, Overloaded, Unavailable
from farthing.inprocess.routers import InProcessOutcomes, InProcessRouters
from farthing.inprocess.stores import InProcessChanges
from farthing.ports import Embedder, Encoded
from farthing.routing.exploration import Exploration
from farthing.routing.learned.comparison import against, against_length
from farthing.routing.learned.features import features_of
from farthing.routing.learned.model import LearnedModel
from farthing.routing.learned.outcomes import Row, table_of
from farthing.routing.learned.training import Trained, trained_on
from farthing.routing.learning import Learned, Student, facts_of, fitting
from farthing.routing.outcome_book import OutcomeBook
from farthing.settings import LearnedSettings
from farthing.testing.words import WordEmbedder
from farthing.types import Extras, Json, Lifeline, Operation, Outcome, Principal, Promotion, Request, RouterVersion, new_id

_MODELS = ("weak", "strong")
_EMBEDDER = WordEmbedder()
_HARD = ("compute the integral of", "which integral equals", "an integral over", "solve this integral with")
_EASY = ("what is the capital of", "which city lies near", "the weather today in", "name a friend from")
_PLACES = ("France", "Peru", "sand", "water", "the sea", "green hills", "iron", "tea")


def _body(text: str) -> Json:
    return {"model": "auto", "messages": [{"role": "user", "content": text}]}


def _row(text: str, scores: dict[str, float]) -> Row:
    return Row(vector=_EMBEDDER.encoded(text).vector, features=features_of(_body(text)), scores=scores)


def _rows(hard: Sequence[str] = _HARD, easy: Sequence[str] = _EASY) -> list[Row]:
    """Prompts with an integral in them, which only the strong model can answer, and others, which both can."""
    texts = [(f"{start} {a} and {b}", start in hard) for start in (*hard, *easy) for a, b in itertools.combinations(_PLACES, 2)]
    return [_row(text, {"weak": 1.0 - is_hard, "strong": 1.0}) for text, is_hard in texts]


def _trained(rows: Sequence[Row]) -> Trained:
    return trained_on(table_of(rows, _MODELS, 1), _MODELS, embedder=_EMBEDDER.version, seed=1)


@pytest.fixture(scope="module")
def artefact() -> bytes:
    return _trained(_rows()).model.dump()


@pytest.fixture(scope="module")
def reverse() -> bytes:
    """One that believes the opposite."""
    return _trained(_rows(_EASY, _HARD)).model.dump()


class Slow(WordEmbedder):
    """Takes its time, or has none."""

    def __init__(self, *, wait_s: float = 0.0, full: bool = False) -> None:
        super().__init__()
        self.calls = 0
        self._wait_s = wait_s
        self._full = full

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        self.calls += 1
        if self._full:
            raise Overloaded("full")
        await asyncio.sleep(self._wait_s)
        return await super().encode(texts)


class Moody(InProcessRouters):
    """A store that can be away, and counts what is read from it."""

    away = False
    reads = 0

    async def promotions(self, router: str, limit: int) -> list[Promotion]:
        if self.away:
            raise Unavailable("away")
        return await super().promotions(router, limit)

    async def promoted(self, router: str) -> RouterVersion | None:
        self.reads += 1
        return await super().promoted(router)


class House:
    """One worker's learned router `auto`."""

    def __init__(self, embedder: Embedder | None = _EMBEDDER, *, share: float = 0.0, usd: int = 1, **settings: Any) -> None:
        self.store = Moody(InProcessChanges())
        self.outcomes = InProcessOutcomes()
        dice = random.Random(1)  # noqa: S311 - nothing secret
        bounds = {"max_remembered": 100, "max_pending": 100, "max_rows": 100}
        self.book = OutcomeBook(self.outcomes, None, embedder, {"auto": 1.0}, **bounds)  # type: ignore[arg-type]  # no ledger is asked
        costs = {"weak": 1, "strong": 10}
        exploration = Exploration(lambda model, _: costs[model], dice, share=share, microusd_per_day=usd * 1_000_000)
        learned = LearnedSettings.model_validate({"embed_timeout_s": 0.5, **settings})
        self.learned = Learned(
            self.store, embedder, {"auto": Student(models=_MODELS, settings=learned, exploration=exploration)}, self.book, refresh_s=0.01
        )

    async def promote(self, artefact: bytes) -> None:
        made = await self.store.add("auto", artefact, {}, "ann")
        await self.store.promote("auto", made.version, "ann")
        await self.learned.reload()

    async def ask(self, text: str, quality: float = 0.95, **more: Any) -> tuple[str | None, str]:
        return await self.learned.choose("auto", request(text, **more), quality)


def request(text: str, **more: Any) -> Request:
    """A chat request."""
    usual: dict[str, Any] = {
        "principal": Principal(key_id=new_id(), tenant="acme"),
        "extras": Extras(),
        "body": _body(text),
        "model": "auto",
    }
    ids: dict[str, Any] = {"id": new_id(), "started_ns": time.perf_counter_ns()}
    return Request(
        **{**usual, **more}, **ids, operation=Operation.CHAT, lifeline=Lifeline(None), choice=SimpleNamespace(router="auto", checks=())
    )


async def test_what_was_learnt_decides(artefact: bytes) -> None:
    house = House()
    await house.promote(artefact)
    assert [(await house.ask(f"{start} tea and iron"))[0] for start in (*_HARD, *_EASY)] == ["strong"] * 4 + ["weak"] * 4
    assert (house.learned.decided, house.learned.unknown, house.learned.version("auto")) == (8, 0, 1)


async def test_before_anything_is_promoted_it_does_not_know(artefact: bytes) -> None:
    house = House()
    await house.store.add("auto", artefact, {}, "ann")
    await house.learned.reload()
    assert (await house.ask("hi"))[0] is None
    assert (await house.learned.choose("other", request("hi"), 0.9))[0] is None
    assert (house.learned.decided, house.learned.unknown) == (0, 2)


async def test_another_version_decides_once_it_is_promoted_and_none_when_that_is_taken_back(artefact: bytes, reverse: bytes) -> None:
    house = House()
    easy = f"{_EASY[0]} tea and iron"
    await house.promote(artefact)
    assert (await house.ask(easy))[0] == "weak"
    await house.promote(reverse)
    assert (await house.ask(easy))[0] == "strong"
    assert "version 2" in (await house.ask(easy))[1]
    await house.store.promote("auto", None, "ann")
    await house.learned.reload()
    assert (await house.ask(easy))[0] is None


async def test_a_version_that_cannot_be_used_leaves_the_one_before_and_is_read_once(
    artefact: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    house = House()
    await house.promote(artefact)
    await house.promote(artefact[: len(artefact) // 2])
    reads = house.store.reads
    for _ in range(3):
        await house.learned.reload()
    assert house.store.reads == reads
    assert "version 2 of the router auto cannot be used" in caplog.text
    model, reason = await house.ask(f"{_EASY[0]} tea and iron")
    assert (model, house.learned.version("auto")) == ("weak", 1)
    assert "version 1" in reason
    await house.promote(artefact)
    assert house.learned.version("auto") == 3


async def test_a_damaged_first_version_leaves_it_to_the_default() -> None:
    house = House()
    await house.promote(b"junk")
    assert (await house.ask("hi"))[0] is None
    assert house.learned.version("auto") is None


async def test_a_store_that_goes_away_leaves_what_decides(artefact: bytes) -> None:
    house = House()
    running = asyncio.create_task(house.learned.run())
    house.store.away = True
    await asyncio.sleep(0.05)
    assert not running.done()
    house.store.away = False
    made = await house.store.add("auto", artefact, {}, "ann")
    await house.store.promote("auto", made.version, "ann")
    async with asyncio.timeout(10):
        while house.learned.version("auto") is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    house.store.away = True
    await asyncio.sleep(0.05)
    assert (await house.ask(f"{_EASY[0]} tea and iron"))[0] == "weak"
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("embedder", "said"),
    [(Slow(wait_s=60), "not read within"), (Slow(full=True), "could not be read"), (None, "no embedder")],
)
async def test_who_cannot_read_the_prompt_in_time_does_not_know(artefact: bytes, embedder: Embedder | None, said: str) -> None:
    house = House(embedder, embed_timeout_s=0.02)
    await house.promote(artefact)
    model, reason = await house.ask("hi there")
    assert model is None
    assert said in reason


@pytest.mark.parametrize("body", [{}, {"messages": None}, {"messages": [{"role": "user", "content": " "}]}, {"messages": [7]}])
async def test_a_request_without_text_is_not_decided(artefact: bytes, body: Json) -> None:
    house = House()
    await house.promote(artefact)
    assert (await house.ask("", body=body))[0] is None


async def test_a_prompt_that_the_semantic_cache_has_read_is_not_read_again(artefact: bytes) -> None:
    embedder = Slow()
    house = House(embedder)
    await house.promote(artefact)
    text = f"{_HARD[0]} tea and iron"
    read = SimpleNamespace(text=text, encoded=_EMBEDDER.encoded(text))
    assert (await house.ask(text, asked=read))[0] == "strong"
    assert embedder.calls == 0
    for other in (SimpleNamespace(text="another", encoded=read.encoded), SimpleNamespace(text=text, encoded=None)):
        assert (await house.ask(text, asked=other))[0] == "strong"
    assert embedder.calls == 2


async def test_only_models_that_may_answer_are_chosen(artefact: bytes) -> None:
    house = House()
    await house.promote(artefact)
    easy = request(f"{_EASY[0]} tea and iron")
    assert (await house.learned.choose("auto", easy, 0.95, ["strong"]))[0] == "strong"
    assert (await house.learned.choose("auto", easy, 0.95, ["unheard-of"]))[0] is None
    assert (await house.learned.choose("auto", easy, 0.95, []))[0] is None


async def test_what_fails_inside_is_logged_and_not_known(artefact: bytes, caplog: pytest.LogCaptureFixture) -> None:
    house = House(WordEmbedder(dimensions=32))  # of the same version as far as it says
    house.learned._embedder.version = _EMBEDDER.version  # type: ignore[union-attr]
    await house.promote(artefact)
    assert (await house.ask("hi there"))[0] is None
    assert "the learned router 'auto' failed" in caplog.text


async def test_explored_requests_say_so_and_their_outcomes_too(artefact: bytes) -> None:
    house = House(share=1.0)
    await house.promote(artefact)
    asked = request(f"{_EASY[0]} tea and iron")
    model, reason = await house.learned.choose("auto", asked, 0.95)
    assert model == "strong"
    assert "explored: strong instead of weak" in reason
    house.book.checked(asked, "strong", "passed")
    await house.book.drain()
    (one,) = await house.outcomes.latest(router="auto", tenant="acme", limit=10)
    assert (one.model, one.explored, one.embedder, one.features) == ("strong", True, _EMBEDDER.version, features_of(asked.body))
    assert isinstance(one, Outcome)
    assert (house.learned.explored, house.learned.decided) == (1, 1)


async def test_a_request_that_is_only_asked_about_leaves_no_trace(artefact: bytes) -> None:
    house = House(share=1.0)
    await house.promote(artefact)
    asked = request(f"{_EASY[0]} tea and iron", extras=Extras(dry_run=True))
    assert (await house.learned.choose("auto", asked, 0.95))[0] == "weak"
    assert (house.learned.decided, house.learned.explored, house.book.pending, len(house.book._noted)) == (0, 0, 0, 0)


async def test_without_an_allowance_only_what_is_cheaper_is_explored(artefact: bytes) -> None:
    house = House(share=1.0, usd=0)
    await house.promote(artefact)
    assert [(await house.ask(f"{start} tea and iron"))[0] for start in (_HARD[0], _EASY[0])] == ["weak", "weak"]


async def test_what_a_request_without_a_decision_was_like_can_be_learnt_from(artefact: bytes) -> None:
    """It is what is unknown that there is most to learn of."""
    house = House()
    await house.promote(artefact)
    asked = request("Wie spät ist es gerade, und warum fragst du mich das schon wieder?")
    await house.learned.choose("auto", asked, 0.95)
    house.book.checked(asked, "strong", "passed")
    assert house.book.pending == 2


@pytest.mark.parametrize(
    ("models", "embedder", "said"),
    [
        (("weak",), None, "no candidate"),
        (("strong", "weak"), None, "in the order"),
        (_MODELS, "another", "train it again"),
    ],
)
def test_a_version_must_fit_the_router(artefact: bytes, models: tuple[str, ...], embedder: str | None, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        fitting(artefact, models, embedder)


def test_a_version_may_know_fewer_models_than_there_are_candidates(artefact: bytes) -> None:
    model = fitting(artefact, ("tiny", "weak", "mid", "strong"), _EMBEDDER.version)
    assert isinstance(model, LearnedModel)
    assert facts_of(model) == {"models": ["weak", "strong"], "embedder": _EMBEDDER.version}


def test_a_version_is_compared_on_rows_that_the_other_has_not_seen(artefact: bytes, reverse: bytes) -> None:
    fresh = [_row(f"{start} {a} with {b}, now", {"weak": 1.0 - (start in _HARD), "strong": 1.0})
             for start in (*_HARD, *_EASY) for a, b in itertools.permutations(_PLACES, 2)]  # fmt: skip
    trained = _trained(fresh)
    with_the_opposite, with_its_equal = against(trained, reverse), against(trained, artefact)
    assert with_the_opposite.n == len(fresh)
    assert with_the_opposite.better
    assert not with_its_equal.better
    assert against_length(trained).better
    again = against(_trained(_rows()), artefact)
    assert (again.n, again.apgr, again.better) == (0, None, False)


def test_where_there_is_nothing_to_gain_nothing_is_better() -> None:
    equal = [_row(f"{start} {a} and {b}", {"weak": 1.0, "strong": 1.0}) for start in _EASY for a, b in itertools.combinations(_PLACES, 2)]
    compared = against_length(_trained(equal))
    assert (compared.apgr, compared.difference, compared.interval, compared.better) == (None, None, None, False)


def test_chance_is_not_better_than_the_length_of_a_prompt() -> None:
    dice = random.Random(3)  # noqa: S311 - nothing secret
    rows = [_row(f"{start} {a} and {b}", {"weak": float(dice.random() < 0.5), "strong": float(dice.random() < 0.8)})
            for start in (*_HARD, *_EASY) for a, b in itertools.combinations(_PLACES, 2)]  # fmt: skip
    assert not against_length(_trained(rows)).better
