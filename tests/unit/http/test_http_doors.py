"""The gateway and OpenAI's doors, driven as an ASGI server drives them: shapes on the wire, refusals, ledger, clients that leave."""

from __future__ import annotations

import asyncio
import base64
import gc
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec
import pytest
import uvicorn

from farthing.errors import (
    BodyTimeout,
    BodyTooLarge,
    FarthingError,
    InvalidRequest,
    Overloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from farthing.http.asgi import LIFELINE, Message, error_headers
from farthing.http.auth import KeyRing, digest_of, new_key
from farthing.http.openai import OpenAIDoors
from farthing.http.passage import Passage
from farthing.http.protocol import Direct, DoorProtocol
from farthing.http.server import Gateway, Opening
from farthing.inprocess.stores import InProcessChanges, InProcessKeys
from farthing.pipeline.stream import Replayed
from farthing.settings import KeySettings, ServerSettings
from farthing.types import Answer, Attempt, Json, KeyRecord, Lifeline, Operation, Request, Source, utc_now

BODY: Json = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}
CHUNKS = [
    {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}],
    }
    for delta, end in (({"role": "assistant", "content": ""}, None), ({"content": "Hi"}, None), ({}, "stop"))
]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


class Stream:
    """A stream of the model: chunks, then an error or the end, at which the answer learns its usage and cost."""

    def __init__(self, answer: Answer, chunks: Iterable[Json], error: BaseException | None = None, *, hang: bool = False) -> None:
        self._answer = answer
        self._chunks = iter(list(chunks))
        self._error = error
        self._hang = hang
        self.closed = 0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Json:
        await asyncio.sleep(0)
        for chunk in self._chunks:
            return chunk
        if self._hang:
            await asyncio.Event().wait()
        if self._error:
            raise self._error
        self._answer.usage, self._answer.cost_microusd, self._answer.saved_microusd = USAGE, 1_500_000, -2
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


class Sent:
    """What an application sent, as a client sees it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        assert [message["type"] for message in self.messages] == ["http.response.start", *["http.response.body"] * (len(self.messages) - 1)]
        assert not self.messages[-1].get("more_body"), "the body has an end"
        assert all(message.get("more_body") for message in self.messages[1:-1]), "and only one"
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def error(self) -> Json:
        found = msgspec.json.decode(self.body)
        assert set(found) == {"error"}
        assert set(found["error"]) == {"message", "type", "param", "code"}
        return dict(found["error"])


class House:
    """Gateway → doors → a flow that answers as told."""

    def __init__(self, **settings: Any) -> None:
        self.flow: Callable[[Request], Awaitable[Answer]] = self._answer
        self.outcomes: list[tuple[Request, FarthingError | None]] = []
        self.requests: list[Request] = []
        self.key = new_key()
        self._store = InProcessKeys(InProcessChanges())
        server = ServerSettings.model_validate(settings)
        doors = OpenAIDoors(Passage(self._flow, self._admit, self, server), lambda _: [("fast", "openai"), ("a/b", "local")])
        post, get = frozenset({"POST"}), frozenset({"GET", "HEAD"})
        self.gateway = Gateway(
            {
                "/v1/chat/completions": Opening(door=doors.chat, methods=post, spends=True),
                "/v1/embeddings": Opening(door=doors.embeddings, methods=post, spends=True),
                "/v1/models": Opening(door=doors.models, methods=get),
                "/admin": Opening(door=doors.models, methods=get, needs_admin=True),
            },
            {"/v1/models/": Opening(door=doors.models, methods=get)},
            KeyRing(self._store, KeySettings()),
            self,
            lambda given: given if given and given.startswith("00-") else None,
            max_in_flight=server.max_in_flight,
        )

    def attempt(self, request: Request, attempt: Attempt) -> tuple[int, int]:
        raise AssertionError((request, attempt))

    def outcome(self, request: Request, answer: Answer | None, error: FarthingError | None) -> None:
        assert answer is None
        self.outcomes.append((request, error))

    def _admit(self, request: Request) -> str:
        assert request.principal.tenant == "acme"
        assert request.operation in Operation
        if request.model != "fast":
            raise InvalidRequest("no such model", param="model")
        return "f"

    async def _flow(self, request: Request) -> Answer:
        self.requests.append(request)
        return await self.flow(request)

    async def _answer(self, request: Request) -> Answer:
        del request
        return Answer(source=Source.MODEL, model="fast", body=b'{"x":1}', cost_microusd=12, saved_microusd=3, route="direct")

    def streams(self, stream: Callable[[Answer], Stream]) -> list[Stream]:
        """Answer with this stream from now on; the streams made are kept in the list."""
        made: list[Stream] = []

        async def flow(_: Request) -> Answer:
            answer = Answer(source=Source.MODEL, model="fast")
            answer.stream = stream(answer)
            made.append(answer.stream)
            return answer

        self.flow = flow
        return made

    async def ask(
        self,
        body: Json | bytes | None = None,
        path: str = "/v1/chat/completions",
        *,
        method: str = "POST",
        headers: Iterable[tuple[bytes, bytes]] = (),
        key: str | None = "",
        query: bytes = b"",
        receive: Callable[[], Awaitable[Message]] | None = None,
        scope: Json | None = None,
    ) -> Sent:
        record = KeyRecord(id=UUID(int=5), tenant="acme", digest=digest_of(self.key), hint="", created_at=utc_now())
        await self._store.add(record)
        data = msgspec.json.encode(BODY if body is None else body) if not isinstance(body, bytes) else body
        auth = [] if key is None else [(b"authorization", f"Bearer {key or self.key}".encode())]
        given = scope if scope is not None else {}
        given |= {"type": "http", "method": method, "path": path, "query_string": query, "headers": [*auth, *headers]}
        sent = Sent()

        async def once() -> Message:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Message) -> None:
            sent.messages.append(message)

        await self.gateway(given, receive or once, send)
        assert self.gateway.in_flight == 0
        return sent


# Whole answers


async def test_a_whole_answer_is_sent_as_it_is_with_what_farthing_says_of_it() -> None:
    house = House()
    sent = await house.ask()
    request = house.requests[0]
    assert (sent.status, sent.body) == (200, b'{"x":1}')
    assert sent.headers == {
        "x-request-id": str(request.id),
        "x-farthing-request-id": str(request.id),
        "x-farthing-source": "model",
        "x-farthing-model": "fast",
        "x-farthing-mode": "DEEP",
        "x-farthing-route": "direct",
        "x-farthing-cost-usd": "0.000012",
        "x-farthing-saved-usd": "0.000003",
        "content-type": "application/json",
        "content-length": "7",
    }
    assert house.outcomes == [], "whoever answered has recorded it"


async def test_the_flow_gets_the_request_without_farthings_own_field() -> None:
    house = House()
    more = {"farthing": {"cache": "refresh", "user": "u"}, "stream_options": {"include_usage": True}, "x_unknown": [1]}
    await house.ask({**BODY, **more}, headers=[(b"x-farthing-namespace", b"n"), (b"traceparent", b"00-abc")])
    (request,) = house.requests
    assert request.body == {**BODY, "stream_options": {"include_usage": True}, "x_unknown": [1]}
    assert (request.extras.cache, request.extras.user, request.extras.namespace) == ("refresh", "u", "n")
    assert (request.stream, request.include_usage, request.model, request.fingerprint) == (False, True, "fast", "f")
    assert (request.traceparent, request.principal.tenant, request.operation) == ("00-abc", "acme", "chat")


async def test_a_trace_that_is_not_valid_is_not_handed_on() -> None:
    house = House()
    await house.ask(headers=[(b"traceparent", b"\xff\r\nx: y")])
    assert house.requests[0].traceparent is None


# Streams


def events(body: bytes) -> list[str]:
    assert body.endswith(b"\n\n")
    return body.decode().removesuffix("\n\n").split("\n\n")


async def test_a_stream_has_openais_shape() -> None:
    house = House()
    made = house.streams(lambda answer: Stream(answer, CHUNKS))
    sent = await house.ask({**BODY, "stream": True})
    assert sent.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert sent.headers["cache-control"] == "no-cache"
    assert "x-farthing-cost-usd" not in sent.headers, "not known yet"
    *data, comment, done = events(sent.body)
    assert [msgspec.json.decode(event.removeprefix("data: ")) for event in data] == CHUNKS
    assert comment == ": farthing cost-usd=1.500000 saved-usd=-0.000002"
    assert done == "data: [DONE]"
    assert len(sent.messages) == 1 + 3 + 1, "each chunk goes out when it is there"
    assert made[0].closed == 1


async def test_with_usage_every_chunk_has_a_null_and_the_last_one_the_numbers_and_no_choices() -> None:
    house = House()
    house.streams(lambda answer: Stream(answer, CHUNKS))
    sent = await house.ask({**BODY, "stream": True, "stream_options": {"include_usage": True}})
    *data, _, done = events(sent.body)
    chunks = [msgspec.json.decode(event.removeprefix("data: ")) for event in data]
    assert chunks[:-1] == [{**chunk, "usage": None} for chunk in CHUNKS]
    assert chunks[-1] == {**CHUNKS[-1], "choices": [], "usage": USAGE}
    assert done == "data: [DONE]"


async def test_a_cached_stream_goes_out_at_once_and_its_headers_say_what_it_saved() -> None:
    house = House()

    async def flow(_: Request) -> Answer:
        return Answer(source=Source.EXACT, model="fast", stream=Replayed(iter(CHUNKS)), usage=USAGE, saved_microusd=7)

    house.flow = flow
    sent = await house.ask({**BODY, "stream": True, "stream_options": {"include_usage": True}})
    assert (sent.headers["x-farthing-source"], sent.headers["x-farthing-saved-usd"]) == ("exact", "0.000007")
    assert len(sent.messages) == 2
    assert len(events(sent.body)) == 3 + 1 + 1 + 1
    assert msgspec.json.decode(events(sent.body)[3].removeprefix("data: "))["usage"] == USAGE


@pytest.mark.parametrize(
    ("error", "code"), [(UpstreamUnavailable("on fire"), "upstream_unavailable"), (ZeroDivisionError("secret"), "internal_error")]
)
async def test_an_error_in_mid_stream_is_an_event_and_the_end(error: Exception, code: str, caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    made = house.streams(lambda answer: Stream(answer, CHUNKS[:2], error))
    sent = await house.ask({**BODY, "stream": True})
    *data, last = events(sent.body)
    assert len(data) == 2
    found = msgspec.json.decode(last.removeprefix("data: "))
    assert found["error"]["code"] == code
    assert "secret" not in last
    assert b"[DONE]" not in sent.body
    assert made[0].closed == 1
    assert ("secret" in caplog.text) is (code == "internal_error")


async def test_an_error_before_the_stream_begins_is_an_error_with_its_status() -> None:
    house = House()

    async def flow(_: Request) -> Answer:
        raise UpstreamRateLimited("slow down", retry_after_s=1.2, upstream_type="requests")

    house.flow = flow
    sent = await house.ask({**BODY, "stream": True})
    assert (sent.status, sent.error["code"], sent.error["type"]) == (429, "rate_limit_exceeded", "requests")
    assert (sent.headers["retry-after"], sent.headers["retry-after-ms"], sent.headers["x-should-retry"]) == ("2", "1200", "true")


@pytest.mark.parametrize("fails_at", [0, 1, 2, 4])
async def test_a_send_that_fails_closes_the_stream(fails_at: int) -> None:
    house = House()
    made = house.streams(lambda answer: Stream(answer, CHUNKS))
    request = await prepared(house)
    count = 0

    async def send(_: Message) -> None:
        nonlocal count
        count += 1
        if count > fails_at:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await house.gateway(request, received(msgspec.json.encode({**BODY, "stream": True})), send)
    assert made[0].closed == 1
    assert house.gateway.in_flight == 0


async def prepared(house: House) -> Json:
    """A scope with the house's key."""
    record = KeyRecord(id=UUID(int=5), tenant="acme", digest=digest_of(house.key), hint="", created_at=utc_now())
    await house._store.add(record)
    headers = [(b"authorization", f"Bearer {house.key}".encode())]
    return {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}


def received(*pieces: bytes, then: Message | None = None) -> Callable[[], Awaitable[Message]]:
    messages = [
        {"type": "http.request", "body": piece, "more_body": at < len(pieces) - 1 or then is not None} for at, piece in enumerate(pieces)
    ]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        if then is not None:
            return then
        await asyncio.Event().wait()
        raise AssertionError

    return receive


# Embeddings


async def test_embeddings_are_asked_for_as_floats_and_packed_for_who_wants_it() -> None:
    house = House()
    whole = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}], "model": "m", "usage": USAGE}

    async def flow(request: Request) -> Answer:
        assert request.body["encoding_format"] == "float"
        assert request.operation == "embeddings"
        return Answer(source=Source.MODEL, model="fast", body=msgspec.json.encode(whole))

    house.flow = flow
    body = {"model": "fast", "input": "x"}
    assert msgspec.json.decode((await house.ask(body, "/v1/embeddings")).body) == whole
    packed = msgspec.json.decode((await house.ask({**body, "encoding_format": "base64"}, "/v1/embeddings")).body)
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (0.5, -1.0)


@pytest.mark.parametrize("vector", ["text", None, [1e300], ["a"], [None], 5, {"a": 1}])
async def test_a_vector_that_is_none_is_the_providers_fault(vector: Any) -> None:
    house = House()

    async def flow(_: Request) -> Answer:
        return Answer(source=Source.MODEL, model="fast", body=msgspec.json.encode({"data": [{"embedding": vector}]}))

    house.flow = flow
    sent = await house.ask({"model": "fast", "input": "x", "encoding_format": "base64"}, "/v1/embeddings")
    assert (sent.status, sent.error["code"]) == (502, "upstream_malformed")


# Models


async def test_models_are_listed_and_found_by_name_also_with_a_slash() -> None:
    house = House()
    listed = msgspec.json.decode((await house.ask(path="/v1/models", method="GET")).body)
    assert listed["object"] == "list"
    assert [(one["id"], one["object"], one["owned_by"]) for one in listed["data"]] == [
        ("fast", "model", "openai"),
        ("a/b", "model", "local"),
    ]
    assert msgspec.json.decode((await house.ask(path="/v1/models/a/b", method="GET")).body) == listed["data"][1]
    missing = await house.ask(path="/v1/models/nope\r\nx: y", method="GET")
    assert (missing.status, missing.error["code"], missing.error["param"]) == (404, "model_not_found", "model")
    assert "fast, a/b" in missing.error["message"]


# Refusals


@pytest.mark.parametrize(
    ("more", "status", "code", "recorded"),
    [
        ({"key": None}, 401, "invalid_api_key", 1),
        ({"key": "fk-wrong"}, 401, "invalid_api_key", 1),
        ({"query": b"api_key=x"}, 400, "key_in_url", 1),
        ({"body": b"{"}, 400, "invalid_request", 1),
        ({"body": b"\xff"}, 400, "invalid_request", 1),
        ({"body": {**BODY, "model": "nope"}}, 400, "invalid_request", 1),
        ({"body": {**BODY, "farthing": {"cahce": 1}}}, 400, "invalid_request", 1),
        ({"method": "GET"}, 405, "method_not_allowed", 0),
        ({"path": "/v2/chat"}, 404, "not_found", 0),
        ({"path": "/admin", "method": "GET"}, 403, "not_allowed", 0),
        ({"path": "/v1/models", "method": "GET", "key": None}, 401, "invalid_api_key", 0),
    ],
)
async def test_a_refusal_is_an_error_object_and_where_it_could_have_cost_one_ledger_entry(
    more: dict[str, Any], status: int, code: str, recorded: int
) -> None:
    house = House()
    sent = await house.ask(**more)
    assert (sent.status, sent.error["code"]) == (status, code)
    assert (len(house.outcomes), house.requests) == (recorded, [])
    assert sent.headers["x-should-retry"] == "false"
    assert sent.headers["x-request-id"] == sent.headers["x-farthing-request-id"]
    assert UUID(sent.headers["x-request-id"]).version == 7


async def test_who_has_no_key_learns_nothing_else() -> None:
    house = House()
    for more in ({"method": "PUT"}, {"body": b"{"}, {"path": "/admin"}):
        assert (await house.ask(key=None, **more)).status == 401


async def test_a_bug_of_ours_is_a_500_that_tells_the_log_and_not_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    house = House()

    async def flow(_: Request) -> Answer:
        raise ZeroDivisionError("the secret")

    house.flow = flow
    sent = await house.ask()
    assert (sent.status, sent.error["code"], sent.error["type"]) == (500, "internal_error", "server_error")
    assert "the secret" not in str(sent.error)
    assert "the secret" in caplog.text


async def test_head_gets_the_head_only() -> None:
    sent = await House().ask(path="/nowhere", method="HEAD")
    assert (sent.status, sent.body, sent.headers["content-length"]) == (404, b"", "0")


async def test_more_requests_than_the_bound_are_told_to_come_back() -> None:
    house = House(max_in_flight=2)
    gate, entered = asyncio.Event(), asyncio.Barrier(3)

    async def flow(_: Request) -> Answer:
        await entered.wait()
        await gate.wait()
        return Answer(source=Source.MODEL, model="fast", body=b"{}")

    house.flow = flow
    sent = Sent()

    async def send(message: Message) -> None:
        sent.messages.append(message)

    async def quiet(_: Message) -> None:
        pass

    body = msgspec.json.encode(BODY)
    tasks = [asyncio.ensure_future(house.gateway(await prepared(house), received(body), quiet)) for _ in range(2)]
    await entered.wait()
    await house.gateway(await prepared(house), received(body), send)
    assert (sent.status, sent.error["code"], sent.headers["retry-after"]) == (503, "overloaded", "1")
    assert [type(error) for _, error in house.outcomes] == [Overloaded]
    gate.set()
    await asyncio.gather(*tasks)
    assert house.gateway.in_flight == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequest("x"), {"x-should-retry": "false"}),
        (Overloaded("x", retry_after_s=0.2), {"x-should-retry": "true", "retry-after": "1", "retry-after-ms": "200"}),
        (UpstreamRateLimited("x", retry_after_s=30.0), {"x-should-retry": "true", "retry-after": "30", "retry-after-ms": "30000"}),
        (UpstreamRateLimited("x", retry_after_s=0.0), {"x-should-retry": "true", "retry-after": "0", "retry-after-ms": "0"}),
        (UpstreamRejected("x", upstream_status=422), {"x-should-retry": "false"}),
        (FarthingError("x"), {}),
    ],
)
def test_error_headers_tell_the_sdk_whether_and_when(error: FarthingError, expected: dict[str, str]) -> None:
    assert {name.decode(): value.decode() for name, value in error_headers(error)} == expected


# Bodies that do not come as they should


async def test_a_body_in_pieces_is_put_together() -> None:
    house = House()
    data = msgspec.json.encode(BODY)
    sent = await house.ask(receive=received(data[:5], b"", data[5:9], data[9:]))
    assert sent.status == 200
    assert house.requests[0].body == BODY


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large_is_refused_before_it_is_held(announced: bool) -> None:  # noqa: FBT001
    house = House(max_body_bytes=100)
    asked = 0

    async def endless() -> Message:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    headers = [(b"content-length", b"101")] if announced else []
    sent = await house.ask(receive=endless, headers=headers)
    assert (sent.status, sent.error["code"]) == (413, "body_too_large")
    assert asked == (0 if announced else 2)
    assert [type(error) for _, error in house.outcomes] == [BodyTooLarge]


@pytest.mark.parametrize("length", [b"abc", b"-5", b"\xb2", b"", b"9" * 30])
async def test_a_strange_content_length_is_no_500(length: bytes) -> None:
    sent = await House().ask(headers=[(b"content-length", length)])
    assert sent.status in {200, 413}


async def test_a_slow_body_is_given_up_on() -> None:
    house = House(body_timeout_s=0.02)
    sent = await house.ask(receive=received(b'{"model":', then=None))
    assert sent.status == 400, "a body that ends early is just wrong"

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    sent = await house.ask(receive=never)
    assert (sent.status, sent.error["code"], sent.headers["x-should-retry"]) == (408, "body_timeout", "true")
    assert type(house.outcomes[-1][1]) is BodyTimeout


# Clients that leave


async def test_a_client_that_leaves_in_its_body_is_recorded_once_and_answered_nothing() -> None:
    house = House()
    sent = await house.ask(receive=received(b'{"mod', then={"type": "http.disconnect"}))
    assert sent.messages == []
    assert [error.wire()[0] for _, error in house.outcomes if error] == [499]


@pytest.mark.parametrize("where", ["body", "flow", "stream"])
async def test_a_client_that_leaves_cancels_the_work_without_an_error(where: str) -> None:
    house = House()
    cancelled = asyncio.Event()

    async def flow(_: Request) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    made: list[Stream] = []
    if where == "stream":
        made = house.streams(lambda answer: Stream(answer, CHUNKS, hang=True))
    else:
        house.flow = flow
    scope: Json = {}

    async def half() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.ensure_future(house.ask({**BODY, "stream": True}, scope=scope, receive=half if where == "body" else None))
    for _ in range(20):
        await asyncio.sleep(0)
    scope[LIFELINE].release()
    async with asyncio.timeout(5):
        sent = await task
    if where == "body":
        assert [error.wire()[0] for _, error in house.outcomes if error] == [499]
    elif where == "flow":
        assert cancelled.is_set()
    else:
        assert made[0].closed == 1
        assert len(sent.messages) == 4


async def test_a_cancellation_that_is_not_the_clients_leaving_goes_through() -> None:
    house = House()

    async def flow(_: Request) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    house.flow = flow
    task = asyncio.ensure_future(house.ask())
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("key", "status", "code"), [("", 404, "not_found"), (None, 401, "invalid_api_key")])
async def test_a_web_socket_where_there_is_none_is_refused_and_other_scopes_ignored(key: str | None, status: int, code: str) -> None:
    house = House()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await house.ask(scope={}, key=key)
    headers = [] if key is None else [(b"x-api-key", house.key.encode())]
    await house.gateway({"type": "websocket", "path": "/nowhere", "query_string": b"", "headers": headers}, received(b""), send)
    start, body = sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert (body["type"], msgspec.json.decode(body["body"])["error"]["code"]) == ("websocket.http.response.body", code)
    await house.gateway({"type": "lifespan"}, received(b""), send)
    assert len(sent) == 2


# Over a socket


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_leaves_nothing_for_the_garbage_collector(*, streamed: bool) -> None:
    """What refers to itself stays until a collection: thousands of requests, and megabytes that look like a leak."""
    house = House()

    async def flow(_: Request) -> Answer:
        answer = Answer(source=Source.MODEL, model="fast", body=b"{}")
        answer.stream = Stream(answer, CHUNKS) if streamed else None
        return answer

    house.flow = flow
    await house.ask()  # makes the key known
    config = uvicorn.Config(house.gateway, http=DoorProtocol, lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: DoorProtocol(config, uvicorn.server.ServerState(), {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    body = msgspec.json.encode({**BODY, "stream": streamed})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {house.key}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    kinds = (Request, Answer, Lifeline, Direct)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            writer.write(head + body)
            assert b" 200 " in await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n" if streamed else b"{}")
            house.requests.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [type(found) for found in gc.garbage if isinstance(found, kinds)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
