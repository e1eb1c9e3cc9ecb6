"""The exact stage between the account and the dispatch stage, over a provider that answers when told."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from farthing.caching.exact import ExactCache
from farthing.caching.memory import MemoryTier
from farthing.caching.shared import SharedTier
from farthing.errors import UpstreamUnavailable
from farthing.inprocess.stores import InProcessAnswers, InProcessChanges
from farthing.pipeline.errands import Errands
from farthing.pipeline.stage import compose
from farthing.pipeline.stream import Fold, replay
from farthing.ports import Call
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.dispatch import Dispatch
from farthing.settings import CacheSettings
from farthing.spend.account import Account
from farthing.spend.meter import LedgerMeter
from farthing.testing.purse import OpenPurse
from farthing.types import (
    DEEP,
    Completion,
    Extras,
    Json,
    LedgerEntry,
    Lifeline,
    Operation,
    Price,
    Principal,
    Request,
    Source,
    StoredAnswer,
    new_id,
)

WHO = Principal(key_id=UUID(int=1), tenant="acme")
PRICE = Price(input=1_000_000, output=1_000_000, source="settings")
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21, "completion_tokens_details": {"reasoning_tokens": 3}}


def whole(*messages: Json, finish: str = "stop", logprobs: Json | None = None, **more: Any) -> Json:
    """A `chat.completion` with one choice for each message."""
    choices = [
        {
            "index": at,
            "message": {"role": "assistant", "content": None, "refusal": None, **one},
            "logprobs": logprobs,
            "finish_reason": finish,
        }
        for at, one in enumerate(messages)
    ]
    head = {"id": "chatcmpl-upstream", "object": "chat.completion", "created": 5, "model": "gpt-4o-mini-2024"}
    return {**head, **more, "choices": choices, "usage": USAGE}


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Zürich"}'}}
TOKENS = [{"token": one, "logprob": -0.1, "bytes": list(one.encode()), "top_logprobs": []} for one in ("Hel", "lo")]
ANSWERS = {
    "text": whole({"content": "Hello there, wörld 🌍\n\n  and so on"}),
    "two choices": whole({"content": "one"}, {"content": "two"}),
    "tool calls": whole({"tool_calls": [CALL, {**CALL, "id": "call_2"}]}, finish="tool_calls"),
    "log probabilities": whole({"content": "Hello"}, logprobs={"content": TOKENS, "refusal": None}),
    "reasoning and unknown fields": whole(
        {"content": "42", "reasoning_content": "hm", "annotations": [], "audio": None},
        service_tier="default",
        system_fingerprint=None,
        x_new={"a": 1},
    ),
    "cut at the limit": whole({"content": "Once upon"}, finish="length"),
}


class Oracle:
    """A provider that gives `answer`, whole or in chunks, after `gate` opens; or fails with `error`."""

    name = kind = "oracle"
    open_connections = 0

    def __init__(self) -> None:
        self.answer: Json = ANSWERS["text"]
        self.error: Exception | None = None
        self.break_after: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.cancelled = 0
        self.usage: Json | None = USAGE

    async def healthy(self) -> bool:
        return True

    async def chat(self, call: Call) -> Completion:
        await self._turn(call)
        return Completion(body=copy.deepcopy(self.answer))

    async def embed(self, call: Call) -> Completion:
        await self._turn(call)
        vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
        return Completion(body={"object": "list", "data": vectors, "model": "e", "usage": {"prompt_tokens": 2, "total_tokens": 2}})

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        await self._turn(call)
        for at, chunk in enumerate(replay(copy.deepcopy(self.answer))):
            if at == self.break_after:
                raise UpstreamUnavailable("broke")
            yield chunk, None
            await asyncio.sleep(0)
        if self.usage:
            yield None, self.usage

    async def _turn(self, call: Call) -> None:
        assert call.body
        self.calls += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error

    async def aclose(self) -> None:
        pass


class Store(InProcessAnswers):
    """The in-process store, which can be away or stuck."""

    stuck = False

    async def get(self, tenant: str, key: bytes) -> StoredAnswer | None:
        if self.stuck:
            await asyncio.Event().wait()
        return await super().get(tenant, key)


class House:
    """Account → exact → dispatch over an oracle, driven as the door drives them."""

    def __init__(self, store: Store | None = None, *, stretch: float = 1.0, **settings: Any) -> None:
        namespaces = settings.pop("namespaces", {})
        caches = CacheSettings.model_validate({"exact": {"read_timeout_s": 0.05, **settings}, "namespaces": namespaces})
        limits = caches.exact
        self.oracle = Oracle()
        self.store = store or Store(InProcessChanges())
        self.shared = SharedTier(self.store, limits, stretch=stretch)
        self.errands = Errands(most=2)
        self.kept: list[tuple[Request, bytes]] = []
        memory = MemoryTier(limits.max_bytes, stretch=stretch)
        self.exact = ExactCache(caches, memory, self.shared, self.errands, lambda *kept: self.kept.append(kept[:2]))
        self.ledger: list[LedgerEntry] = []
        meter = LedgerMeter(self, [], anonymous_per_minute=0)
        cooldown = Cooldown(1000, 1.0, time.monotonic)
        deployment = Deployment(model="fast", provider=self.oracle, upstream_model="u", weight=1, price=PRICE, retries=0, cooldown=cooldown)
        models = [Model(name=name, operation=Operation.CHAT, deployments=(deployment,)) for name in ("fast", "other")]
        catalogue = Catalogue(models, random.Random(1))  # noqa: S311 - nothing secret
        self._flow = compose([Account(meter), self.exact], Dispatch(catalogue, meter, OpenPurse(), lambda _: None))
        self.errands.begin(self._flow)
        self.asked: list[UUID] = []
        self.requests: dict[asyncio.Task[Any], Request] = {}

    def record(self, entry: LedgerEntry) -> None:
        self.ledger.append(entry)

    async def ask(self, text: str = "Hi", *, streams: bool = False, **more: Any) -> tuple[Source, Json | list[Json]]:
        """Source and whole body, or chunks with the usage as the last one."""
        usual = {"tenant": "acme", "operation": Operation.CHAT, "cache": "on", "namespace": "default", "mode": DEEP}
        facts: dict[str, Any] = {**usual, **more.pop("facts", {})}
        task = asyncio.current_task()
        request = Request(
            id=new_id(),
            principal=msgspec.structs.replace(WHO, tenant=facts["tenant"]),
            operation=facts["operation"],
            body={"messages": [{"role": "user", "content": text}], **more},
            model="fast",
            fingerprint="f",
            extras=Extras(cache=facts["cache"], namespace=facts["namespace"]),
            stream=streams,
            mode=facts["mode"],
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(task),
        )
        assert task is not None
        self.requests[task] = request
        self.asked.append(request.id)
        answer = await self._flow(request)
        if answer.stream is None:
            assert answer.body is not None
            return answer.source, msgspec.json.decode(answer.body)
        try:
            chunks = [chunk async for chunk in answer.stream]
        finally:
            await answer.stream.aclose()
        return answer.source, [*chunks, {"usage": answer.usage}]

    def start(self, *args: Any, **more: Any) -> asyncio.Task[tuple[Source, Json | list[Json]]]:
        return asyncio.ensure_future(self.ask(*args, **more))

    def leave(self, task: asyncio.Task[Any]) -> None:
        """The client of a request goes away, as the protocol tells it."""
        self.requests[task].lifeline.release()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - many things can make it true
                await asyncio.sleep(0)

    async def sources(self, *tasks: asyncio.Task[tuple[Source, Any]]) -> list[str]:
        async with asyncio.timeout(5):
            return [source.value for source, _ in await asyncio.gather(*tasks)]

    def at_rest(self) -> None:
        """Nothing under way, and one settling entry for each request."""
        assert self.exact.flights == 0
        finals = [entry.request_id for entry in self.ledger if entry.final]
        assert sorted(finals) == sorted(self.asked)


def stripped(body: Json) -> Json:
    """An answer without what a hit may change."""
    kept = {key: value for key, value in body.items() if key not in {"id", "created"}}
    if isinstance(kept.get("usage"), dict):
        kept["usage"] = {key: value for key, value in kept["usage"].items() if key != "prompt_tokens_details"}
    return kept


def folded(chunks: list[Json]) -> Json:
    fold = Fold()
    for chunk in chunks[:-1]:
        fold.add(chunk)
    return fold.body(chunks[-1]["usage"])


both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


# A hit is the miss


@pytest.mark.parametrize("what", ANSWERS)
async def test_a_whole_hit_is_the_whole_miss(what: str) -> None:
    house = House()
    house.oracle.answer = ANSWERS[what]
    first, miss = await house.ask()
    second, hit = await house.ask()
    assert isinstance(miss, dict)
    assert isinstance(hit, dict)
    assert (first, second, house.oracle.calls) == (Source.MODEL, Source.EXACT, 1)
    assert stripped(hit) == stripped(miss)
    assert list(hit)[:3] == ["id", "object", "created"]
    assert hit["id"] != miss["id"]
    assert hit["usage"]["prompt_tokens_details"]["cached_tokens"] == 9
    house.at_rest()


@pytest.mark.parametrize("what", ANSWERS)
async def test_a_streamed_hit_has_the_chunks_of_the_streamed_miss(what: str) -> None:
    house = House()
    house.oracle.answer = ANSWERS[what]
    _, miss = await house.ask(streams=True)
    source, hit = await house.ask(streams=True)
    assert isinstance(miss, list)
    assert isinstance(hit, list)
    assert (source, house.oracle.calls) == (Source.EXACT, 1)
    assert [stripped(chunk) for chunk in hit] == [stripped(chunk) for chunk in miss]
    assert len({chunk["id"] for chunk in hit[:-1]}) == 1
    assert hit[0]["id"] != miss[0]["id"]
    house.at_rest()


@pytest.mark.parametrize("what", ANSWERS)
async def test_a_whole_miss_serves_a_streamed_hit(what: str) -> None:
    house = House()
    house.oracle.answer = ANSWERS[what]
    _, miss = await house.ask()
    source, hit = await house.ask(streams=True)
    assert isinstance(miss, dict)
    assert isinstance(hit, list)
    assert source is Source.EXACT
    assert stripped(folded(hit)) == stripped(miss)
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in hit[:-1])
    house.at_rest()


@pytest.mark.parametrize("what", ANSWERS)
async def test_a_streamed_miss_serves_a_whole_hit(what: str) -> None:
    house = House()
    house.oracle.answer = ANSWERS[what]
    _, miss = await house.ask(streams=True)
    source, hit = await house.ask()
    assert isinstance(miss, list)
    assert isinstance(hit, dict)
    assert source is Source.EXACT
    assert stripped(hit) == stripped(folded(miss)) == stripped(ANSWERS[what])
    house.at_rest()


async def test_embeddings_are_kept_too() -> None:
    house = House()
    found = [await house.ask(facts={"operation": Operation.EMBEDDINGS}) for _ in range(2)]
    miss = found[0][1]
    assert isinstance(miss, dict)
    assert [source for source, _ in found] == [Source.MODEL, Source.EXACT]
    assert found[1][1] == {
        **miss,
        "usage": {"prompt_tokens": 2, "total_tokens": 2, "prompt_tokens_details": {"cached_tokens": 2}},
    }
    house.at_rest()


@both
async def test_a_hit_saves_what_the_miss_cost(streams: bool) -> None:  # noqa: FBT001
    house = House()
    for _ in range(3):
        await house.ask(streams=streams)
    assert [(entry.source, entry.cost_microusd, entry.saved_microusd) for entry in house.ledger] == [
        ("model", 21, 0),
        ("exact", 0, 21),
        ("exact", 0, 21),
    ]


async def test_a_guess_of_usage_stays_a_guess_in_the_hit() -> None:
    house = House()
    house.oracle.usage = None
    await house.ask(streams=True)
    _, hit = await house.ask()
    assert isinstance(hit, dict)
    assert hit["usage"]["estimated"] is True


# Who shares with whom


@pytest.mark.parametrize("facts", [{"tenant": "rival"}, {"namespace": "other"}])
async def test_tenants_and_namespaces_share_nothing(facts: dict[str, str]) -> None:
    house = House()
    await house.ask()
    source, _ = await house.ask(facts=facts)
    assert (source, house.oracle.calls) == (Source.MODEL, 2)


async def test_off_neither_reads_nor_writes() -> None:
    house = House()
    for _ in range(2):
        assert (await house.ask(facts={"cache": "off"}))[0] is Source.MODEL
    assert (await house.ask())[0] is Source.MODEL
    assert (await house.ask(facts={"cache": "off"}))[0] is Source.MODEL
    house.at_rest()


@both
async def test_refresh_asks_anew_and_replaces_the_answer(streams: bool) -> None:  # noqa: FBT001
    house = House()
    await house.ask()
    house.oracle.answer = ANSWERS["two choices"]
    assert (await house.ask(streams=streams, facts={"cache": "refresh"}))[0] is Source.MODEL
    source, hit = await house.ask()
    assert isinstance(hit, dict)
    assert (source, len(hit["choices"])) == (Source.EXACT, 2)
    house.at_rest()


@pytest.mark.parametrize(("temperature", "kept"), [(0, True), (0.5, True), (0.6, False), (None, False), (2, False)])
async def test_requests_hotter_than_the_policy_are_not_kept(temperature: float | None, kept: bool) -> None:  # noqa: FBT001
    house = House(max_temperature=0.5)
    sources = [(await house.ask(temperature=temperature))[0] for _ in range(2)]
    assert sources == [Source.MODEL, Source.EXACT if kept else Source.MODEL]
    house.at_rest()


UNCACHEABLE = {
    "filtered": whole({"content": "x"}, finish="content_filter"),
    "refused": whole({"content": None, "refusal": "I cannot"}),
    "empty": whole({"content": ""}),
    "one of two empty": whole({"content": "x"}, {"content": None}),
    "no reason of the end": whole({"content": "x"}, finish=""),
    "an unheard-of end": whole({"content": "x"}, finish="insufficient_system_resource"),
}


@both
@pytest.mark.parametrize("what", UNCACHEABLE)
async def test_an_answer_that_is_none_is_not_kept(what: str, streams: bool) -> None:  # noqa: FBT001
    house = House()
    house.oracle.answer = UNCACHEABLE[what]
    for _ in range(2):
        assert (await house.ask(streams=streams))[0] is Source.MODEL
    house.at_rest()


@pytest.mark.parametrize("finish", [{"a": 1}, ["stop"], 7])
async def test_a_garbled_reason_of_the_end_is_no_error(finish: Any) -> None:
    house = House()
    house.oracle.answer = whole({"content": "x"}, finish=finish)
    for streams in (False, True):
        assert (await house.ask(streams=streams))[0] is Source.MODEL
    house.at_rest()


async def test_an_answer_past_its_time_is_asked_anew() -> None:
    house = House(ttl_s=1e-9)
    for _ in range(2):
        assert (await house.ask())[0] is Source.MODEL


@both
async def test_a_stale_answer_is_given_while_a_new_one_is_asked_for(streams: bool) -> None:  # noqa: FBT001
    house = House(ttl_s=1e-9, stale_s=60)
    await house.ask()
    house.oracle.answer = whole({"content": "newer"})
    house.oracle.gate.clear()
    for _ in range(3):
        source, body = await house.ask(streams=streams)
        assert source is Source.EXACT
        assert "newer" not in str(folded(body) if isinstance(body, list) else body)
    await house.until(lambda: house.oracle.calls == 2)
    house.oracle.gate.set()
    await house.until(lambda: len(house.ledger) == 5)
    assert "newer" in str(stripped((await house.ask())[1]))  # type: ignore[arg-type]  # it is whole
    renewals = [entry for entry in house.ledger if entry.purpose == "refresh"]
    assert len(renewals) == 1, "one at a time, however many see that it is stale"
    assert (renewals[0].final, renewals[0].baseline_microusd) == (False, 0)
    assert renewals[0].saved_microusd == -renewals[0].cost_microusd < 0
    await house.errands.close()
    house.at_rest()


async def test_a_renewal_that_fails_leaves_the_stale_answer_where_it_is() -> None:
    house = House(ttl_s=1e-9, stale_s=60)
    await house.ask()
    house.oracle.error = UpstreamUnavailable("away")
    for calls in (2, 3):
        assert (await house.ask())[0] is Source.EXACT
        await house.until(lambda calls=calls: house.oracle.calls == calls and not house.exact._renewing)  # type: ignore[misc]  # it takes none
    house.at_rest()


async def test_each_namespace_has_its_own_time() -> None:
    house = House(namespaces={"brief": {"ttl_s": 1e-9}})
    for namespace, second in (("brief", Source.MODEL), ("other", Source.EXACT)):
        await house.ask(facts={"namespace": namespace})
        assert (await house.ask(facts={"namespace": namespace}))[0] is second


@both
async def test_whoever_wants_to_know_is_told_what_is_kept(streams: bool) -> None:  # noqa: FBT001
    house = House()
    await house.ask(streams=streams)
    await house.ask(streams=streams)
    house.oracle.answer = whole({"content": ""})
    await house.ask("another", streams=streams)
    [(request, key)] = house.kept
    assert (request.id, await house.exact.stored("acme", key) is None) == (house.asked[0], False)
    assert await house.exact.stored("other", bytes(32)) is None


@both
async def test_an_answer_larger_than_the_bound_is_not_kept(streams: bool) -> None:  # noqa: FBT001
    house = House(max_entry_bytes=500)
    for _ in range(2):
        assert (await house.ask(streams=streams))[0] is Source.MODEL
    house.at_rest()


async def test_a_stream_of_too_many_chunks_is_not_kept() -> None:
    house = House(max_chunks=5)
    for _ in range(2):
        assert (await house.ask(streams=True))[0] is Source.MODEL
    house.at_rest()


@both
async def test_a_failure_is_not_kept(streams: bool) -> None:  # noqa: FBT001
    house = House()
    house.oracle.error = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await house.ask(streams=streams)
    house.oracle.error = None
    assert (await house.ask(streams=streams))[0] is Source.MODEL
    house.at_rest()


async def test_a_stream_that_broke_is_not_kept() -> None:
    house = House()
    house.oracle.break_after = 3
    with pytest.raises(UpstreamUnavailable):
        await house.ask(streams=True)
    house.oracle.break_after = None
    assert (await house.ask())[0] is Source.MODEL
    house.at_rest()


# Single-flight


@both
async def test_identical_requests_at_the_same_time_are_one_call(streams: bool) -> None:  # noqa: FBT001
    house = House()
    house.oracle.gate.clear()
    tasks = [house.start(streams=streams if at % 2 else not streams) for at in range(20)]
    await house.until(lambda: house.oracle.calls == 1)
    await asyncio.sleep(0)
    assert house.exact.flights == 1
    house.oracle.gate.set()
    sources = await house.sources(*tasks)
    assert (house.oracle.calls, sources.count("model"), sources.count("exact")) == (1, 1, 19)
    assert sum(entry.cost_microusd for entry in house.ledger) == 21
    assert sum(entry.saved_microusd for entry in house.ledger) == 19 * 21
    house.at_rest()


async def test_different_requests_do_not_wait_for_each_other() -> None:
    house = House()
    house.oracle.gate.clear()
    tasks = [house.start(f"question {at}") for at in range(5)]
    await house.until(lambda: house.oracle.calls == 5)
    assert house.exact.flights == 5
    house.oracle.gate.set()
    assert await house.sources(*tasks) == ["model"] * 5
    house.at_rest()


@both
@pytest.mark.parametrize("broken", [False, True], ids=["failed", "broke off"])
async def test_a_leader_that_fails_does_not_take_its_followers_along(broken: bool, streams: bool) -> None:  # noqa: FBT001
    house = House()
    house.oracle.gate.clear()
    leader = house.start(streams=streams or broken)
    await house.until(lambda: house.oracle.calls == 1)
    followers = [house.start(streams=streams) for _ in range(3)]
    await house.until(lambda: len(house.requests) == 4)
    if broken:
        house.oracle.break_after = 3
        house.oracle.gate.set()
    else:
        house.oracle.error = UpstreamUnavailable("down")
        house.oracle.gate.set()
    with pytest.raises(UpstreamUnavailable):
        await leader
    house.oracle.error = house.oracle.break_after = None
    assert await house.sources(*followers) == ["model"] * 3
    assert house.oracle.calls == 4
    house.at_rest()


async def test_an_answer_that_may_not_be_kept_is_not_shared() -> None:
    house = House()
    house.oracle.answer = UNCACHEABLE["refused"]
    house.oracle.gate.clear()
    tasks = [house.start() for _ in range(3)]
    await house.until(lambda: house.oracle.calls == 1)
    house.oracle.gate.set()
    assert await house.sources(*tasks) == ["model"] * 3
    house.at_rest()


@both
async def test_a_leader_whose_client_leaves_works_on_for_its_followers(streams: bool) -> None:  # noqa: FBT001
    house = House()
    house.oracle.gate.clear()
    leader = house.start(streams=streams)
    await house.until(lambda: house.oracle.calls == 1)
    followers = [house.start(streams=not streams), house.start(streams=streams)]
    await house.until(lambda: len(house.requests) == 3)
    await asyncio.sleep(0)
    house.leave(leader)
    await asyncio.sleep(0)
    assert (house.oracle.cancelled, leader.done()) == (0, False)
    house.oracle.gate.set()
    assert await house.sources(*followers) == ["exact", "exact"]
    await asyncio.gather(leader, return_exceptions=True)
    assert house.oracle.calls == 1
    house.at_rest()


@both
async def test_when_the_last_who_waits_leaves_the_call_is_cancelled(streams: bool) -> None:  # noqa: FBT001
    house = House()
    house.oracle.gate.clear()
    leader = house.start(streams=streams)
    await house.until(lambda: house.oracle.calls == 1)
    follower = house.start(streams=streams)
    await house.until(lambda: len(house.requests) == 2)
    await asyncio.sleep(0)
    house.leave(leader)
    house.leave(follower)
    found = await asyncio.gather(leader, follower, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError] * 2
    assert (house.oracle.calls, house.oracle.cancelled) == (1, 1)
    house.at_rest()


@both
async def test_a_leader_alone_that_leaves_is_cancelled_upstream(streams: bool) -> None:  # noqa: FBT001
    house = House()
    house.oracle.gate.clear()
    leader = house.start(streams=streams)
    await house.until(lambda: house.oracle.calls == 1)
    house.leave(leader)
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert house.oracle.cancelled == 1
    assert [(entry.status, entry.final) for entry in house.ledger] == [(499, True)]
    house.at_rest()


async def test_a_follower_that_leaves_harms_nobody() -> None:
    house = House()
    house.oracle.gate.clear()
    leader, follower, other = house.start(), house.start(), house.start()
    await house.until(lambda: len(house.requests) == 3)
    await house.until(lambda: house.oracle.calls == 1)
    house.leave(follower)
    with pytest.raises(asyncio.CancelledError):
        await follower
    house.oracle.gate.set()
    assert await house.sources(leader, other) == ["model", "exact"]
    house.at_rest()


async def test_a_follower_that_waits_too_long_asks_for_itself() -> None:
    house = House(follow_timeout_s=0.02)
    house.oracle.gate.clear()
    leader = house.start()
    await house.until(lambda: house.oracle.calls == 1)
    follower = house.start()
    await house.until(lambda: house.oracle.calls == 2)
    house.oracle.gate.set()
    assert await house.sources(leader, follower) == ["model", "model"]
    house.at_rest()


async def test_a_stream_that_nobody_began_or_finished_leaves_no_flight() -> None:
    house = House()
    for taken in (0, 2):
        request = Request(
            id=new_id(),
            principal=WHO,
            operation=Operation.CHAT,
            body={"messages": [{"role": "user", "content": "Hi"}]},
            model="fast",
            extras=Extras(),
            stream=True,
            started_ns=0,
            lifeline=Lifeline(None),
        )
        answer = await house._flow(request)
        assert answer.stream is not None
        assert house.exact.flights == 1
        for _ in range(taken):
            await answer.stream.__anext__()
        await answer.stream.aclose()
        assert house.exact.flights == 0


async def test_a_flight_replaced_by_a_later_one_does_not_remove_it() -> None:
    house = House()
    house.oracle.gate.clear()
    first = house.start()
    await house.until(lambda: house.oracle.calls == 1)
    refreshing = house.start(facts={"cache": "refresh"})
    await house.until(lambda: house.oracle.calls == 2)
    assert house.exact.flights == 1
    house.oracle.gate.set()
    assert await house.sources(first, refreshing) == ["model", "model"]
    house.at_rest()


# The shared tier


@both
async def test_another_worker_answers_from_the_store(streams: bool) -> None:  # noqa: FBT001
    store = Store(InProcessChanges())
    one, other = House(store), House(store)
    await one.ask(streams=streams)
    await one.shared.drain()
    await other.shared.reload()
    assert (await other.ask())[0] is Source.EXACT
    store.stuck = True
    assert (await other.ask(streams=True))[0] is Source.EXACT, "now from memory"
    assert other.oracle.calls == 0
    other.at_rest()


async def test_many_who_want_the_same_from_the_store_read_it_once() -> None:
    class Counting(Store):
        reads = 0

        async def get(self, tenant: str, key: bytes) -> StoredAnswer | None:
            self.reads += 1
            await asyncio.sleep(0)
            return await super().get(tenant, key)

    store = Counting(InProcessChanges())
    one, other = House(store), House(store)
    await one.ask()
    await one.shared.drain()
    await other.shared.reload()
    assert await other.sources(*(other.start() for _ in range(10))) == ["exact"] * 10
    assert store.reads == 1
    other.at_rest()


async def test_a_store_that_does_not_answer_in_time_is_a_miss() -> None:
    store = Store(InProcessChanges())
    one, other = House(store), House(store)
    await one.ask()
    await one.shared.drain()
    await other.shared.reload()
    store.stuck = True
    assert (await other.ask())[0] is Source.MODEL
    other.at_rest()


async def test_a_client_that_leaves_while_the_store_is_read_leaves_no_flight() -> None:
    store = Store(InProcessChanges())
    one, other = House(store), House(store, read_timeout_s=5)
    await one.ask()
    await one.shared.drain()
    await other.shared.reload()
    store.stuck = True
    task = other.start()
    await other.until(lambda: other.exact.flights == 1)
    other.leave(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    other.at_rest()


async def test_memory_is_bounded_however_many_answers_come() -> None:
    house = House(max_bytes=5000)
    for at in range(50):
        await house.ask(f"question {at}")
    assert house.exact._memory.bytes <= 5000
    assert len(house.exact._memory) < 10


async def test_after_a_flush_nothing_that_began_before_is_kept() -> None:
    house = House()
    await house.ask("before")
    house.oracle.gate.clear()
    under_way = house.start("under way")
    await house.until(lambda: house.exact.flights == 1)
    follower = house.start("under way")
    house.exact.flush()
    house.oracle.gate.set()
    assert await house.sources(under_way, follower) == ["model", "exact"], "whoever waits is answered"
    assert len(house.exact._memory) == 0
    assert [(await house.ask(text))[0] for text in ("before", "under way", "under way")] == [Source.MODEL, Source.MODEL, Source.EXACT]
    house.at_rest()
