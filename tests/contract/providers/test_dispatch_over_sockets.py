"""Dispatch with real providers on a scripted upstream: who answers, what is recorded, what is let go of."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from farthing.errors import (
    FarthingError,
    Overloaded,
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.pipeline.stage import compose
from farthing.providers.openai_compatible import OpenAICompatible
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.dispatch import Dispatch
from farthing.routing.families import family_of
from farthing.settings import OpenAICompatibleSettings, ParameterSettings
from farthing.spend.account import Account
from farthing.testing import malformed
from farthing.testing.purse import OpenPurse
from farthing.testing.upstream import (
    Reply,
    ScriptedUpstream,
    completion,
    embeddings,
    error,
    rate_limited,
    stream,
    usage_object,
)
from farthing.types import Answer, Attempt, Extras, Json, Lifeline, Mode, Operation, Price, Principal, Prompt, Request, Source, new_id

WHO = Principal(key_id=UUID(int=1), tenant="t")
DEAR = Price(input=3_000_000, output=5_000_000, source="settings")
CHEAP = Price(input=1_000_000, output=1_000_000, source="settings")


class Notes:
    """A meter that keeps what it is told, and charges by output tokens."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.outcomes: list[FarthingError | None] = []

    def attempt(self, request: Request, attempt: Attempt) -> tuple[int, int]:
        assert request.recorded
        self.attempts.append(attempt)
        return attempt.usage.output, 0

    def outcome(self, request: Request, answer: Answer | None, error: FarthingError | None) -> None:
        assert answer is None
        assert request.recorded
        self.outcomes.append(error)

    @property
    def story(self) -> list[tuple[str, str | None, bool]]:
        """(upstream model, error, final) of each attempt."""
        return [(one.upstream_model, one.error, one.final) for one in self.attempts]


class House:
    """A catalogue over one upstream, and the dispatch stage under test inside of the account stage."""

    def __init__(self, up: ScriptedUpstream, settings: dict[str, Any] | None = None) -> None:
        given = {"kind": "openai_compatible", "base_url": up.base_url, "idle_timeout_s": 0.2, "first_token_timeout_s": 0.2}
        self.provider = OpenAICompatible("up", OpenAICompatibleSettings.model_validate({**given, **(settings or {})}))
        self.notes = Notes()
        self.models: list[Model] = []

    def model(self, name: str, *upstream: str, fallbacks: tuple[str, ...] = (), retries: int = 0, failures: int = 3, **more: Any) -> House:
        """Add a model whose deployments are tried in this order."""
        deployments = tuple(
            Deployment(
                model=name,
                provider=self.provider,
                upstream_model=one,
                weight=0,  # the order given, not a drawn one
                price=DEAR if at == 0 else CHEAP,
                retries=retries,
                cooldown=Cooldown(failures, 30.0, time.monotonic),
                family=family_of(one),
            )
            for at, one in enumerate(upstream)
        )
        self.models.append(Model(name=name, operation=Operation.CHAT, deployments=deployments, fallbacks=fallbacks, **more))
        return self

    async def ask(
        self, *, streams: bool = False, operation: Operation = Operation.CHAT, name: str = "fast", said: str = "12345678", **more: Any
    ) -> Answer:
        body: Json = {"model": name, "messages": [{"role": "user", "content": said}], **more.pop("fields", {})}
        self.request = Request(
            id=new_id(),
            principal=WHO,
            operation=operation,
            body=body if operation is Operation.CHAT else {"input": "12345678"},
            model=name,
            extras=Extras(),
            stream=streams,
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(None),
            **more,
        )
        catalogue = Catalogue(self.models, random.Random(1))  # noqa: S311 - nothing secret
        dispatch = Dispatch(catalogue, self.notes, OpenPurse(), lambda _: None)
        return await compose([Account(self.notes)], dispatch)(self.request)

    async def read(self, answer: Answer) -> list[Json]:
        """The rest of a stream, closed as the door does it."""
        assert answer.stream is not None
        try:
            return [chunk async for chunk in answer.stream]
        finally:
            await answer.stream.aclose()

    async def settled(self, up: ScriptedUpstream) -> None:
        """What must hold after every request: one final record, numbers in order, no socket in use."""
        finals = [one for one in self.notes.attempts if one.final]
        assert len(finals) + len(self.notes.outcomes) == 1
        assert [one.number for one in self.notes.attempts] == list(range(1, len(self.notes.attempts) + 1))
        assert not finals or finals[0] is self.notes.attempts[-1]
        assert self.provider.open_connections == len(self.provider._endpoint._http._idle)
        await self.provider.aclose()
        await up.wait_for(lambda up: up.open_connections == 0)


def text_of(chunks: list[Json]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
GOOD = completion("fine", usage=usage_object(9, 12))
GOOD_STREAM = stream(["fi", "ne"], counts=usage_object(9, 12))


def good(*, streams: bool) -> Reply:
    return GOOD_STREAM if streams else GOOD


async def said(house: House, *, streams: bool, **more: Any) -> str:
    """Ask, read all, and return the text."""
    answer = await house.ask(streams=streams, **more)
    if streams:
        return text_of(await house.read(answer))
    assert answer.body is not None
    return str(msgspec.json.decode(answer.body)["choices"][0]["message"]["content"])


@both
async def test_one_good_answer_is_one_final_attempt(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", good(streams=streams))
    house = House(up).model("fast", "a", "b")
    answer = await house.ask(streams=streams)
    if streams:
        assert (answer.cost_microusd, answer.usage) == (0, None), "not known before the end"
        await house.read(answer)
        assert answer.usage == usage_object(9, 12)
        assert answer.completion is not None
        assert answer.completion.body["choices"][0]["message"]["content"] == "fine"
        assert answer.completion.body["usage"] == usage_object(9, 12)
    (one,) = house.notes.attempts
    assert (one.number, one.final, one.status, one.error, one.ended_early, one.route) == (1, True, 200, None, False, "direct")
    assert (one.model_used, one.provider, one.upstream_model, one.price, one.baseline) == ("fast", "up", "a", DEAR, DEAR)
    assert (one.usage.input, one.usage.output, one.usage.source) == (9, 12, "provider")
    assert one.latency_us > 0
    assert (one.ttft_us is not None) is streams
    assert (answer.source, answer.model, answer.cost_microusd) == (Source.MODEL, "fast", 12)
    await house.settled(up)


@both
async def test_usage_that_does_not_come_is_guessed_and_labelled(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", stream(["1234", "5678"], usage=False) if streams else completion("12345678", usage=False))
    house = House(up).model("fast", "a")
    answer = await house.ask(streams=streams)
    if streams:
        await house.read(answer)
        assert answer.usage == {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8, "estimated": True}
    else:
        assert answer.body is not None
        assert msgspec.json.decode(answer.body)["usage"]["estimated"] is True
    (one,) = house.notes.attempts
    assert (one.usage.input, one.usage.output, one.usage.source) == (6, 2, "estimated")
    await house.settled(up)


FAILURES: dict[str, tuple[Reply, str]] = {
    "unavailable": (error(503), "upstream_unavailable"),
    "reset": (malformed.reset_before_headers(), "upstream_unavailable"),
    "html": (malformed.html_page(200), "upstream_malformed"),
    "rate limit": (rate_limited(retry_after="60"), "rate_limit_exceeded"),
    "our key": (error(401), "upstream_credentials"),
    "silence": (malformed.stall_before_headers(), "upstream_timeout"),
    "error in 200": (malformed.error_in_200(), "upstream_unavailable"),
}


@both
@pytest.mark.parametrize("what", FAILURES)
async def test_another_deployment_takes_over_before_the_first_token(up: ScriptedUpstream, what: str, streams: bool) -> None:  # noqa: FBT001
    reply, code = FAILURES[what]
    up.script("a", reply)
    up.script("b", good(streams=streams))
    house = House(up).model("fast", "a", "b")
    assert await said(house, streams=streams) == "fine"
    assert house.notes.story == [("a", code, False), ("b", None, True)]
    assert [one.route for one in house.notes.attempts] == ["direct", "fallback"]
    assert (house.notes.attempts[1].price, house.notes.attempts[1].baseline) == (CHEAP, DEAR)
    await house.settled(up)


@pytest.mark.parametrize(
    "reply",
    [
        malformed.error_first_event(),
        malformed.garbage_sse(),
        malformed.broken_off(()),
        malformed.stall_after_headers(),
        malformed.stall_mid_body([]),
        stream([], usage=True, done=False),
    ],
)
async def test_a_stream_that_fails_before_content_is_taken_over_unseen(up: ScriptedUpstream, reply: Reply) -> None:
    if reply.parts and len(reply.parts) > 2:  # keep the role, cut the rest
        reply = msgspec.structs.replace(reply, parts=reply.parts[:1])
    up.script("a", reply)
    up.script("b", GOOD_STREAM)
    house = House(up).model("fast", "a", "b")
    assert await said(house, streams=True) == "fine"
    assert [final for _, _, final in house.notes.story] == [False, True]
    await house.settled(up)


async def test_a_stream_without_any_content_is_a_failure(up: ScriptedUpstream) -> None:
    up.script("a", Reply(parts=(b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n', b"data: [DONE]\n\n")))
    house = House(up).model("fast", "a")
    with pytest.raises(UpstreamMalformed, match="a stream without content"):
        await house.ask(streams=True)
    await house.settled(up)


@both
async def test_a_model_of_another_name_is_the_last_resort(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    for name in ("a", "b"):
        up.script(name, error(500))
    up.script("c", good(streams=streams))
    house = House(up).model("fast", "a", "b", fallbacks=("other",)).model("other", "c")
    answer = await house.ask(streams=streams)
    if streams:
        await house.read(answer)
    assert [name for name, _, _ in house.notes.story] == ["a", "b", "c"]
    assert (answer.model, answer.route) == ("other", "fallback")
    assert house.notes.attempts[-1].model_used == "other"
    await house.settled(up)


@both
async def test_a_request_at_fault_is_not_tried_elsewhere(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", error(400, "too long", "invalid_request_error", "context_length_exceeded"))
    house = House(up).model("fast", "a", "b", retries=3)
    with pytest.raises(UpstreamRejected, match="too long"):
        await house.ask(streams=streams)
    assert house.notes.story == [("a", "context_length_exceeded", True)]
    assert (house.notes.attempts[0].status, house.notes.attempts[0].usage.source) == (400, "none")
    assert not house.models[0].deployments[0].cooldown.active
    await house.settled(up)


@both
async def test_when_all_fail_the_last_error_is_raised_and_only_the_last_is_final(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", error(503))
    up.script("b", rate_limited(retry_after="3"))
    house = House(up).model("fast", "a", "b")
    with pytest.raises(UpstreamRateLimited) as caught:
        await house.ask(streams=streams)
    assert caught.value.retry_after_s == 3.0
    assert house.notes.story == [("a", "upstream_unavailable", False), ("b", "rate_limit_exceeded", True)]
    assert [one.route for one in house.notes.attempts] == ["direct", "fallback"]
    await house.settled(up)


@both
async def test_a_lost_connection_is_tried_again_at_the_same_deployment_when_there_is_no_other(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", malformed.reset_before_headers(), malformed.close_before_headers(), good(streams=streams))
    house = House(up).model("fast", "a", retries=2)
    assert await said(house, streams=streams) == "fine"
    lost = ("a", "upstream_unavailable", False)
    assert house.notes.story == [lost, lost, ("a", None, True)]
    await house.settled(up)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(error(503), UpstreamUnavailable), (rate_limited(), UpstreamRateLimited), (malformed.stall_before_headers(), UpstreamTimeout)],
)
async def test_a_provider_that_spoke_or_took_its_time_is_not_asked_again(
    up: ScriptedUpstream, reply: Reply, kind: type[UpstreamError]
) -> None:
    up.script("a", reply)
    house = House(up).model("fast", "a", retries=5)
    with pytest.raises(kind):
        await house.ask()
    assert up.received == 1
    await house.settled(up)


async def test_tries_at_the_same_deployment_are_bounded(up: ScriptedUpstream) -> None:
    up.script("a", malformed.reset_before_headers())
    house = House(up).model("fast", "a", retries=2)
    with pytest.raises(UpstreamUnavailable):
        await house.ask()
    assert [final for _, _, final in house.notes.story] == [False, False, True]
    await house.settled(up)


async def test_a_client_that_leaves_between_two_tries_is_recorded_once(up: ScriptedUpstream) -> None:
    up.script("a", malformed.reset_before_headers())
    house = House(up).model("fast", "a", retries=9)
    task = asyncio.ensure_future(house.ask())
    await up.wait_for(lambda _: len(house.notes.attempts) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one.final for one in house.notes.attempts] == [False]
    assert [one.wire()[0] for one in house.notes.outcomes if one] == [499]
    await house.settled(up)


async def test_busy_connections_send_a_request_elsewhere_or_are_overload(up: ScriptedUpstream) -> None:
    up.script("a", malformed.stall_mid_body(["x"]))
    busy = House(up, {"max_connections": 1, "connect_timeout_s": 0.05}).model("fast", "a")
    spare = House(up)
    holder = await busy.ask(streams=True)
    busy.notes.attempts.clear()
    with pytest.raises(Overloaded):
        await busy.ask()
    assert busy.notes.story == [("a", "overloaded", True)]
    up.script("b", GOOD)
    other = spare.model("fast", "b").models[0]
    busy.notes.attempts.clear()
    busy.models = [Model(name="fast", operation=Operation.CHAT, deployments=(*busy.models[0].deployments, *other.deployments))]
    assert await said(busy, streams=False) == "fine"
    assert busy.notes.story == [("a", "overloaded", False), ("b", None, True)]
    assert holder.stream is not None
    await holder.stream.aclose()
    await spare.provider.aclose()
    await busy.provider.aclose()
    await up.wait_for(lambda up: up.open_connections == 0)


async def test_failures_in_a_row_cool_a_deployment_down(up: ScriptedUpstream) -> None:
    up.script("a", error(500))
    up.script("b", GOOD)
    house = House(up).model("fast", "a", "b", failures=2)
    for expected in (["a", "b"], ["a", "b"], ["b"]):
        house.notes.attempts.clear()
        await house.ask()
        assert [name for name, _, _ in house.notes.story] == expected
    await house.settled(up)


async def test_a_stream_that_breaks_counts_against_its_deployment(up: ScriptedUpstream) -> None:
    up.script("a", malformed.error_mid_stream())
    house = House(up).model("fast", "a", "b", failures=1)
    answer = await house.ask(streams=True)
    with pytest.raises(UpstreamUnavailable):
        await house.read(answer)
    assert house.models[0].deployments[0].cooldown.active
    await house.settled(up)


async def test_a_rate_limit_turns_the_next_requests_elsewhere(up: ScriptedUpstream) -> None:
    up.script("a", rate_limited(retry_after="60"))
    house = House(up).model("fast", "a", "b")
    await house.ask()
    house.notes.attempts.clear()
    await house.ask()
    assert [name for name, _, _ in house.notes.story] == ["b"]
    await house.settled(up)


# Streams that break, or that nobody reads to the end

BREAKS: dict[str, tuple[Reply, type[UpstreamError], int, str]] = {
    "error event": (malformed.error_mid_stream(), UpstreamUnavailable, 502, "upstream_unavailable"),
    "no end mark": (malformed.missing_done(), UpstreamUnavailable, 502, "upstream_unavailable"),
    "closed": (malformed.close_mid_body(), UpstreamUnavailable, 502, "upstream_unavailable"),
    "reset": (malformed.reset_mid_body(), UpstreamUnavailable, 502, "upstream_unavailable"),
    "silence": (malformed.stall_mid_body(["Hel", "lo"]), UpstreamTimeout, 504, "upstream_timeout"),
    "half a character": (malformed.unfinished_utf8(), UpstreamMalformed, 502, "upstream_malformed"),
}


@pytest.mark.parametrize("what", [name for name in BREAKS if name != "half a character"])
async def test_a_stream_that_breaks_is_recorded_with_what_was_seen_of_it(up: ScriptedUpstream, what: str) -> None:
    reply, kind, status, code = BREAKS[what]
    up.script("a", reply)
    house = House(up).model("fast", "a", "b")
    answer = await house.ask(streams=True)
    seen: list[Json] = []

    async def read() -> None:
        assert answer.stream is not None
        async for chunk in answer.stream:
            seen.append(chunk)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(kind):
        await read()
    assert text_of(seen) == "Hello"
    assert answer.stream is not None
    await answer.stream.aclose()
    (one,) = house.notes.attempts
    assert (one.final, one.status, one.error, one.ended_early) == (True, status, code, True)
    expected = (9, 2, "provider") if what == "no end mark" else (6, 2, "estimated")
    assert (one.usage.input, one.usage.output, one.usage.source) == expected
    assert answer.completion is None, "a broken answer must not be kept"
    assert up.received == 1, "no other deployment can take over any more"
    await house.settled(up)


async def test_a_stream_that_begins_broken_is_taken_over(up: ScriptedUpstream) -> None:
    up.script("a", BREAKS["half a character"][0])
    up.script("b", GOOD_STREAM)
    house = House(up).model("fast", "a", "b")
    assert await said(house, streams=True) == "fine"
    await house.settled(up)


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_a_stream_closed_before_its_end_is_recorded_and_disconnects_upstream(up: ScriptedUpstream, taken: int) -> None:
    up.script("a", malformed.endless_stream("1234"))
    house = House(up).model("fast", "a")
    answer = await house.ask(streams=True)
    assert answer.stream is not None
    for _ in range(taken):
        await answer.stream.__anext__()
    await answer.stream.aclose()
    await answer.stream.aclose()
    (one,) = house.notes.attempts
    assert (one.final, one.status, one.error, one.ended_early) == (True, 499, "client_disconnected", True)
    assert (one.usage.source, one.usage.input) == ("estimated", 6)
    assert one.usage.output >= 1
    assert answer.cost_microusd == one.usage.output
    assert [chunk async for chunk in answer.stream if chunk is None] == []
    await up.wait_for(lambda up: up.disconnects == 1)
    await house.settled(up)


async def test_a_reader_cancelled_in_mid_stream_is_recorded_and_disconnects_upstream(up: ScriptedUpstream) -> None:
    up.script("a", malformed.stall_mid_body(["x"]))
    house = House(up, {"idle_timeout_s": 5}).model("fast", "a")
    answer = await house.ask(streams=True)
    task = asyncio.ensure_future(house.read(answer))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (one,) = house.notes.attempts
    assert (one.status, one.error, one.ended_early) == (499, "client_disconnected", True)
    await up.wait_for(lambda up: up.disconnects == 1)
    await house.settled(up)


@both
@pytest.mark.parametrize("reply", [malformed.stall_before_headers(), malformed.stall_after_headers()])
async def test_a_client_that_leaves_before_the_answer_is_recorded_and_disconnects_upstream(
    up: ScriptedUpstream,
    reply: Reply,
    streams: bool,  # noqa: FBT001
) -> None:
    up.script("a", reply)
    house = House(up, {"first_token_timeout_s": 5, "idle_timeout_s": 5}).model("fast", "a", "b", retries=3)
    task = asyncio.ensure_future(house.ask(streams=streams))
    await up.wait_for(lambda up: up.received == 1)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (one,) = house.notes.attempts
    assert (one.final, one.status, one.error) == (True, 499, "client_disconnected")
    assert (one.usage.source, one.usage.input, one.usage.output) == ("estimated", 6, 0)
    await up.wait_for(lambda up: up.disconnects == 1)
    await house.settled(up)


async def test_a_provider_given_up_on_may_bill_and_one_that_refused_does_not(up: ScriptedUpstream) -> None:
    up.script("a", malformed.stall_before_headers())
    up.script("b", error(503))
    up.script("c", GOOD)
    house = House(up).model("fast", "a", "b", "c")
    await house.ask()
    assert [one.usage.source for one in house.notes.attempts] == ["estimated", "none", "provider"]
    await house.settled(up)


async def test_embeddings_go_the_same_way(up: ScriptedUpstream) -> None:
    up.script("a", error(500))
    up.script("b", embeddings(1, 4))
    house = House(up).model("fast", "a", "b")
    answer = await house.ask(streams=True, operation=Operation.EMBEDDINGS)
    assert answer.stream is None
    assert answer.body is not None
    assert len(msgspec.json.decode(answer.body)["data"]) == 1
    assert house.notes.story == [("a", "upstream_unavailable", False), ("b", None, True)]
    assert house.notes.attempts[1].usage.input == 4
    await house.settled(up)


# What each model is sent, and where requests go that are too long

TOO_LONG = error(400, "This model's maximum context length is 100 tokens.", "invalid_request_error", "context_length_exceeded")
LONG = "abcd" * 200


@both
async def test_a_request_that_cannot_fit_is_not_sent_where_it_cannot_fit(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("l", good(streams=streams))
    house = House(up).model("fast", "a", context_tokens=100, context_fallbacks=("long",)).model("long", "l", context_tokens=1000)
    answer = await house.ask(streams=streams, said=LONG)
    if streams:
        await house.read(answer)
    assert (answer.model, answer.route) == ("long", "context")
    assert house.notes.story == [("l", None, True)]
    assert up.of("a") == []
    await house.settled(up)


@both
async def test_a_provider_that_says_too_long_is_believed(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", TOO_LONG)
    up.script("m", TOO_LONG)
    up.script("l", good(streams=streams))
    house = House(up).model("fast", "a", "b", fallbacks=("other",), context_fallbacks=("middle",)).model("other", "o")
    house.model("middle", "m", context_fallbacks=("long",)).model("long", "l")
    assert await said(house, streams=streams) == "fine"
    assert house.notes.story == [("a", "context_length_exceeded", False), ("m", "context_length_exceeded", False), ("l", None, True)]
    assert [one.route for one in house.notes.attempts] == ["direct", "context", "context"]
    await house.settled(up)


async def test_where_there_is_no_more_room_the_caller_is_told_so(up: ScriptedUpstream) -> None:
    up.script("a", TOO_LONG)
    up.script("l", TOO_LONG)
    house = House(up).model("fast", "a", context_fallbacks=("long",)).model("long", "l")
    with pytest.raises(UpstreamContextExceeded) as caught:
        await house.ask()
    assert caught.value.wire()[0] == 400
    assert [final for _, _, final in house.notes.story] == [False, True]
    await house.settled(up)


async def test_without_a_fallback_for_it_too_long_is_final(up: ScriptedUpstream) -> None:
    up.script("a", TOO_LONG)
    house = House(up).model("fast", "a", "b")
    with pytest.raises(UpstreamContextExceeded):
        await house.ask()
    assert house.notes.story == [("a", "context_length_exceeded", True)]
    await house.settled(up)


@both
async def test_each_attempt_sends_what_its_own_model_understands(up: ScriptedUpstream, streams: bool) -> None:  # noqa: FBT001
    up.script("a", error(503))
    up.script("o", good(streams=streams))
    one = ParameterSettings.model_validate({"max_tokens": {"max": 50, "name": "max_completion_tokens"}, "drop": ["seed"]})
    other = ParameterSettings.model_validate({"temperature": {"max": 1}, "set": {"top_k": 5}})
    house = House(up).model("fast", "a", fallbacks=("other",), parameters=one).model("other", "o", parameters=other)
    fields = {"max_tokens": 100, "seed": 7, "temperature": 1.5}
    assert await said(house, streams=streams, fields=fields) == "fine"
    first, second = (up.of(name)[0].body for name in ("a", "o"))
    known = {"max_tokens", "max_completion_tokens", "seed", "temperature", "top_k"}
    assert {name: value for name, value in first.items() if name in known} == {"max_completion_tokens": 50, "temperature": 1.5}
    assert {name: value for name, value in second.items() if name in known} == {
        "max_tokens": 100,
        "seed": 7,
        "temperature": 1,
        "top_k": 5,
    }
    assert house.request.body.items() >= fields.items(), "the caches see what the caller sent"
    await house.settled(up)


async def test_a_degraded_request_is_sent_short_and_estimated_by_what_was_sent(up: ScriptedUpstream) -> None:
    up.script("a", completion("12345678", usage=False))
    talk = [{"role": role, "content": LONG} for role in ("user", "assistant")] + [{"role": "user", "content": "1234"}]
    house = House(up).model("fast", "a", context_tokens=100, context_fallbacks=("long",)).model("long", "l")
    answer = await house.ask(fields={"messages": talk}, mode=Mode(name="SHALLOW", rank=1, history_turns=1, max_tokens=20))
    assert (answer.model, answer.route) == ("fast", "direct"), "what is left of it fits"
    assert up.of("a")[0].body["messages"] == talk[-1:]
    assert up.of("a")[0].body["max_tokens"] == 20
    assert house.notes.attempts[0].usage.input == 5
    await house.settled(up)


async def test_models_of_other_families_are_told_a_prompt_in_their_own_words(up: ScriptedUpstream) -> None:
    prompt = Prompt(version="p@1", system="Help.", variants={"llama": "Help, llama."})
    up.script("gpt-4o", error(503))
    up.script("llama-3", GOOD)
    house = House(up).model("fast", "gpt-4o", "llama-3")
    messages = [{"role": "system", "content": "Help."}, {"role": "user", "content": "hi"}]
    await house.ask(fields={"messages": messages}, prompt=prompt)
    assert [up.of(name)[0].body["messages"][0]["content"] for name in ("gpt-4o", "llama-3")] == ["Help.", "Help, llama."]
    await house.settled(up)
