"""What becomes of outcomes on their way to the store."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from farthing.errors import InvalidRequest, NotFound, Overloaded, Unavailable
from farthing.inprocess.routers import InProcessOutcomes
from farthing.ports import Encoded
from farthing.routing.learned.features import features_of
from farthing.routing.outcome_book import OutcomeBook
from farthing.testing.stores import Clock, ledger_entry
from farthing.testing.words import WordEmbedder
from farthing.types import Extras, Json, LedgerEntry, Lifeline, Operation, Outcome, Principal, Request, new_id, utc_now


class Records:
    """The ledger's records of requests."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []

    async def attempts(self, request_id: UUID) -> list[LedgerEntry]:
        return [entry for entry in self.entries if entry.request_id == request_id]

    async def latest(self, **_: Any) -> list[LedgerEntry]:
        return self.entries


class Moody(InProcessOutcomes):
    """A store that can be away, or find an outcome unfit."""

    away = False
    unfit: frozenset[str] = frozenset()

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        if self.away:
            raise Unavailable("away")
        if self.unfit & {one.model for one in outcomes}:
            raise InvalidRequest("unfit")
        await super().add(outcomes)

    async def all(self) -> list[Outcome]:
        return (await self.latest(router=None, tenant=None, limit=100))[::-1]


class Busy(WordEmbedder):
    """An embedder that may have no time."""

    busy = False

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        if self.busy:
            raise Overloaded("busy")
        return await super().encode(texts)


class House:
    """A book, and what it writes to."""

    def __init__(self, sample: float = 1.0, **bounds: int) -> None:
        self.clock = Clock(utc_now())
        self.store = Moody()
        self.records = Records()
        usual = {"max_remembered": 100, "max_pending": 100, "max_rows": 100}
        self.embedder = Busy()
        samples = {"auto": sample}
        self.book = OutcomeBook(self.store, self.records, self.embedder, samples, clock=self.clock, **{**usual, **bounds})

    def ask(
        self, explored: str | None = None, checks: Sequence[str] = (), router: str | None = "auto", *, read: bool = True, **more: Any
    ) -> Request:
        """A request, and whether its prompt was read."""
        body: Json = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **more.pop("body", {})}
        usual: dict[str, Any] = {"principal": Principal(key_id=UUID(int=1), tenant="acme"), "extras": Extras(user="ann")}
        request = Request(
            **{**usual, **more},
            id=new_id(),
            operation=Operation.CHAT,
            model="auto",
            body=body,
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(None),
            choice=SimpleNamespace(router=router, checks=[SimpleNamespace(name=name) for name in checks]),
        )
        if read:
            self.book.note(request, "auto", b"\x01\x02", (0.5,), explored or "weak", explored=explored is not None)
        return request

    @property
    def pending(self) -> int:
        """Of what waits to be written, how much somebody said."""
        return sum(said.score is not None for said in self.book._queue)

    def answered(self, request: Request, model: str | None, **more: Any) -> None:
        """The ledger has it."""
        facts = {"request_id": request.id, "model_used": model, "tenant": "acme", **more}
        self.records.entries.append(ledger_entry(self.clock.now, **facts))


async def test_what_checks_say_is_written_with_the_prompts_numbers() -> None:
    house = House()
    request = house.ask(explored="strong")
    house.book.checked(request, "weak", "failed:schema")
    house.book.checked(request, "strong", "passed")
    assert house.pending == 2
    await house.book.drain()
    weak, strong = sorted(await house.store.all(), key=lambda one: one.model, reverse=True)
    assert (weak.model, weak.score, weak.by, weak.explored) == ("weak", 0.0, "check", False)
    assert (strong.model, strong.score, strong.by, strong.explored) == ("strong", 1.0, "check", True)
    assert (weak.tenant, weak.user_id, weak.router, weak.request_id) == ("acme", "ann", "auto", request.id)
    assert (weak.vector, weak.embedder, weak.features, weak.at) == (b"\x01\x02", house.embedder.version, (0.5,), house.clock.now)
    assert house.pending == 0


@pytest.mark.parametrize(
    ("checks", "said", "by"),
    [(("schema", "judge"), "passed", "judge"), (("schema", "judge"), "failed:schema", "check"), (("judge",), "failed:judge", "judge")],
)
async def test_a_judges_word_is_told_from_a_checks(checks: tuple[str, ...], said: str, by: str) -> None:
    house = House()
    house.book.checked(house.ask(checks=checks), "weak", said)
    await house.book.drain()
    assert [one.by for one in await house.store.all()] == [by]


async def test_a_prompt_that_nobody_has_read_yet_is_read_in_the_background() -> None:
    """So that cascades teach before anything has been learnt."""
    house = House()
    requests = [house.ask(read=False, body={"messages": [{"role": "user", "content": text}]}) for text in ("one", "two", "one")]
    for request in requests:
        house.book.checked(request, "weak", "failed:schema")
        house.book.checked(request, "strong", "passed")
    house.embedder.busy = True
    with pytest.raises(Overloaded):
        await house.book.drain()
    assert house.pending == 6
    house.embedder.busy = False
    await house.book.drain()
    found = await house.store.all()
    assert {one.vector for one in found} == {house.embedder.encoded(text).vector for text in ("one", "two")}
    assert {(one.request_id, one.model, one.score) for one in found} == {
        (request.id, model, score) for request in requests for model, score in (("weak", 0.0), ("strong", 1.0))
    }
    assert all(one.features == features_of(request.body) for one in found for request in requests if request.id == one.request_id)
    house.answered(requests[1], "strong")
    assert (await house.book.hear("acme", requests[1].id, 0.5, "thumb"))["model"] == "strong"


async def test_nothing_is_kept_of_other_routers_or_of_who_wants_nothing_kept_or_said_nothing() -> None:
    house = House()
    for read in (True, False):
        for request in (
            house.ask(read=read, router=None),
            house.ask(read=read, router="other"),
            house.ask(read=read, extras=Extras(store=False)),
            house.ask(read=read, body={"store": False}),
        ):
            house.book.checked(request, "weak", "passed")
    house.book.checked(house.ask(read=False, body={"messages": [{"role": "user", "content": " "}]}), "weak", "passed")
    assert house.pending == 0
    request = house.ask(extras=Extras(store=False))
    house.answered(request, "weak")
    with pytest.raises(NotFound):
        await house.book.hear("acme", request.id, 1.0, "thumb")


async def test_about_the_sampled_share_is_kept_and_of_a_request_all_or_nothing() -> None:
    house = House(sample=0.25, max_remembered=2000, max_pending=10_000, max_rows=5000)
    for request in [house.ask() for _ in range(2000)]:
        house.book.checked(request, "weak", "failed:x")
        house.book.checked(request, "strong", "passed")
    assert 800 < house.pending < 1200
    await house.book.drain()
    kept = await house.store.latest(router=None, tenant=None, limit=5000)
    assert len({one.request_id for one in kept}) * 2 == len(kept)


@pytest.mark.parametrize(("sample", "kept"), [(0.0, 0), (1.0, 500)])
async def test_all_or_nothing_may_be_kept(sample: float, kept: int) -> None:
    house = House(sample=sample, max_remembered=500, max_pending=2000)
    for request in [house.ask() for _ in range(500)]:
        house.book.checked(request, "weak", "passed")
    assert house.pending == kept


async def test_too_many_are_dropped_and_counted_and_old_prompts_are_forgotten() -> None:
    house = House(max_remembered=3, max_pending=2)
    requests = [house.ask(read=number > 0) for number in range(4)]
    for request in requests[1:]:
        house.book.checked(request, "weak", "passed")
    assert (house.book.pending, house.pending, house.book.dropped) == (2, 1, 2)
    await house.book.drain()
    assert [one.request_id for one in await house.store.all()] == [requests[1].id]
    assert len(house.book._noted) == 3


async def test_what_was_only_read_leaves_room_for_what_is_said() -> None:
    house = House(max_pending=10)
    requests = [house.ask() for _ in range(20)]
    for request in requests:
        house.book.checked(request, "weak", "passed")
    assert (house.book.pending, house.pending, house.book.dropped) == (10, 5, 15)


async def test_what_the_store_cannot_take_now_waits_and_what_it_never_takes_is_dropped() -> None:
    house = House()
    house.store.away = True
    for model in ("weak", "unfit", "strong"):
        house.book.checked(house.ask(), model, "passed")
    with pytest.raises(Unavailable):
        await house.book.drain()
    assert (house.pending, house.book.pending, house.book.dropped) == (3, 6, 0)
    house.store.away, house.store.unfit = False, frozenset({"unfit"})
    await house.book.drain()
    assert {one.model for one in await house.store.all()} == {"weak", "strong"}
    assert (house.pending, house.book.dropped) == (0, 1)


async def test_what_comes_is_written_in_the_background() -> None:
    house = House()
    running = [asyncio.create_task(house.book.run()), asyncio.create_task(house.book.prune())]
    house.book.checked(house.ask(), "weak", "passed")
    async with asyncio.timeout(5):
        while not await house.store.all():  # noqa: ASYNC110 - the store does not tell
            await asyncio.sleep(0.01)
    for task in running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_person_is_heard_about_the_model_that_answered() -> None:
    house = House(sample=0)  # people are always heard
    request = house.ask()
    house.answered(request, "weak", final=False)
    house.answered(request, "strong")
    said = await house.book.hear("acme", request.id, 0.25, "thumb")
    assert (said["router"], said["model"]) == ("auto", "strong")
    assert [(one.model, one.score, one.by) for one in await house.store.all()] == [("strong", 0.25, "thumb")]


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("explored", [None, "strong"])
async def test_a_person_is_heard_by_a_worker_that_did_not_read_the_prompt(checked: bool, explored: str | None) -> None:  # noqa: FBT001 - a table
    house = House()
    request = house.ask(explored)
    if checked:
        house.book.checked(request, "weak", "passed")
    await house.book.drain()
    house.book._noted.clear()
    house.answered(request, "strong")
    await house.book.hear("acme", request.id, 0.0, "correction")
    found = {one.model: one for one in await house.store.all()}["strong"]
    assert (found.score, found.by, found.vector, found.explored) == (0.0, "correction", b"\x01\x02", explored is not None)


async def test_who_speaks_of_anothers_request_or_of_one_without_an_answer_is_not_heard() -> None:
    house = House()
    request, unanswered = house.ask(), house.ask()
    house.answered(request, "strong")
    house.answered(unanswered, None)
    for tenant, request_id in (("rival", request.id), ("acme", new_id()), ("acme", unanswered.id)):
        with pytest.raises(NotFound):
            await house.book.hear(tenant, request_id, 1.0, "thumb")
    assert await house.store.all() == []


async def test_of_who_was_forgotten_nothing_is_kept_and_it_is_said() -> None:
    house = House()
    request = house.ask()
    house.answered(request, "strong")
    house.clock.now += timedelta(seconds=1)
    await house.store.forget("acme", "ann")
    for said in ("deleted", "no prompt"):
        with pytest.raises(NotFound, match=said):
            await house.book.hear("acme", request.id, 1.0, "thumb")


async def test_prompts_of_yesterday_are_forgotten() -> None:
    house = House()
    request = house.ask()
    house.answered(request, "strong")
    house.clock.now += timedelta(days=1, seconds=1)
    pruning = asyncio.create_task(house.book.prune())
    await asyncio.sleep(0)
    pruning.cancel()
    with pytest.raises(NotFound, match="no prompt"):
        await house.book.hear("acme", request.id, 1.0, "thumb")
