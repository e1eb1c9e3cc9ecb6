from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from farthing.testing.raw_client import RawClient
from farthing.testing.upstream import (
    ANY_MODEL,
    CLOSE,
    RESET,
    STALL,
    Received,
    Repeat,
    Reply,
    ScriptedUpstream,
    completion,
    embeddings,
    error,
    rate_limited,
    serve_in_thread,
    stream,
)


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


def asked(text: str = "Say hello", model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def test_unscripted_models_echo_the_last_user_message(up: ScriptedUpstream) -> None:
    async with RawClient(up.port) as client:
        await client.post(asked("one two"))
        status, headers, body = await client.answer()
    document = msgspec.json.decode(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert document["choices"][0]["message"]["content"] == "one two"
    assert document["choices"][0]["logprobs"] is None
    assert document["usage"]["completion_tokens"] == 2


async def test_the_echo_streams_when_asked_and_gives_usage_only_when_asked(up: ScriptedUpstream) -> None:
    async with RawClient(up.port) as client:
        await client.post(asked("one two", stream=True))
        plain = await client.events()
        await client.post(asked("one two", stream=True, stream_options={"include_usage": True}))
        counted = await client.events()
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in plain) == "one two"
    assert all("usage" not in event for event in plain)
    assert counted[-1]["choices"] == []
    assert counted[-1]["usage"]["completion_tokens"] == 2
    assert all(event["usage"] is None for event in counted[:-1])


async def test_a_script_is_consumed_in_order_and_its_last_reply_repeats(up: ScriptedUpstream) -> None:
    up.script("m", error(500), completion("first"), completion("last"))
    seen: list[Any] = []
    async with RawClient(up.port) as client:
        for _ in range(4):
            await client.post(asked())
            status, _, body = await client.answer()
            seen.append(status if status != 200 else msgspec.json.decode(body)["choices"][0]["message"]["content"])
    assert seen == [500, "first", "last", "last"]
    assert up.connections == 1


async def test_a_script_for_any_model_and_a_computed_reply(up: ScriptedUpstream) -> None:
    def shout(received: Received) -> Reply:
        return completion(str(received.model).upper())

    up.script(ANY_MODEL, shout)
    async with RawClient(up.port) as client:
        await client.post(asked(model="quiet"))
        _, _, body = await client.answer()
    assert msgspec.json.decode(body)["choices"][0]["message"]["content"] == "QUIET"


async def test_requests_are_recorded_with_decoded_body_and_bounded() -> None:
    async with ScriptedUpstream(max_requests=2) as up, RawClient(up.port) as client:
        for text in ("a", "b", "c"):
            await client.post(asked(text))
            await client.answer()
        assert [received.body["messages"][0]["content"] for received in up.requests] == ["b", "c"]
        assert up.received == 3
        assert up.requests[0].headers["host"] == "127.0.0.1"
        assert up.of("m") == list(up.requests)
        assert up.of("other") == []


async def test_chunked_request_bodies_and_expect_continue(up: ScriptedUpstream) -> None:
    data = msgspec.json.encode(asked("in pieces"))
    async with RawClient(up.port) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.head())[0] == 100
        for byte in data:
            await client.send(b"1\r\n%c\r\n" % byte)
        await client.send(b"0\r\n\r\n")
        _, _, body = await client.answer()
    assert b"in pieces" in body


async def test_what_is_not_json_is_recorded_as_bytes_and_refused(up: ScriptedUpstream) -> None:
    async with RawClient(up.port) as client:
        await client.post(b"\xff{")
        assert (await client.answer())[0] == 400
    assert up.requests[0].body == b"\xff{"


async def test_what_is_not_http_is_refused(up: ScriptedUpstream) -> None:
    async with RawClient(up.port) as client:
        await client.send(b"hello\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    await up.wait_for(lambda up: up.open_connections == 0)


async def test_models_list_what_is_scripted(up: ScriptedUpstream) -> None:
    up.script("m", completion("x"))
    async with RawClient(up.port) as client:
        await client.send(b"GET /v1/models HTTP/1.1\r\n\r\n")
        _, _, body = await client.answer()
    assert [model["id"] for model in msgspec.json.decode(body)["data"]] == ["echo", "m"]


async def test_unknown_paths_are_not_found(up: ScriptedUpstream) -> None:
    async with RawClient(up.port) as client:
        await client.post(asked(), "/v1/audio/speech")
        assert (await client.answer())[0] == 404


async def test_embeddings_scripted_and_by_default(up: ScriptedUpstream) -> None:
    up.script("e", embeddings(2, 3))
    async with RawClient(up.port) as client:
        await client.post({"model": "e", "input": ["a", "b"]}, "/v1/embeddings")
        scripted = msgspec.json.decode((await client.answer())[2])
        await client.post({"model": "other", "input": "a"}, "/v1/embeddings")
        default = msgspec.json.decode((await client.answer())[2])
    assert [item["embedding"] for item in scripted["data"]] == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert len(default["data"]) == 1


async def test_each_part_is_one_chunk_on_the_wire(up: ScriptedUpstream) -> None:
    up.script("m", Reply(parts=(b"ab", 0.01, b"", b"c")))
    async with RawClient(up.port) as client:
        await client.post(asked())
        _, headers = await client.head()
        assert headers["transfer-encoding"] == "chunked"
        assert [await client.chunk(), await client.chunk(), await client.chunk()] == [b"ab", b"c", b""]


async def test_close_ends_the_connection_without_the_end_of_the_body(up: ScriptedUpstream) -> None:
    up.script("m", Reply(parts=(b"ab", CLOSE)))
    async with RawClient(up.port) as client:
        await client.post(asked())
        await client.head()
        assert await client.rest() == b"2\r\nab\r\n"
    assert up.disconnects == 0


async def test_reset_is_a_tcp_reset(up: ScriptedUpstream) -> None:
    up.script("m", Reply(parts=(b"ab", 0.02, RESET)))
    async with RawClient(up.port) as client:
        await client.post(asked())
        await client.head()
        assert await client.chunk() == b"ab"
        with pytest.raises(ConnectionResetError):
            await client.rest()
    assert up.disconnects == 0


async def test_raw_parts_go_out_as_they_are(up: ScriptedUpstream) -> None:
    up.script("m", Reply(raw=True, parts=(b"HTTP/1.1 200 Sure\r\n", b"x: y\r\n\r\nbye", CLOSE)))
    async with RawClient(up.port) as client:
        await client.post(asked())
        assert await client.rest() == b"HTTP/1.1 200 Sure\r\nx: y\r\n\r\nbye"


async def test_a_client_that_gives_up_on_a_stall_counts_as_a_disconnect(up: ScriptedUpstream) -> None:
    up.script("m", Reply(parts=(b"ab", STALL)))
    async with RawClient(up.port) as client:
        await client.post(asked())
        await client.head()
        assert await client.chunk() == b"ab"
        assert (up.disconnects, up.open_connections) == (0, 1)
    await up.wait_for(lambda up: up.disconnects == 1 and up.open_connections == 0)


async def test_a_client_that_leaves_during_a_pause_counts_as_a_disconnect(up: ScriptedUpstream) -> None:
    up.script("m", stream(["a", "b"], delay=30))
    async with RawClient(up.port) as client:
        await client.post(asked())
        await client.head()
        await client.chunk()
    await up.wait_for(lambda up: up.disconnects == 1 and up.open_connections == 0)


async def test_a_client_that_leaves_an_endless_body_counts_as_a_disconnect(up: ScriptedUpstream) -> None:
    up.script("m", Reply(parts=(Repeat(data=b"x" * 1000),)))
    async with RawClient(up.port) as client:
        await client.post(asked())
        await client.head()
        assert await client.chunk() == b"x" * 1000
    await up.wait_for(lambda up: up.disconnects == 1 and up.open_connections == 0)


async def test_a_client_that_closes_after_the_answer_is_no_disconnect(up: ScriptedUpstream) -> None:
    async with RawClient(up.port) as client:
        await client.post(asked(stream=True))
        await client.events()
    await up.wait_for(lambda up: up.open_connections == 0)
    assert up.disconnects == 0


async def test_connection_close_is_honoured(up: ScriptedUpstream) -> None:
    async with RawClient(up.port) as client:
        await client.send(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert b"connection: close" in await client.rest()


async def test_while_down_nothing_listens_and_afterwards_it_is_back(up: ScriptedUpstream) -> None:
    port = up.port
    async with up.down():
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    async with RawClient(port) as client:
        await client.post(asked())
        assert (await client.answer())[0] == 200


async def test_leaving_breaks_off_what_is_under_way_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with ScriptedUpstream() as up:
        up.script("m", Reply(parts=(STALL,)))
        async with RawClient(up.port) as client:
            await client.post(asked())
            await client.head()
            await up.__aexit__()
            assert await client.rest() == b""
            assert (up.disconnects, up.open_connections) == (0, 0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_waiting_in_vain_says_what_happened(up: ScriptedUpstream) -> None:
    with pytest.raises(TimeoutError, match="received=0"):
        await up.wait_for(lambda up: up.received == 1, timeout=0.02)


def test_a_thread_serves_code_without_a_loop() -> None:
    with serve_in_thread() as up, socket.create_connection(("127.0.0.1", up.port), timeout=5) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
        up.wait_until(lambda up: up.received == 1)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_rate_limits_say_when_to_come_back() -> None:
    assert rate_limited(retry_after="2", retry_after_ms="1500").all_headers()["retry-after-ms"] == "1500"
    assert "retry-after" not in rate_limited().all_headers()


def test_tool_calls_stream_name_first_then_arguments_in_pieces() -> None:
    events = [
        msgspec.json.decode(part.removeprefix(b"data: "))
        for part in stream([], tool_calls=[("f", '{"city": "Berlin"}'), ("g", "{}")]).parts or ()
        if isinstance(part, bytes) and b"[DONE]" not in part
    ]
    deltas = [
        event["choices"][0]["delta"]["tool_calls"][0]
        for event in events
        if event["choices"] and "tool_calls" in event["choices"][0]["delta"]
    ]
    assert [delta["index"] for delta in deltas] == [0, 0, 0, 0, 1, 1]
    assert deltas[0]["function"] == {"name": "f", "arguments": ""}
    assert "".join(delta["function"]["arguments"] for delta in deltas if delta["index"] == 0) == '{"city": "Berlin"}'
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_several_choices_are_interleaved_and_distinct() -> None:
    parts = [part for part in stream(["a", "b"], n=2, usage="on_last_choice_chunk").parts or () if isinstance(part, bytes)]
    events = [msgspec.json.decode(part.removeprefix(b"data: ")) for part in parts[:-1]]
    assert [event["choices"][0]["index"] for event in events] == [0, 1] * 4
    texts = ["".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"][0]["index"] == i) for i in (0, 1)]
    assert texts == ["ab", "#1 ab"]
    assert events[-1]["usage"]["completion_tokens"] == 2
    assert completion("a", n=2).json["choices"][1]["message"]["content"] == "#1 a"
