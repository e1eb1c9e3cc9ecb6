"""What the local chat engine says on the wire. The provider is written on these facts: when a new engine breaks one, look there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from farthing.pipeline.json_schema import check_response
from farthing.providers.local.supervisor import ChatEngine, ChatServer
from farthing.providers.local.weights import SMOLLM2, locate
from farthing.types import Json

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[ChatServer]:
    made = ChatServer(ChatEngine(model=locate(SMOLLM2), alias=SMOLLM2.name, parallel=2, context=1024))
    await made.start()
    await made.wait_ready(30)
    yield made
    await made.aclose()


async def post(server: ChatServer, body: Json, key: str | None = None, path: str = "/chat/completions") -> httpx.Response:
    headers = {"authorization": f"Bearer {key or server.api_key}"}
    async with httpx.AsyncClient(base_url=server.base_url, timeout=30, trust_env=False) as client:
        return await client.post(path, json=body, headers=headers)


def say(text: str, **more: Any) -> Json:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0} | more


def listening_addresses(port: int) -> set[str]:
    """Addresses on which somebody listens on this port, as proc(5) writes them."""
    sockets = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text(encoding="ascii").splitlines()[1:]]
    return {local for _, local, _, state, *_ in sockets if state == "0A" and local.endswith(f":{port:04X}")}


async def test_it_listens_on_the_loopback_interface_only(server: ChatServer) -> None:
    assert server.base_url == f"http://127.0.0.1:{server.port}/v1"
    assert listening_addresses(server.port) == {f"0100007F:{server.port:04X}"}


async def test_without_the_key_nothing_is_answered(server: ChatServer) -> None:
    refused = await post(server, say("Hi"), key="guess")
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")


async def test_an_answer_has_usage_and_the_engines_timings(server: ChatServer) -> None:
    answer = (await post(server, say("Say hi."))).json()
    assert answer["model"] == SMOLLM2.name
    assert answer["usage"]["completion_tokens"] <= 8 < answer["usage"]["prompt_tokens"]
    assert "timings" in answer
    assert "logprobs" not in answer["choices"][0]  # the door has to add what OpenAI requires
    assert "refusal" not in answer["choices"][0]["message"]


@pytest.mark.parametrize("include", [True, False])
async def test_a_stream_ends_with_usage_when_asked(server: ChatServer, *, include: bool) -> None:
    answer = await post(server, say("Say hi.", stream=True, stream_options={"include_usage": include}))
    *lines, end = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    chunks = [json.loads(line) for line in lines]
    assert end == "[DONE]"
    assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [include]
    assert (chunks[-1]["choices"] == []) is include


async def test_too_long_a_prompt_is_refused_with_openais_shape(server: ChatServer) -> None:
    refused = await post(server, say("word " * 2_000))
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "exceed_context_size_error"
    assert refused.json()["error"]["code"] == 400  # a number, where OpenAI has a name


async def test_usage_of_several_choices_counts_the_first_only(server: ChatServer) -> None:
    answer = (await post(server, say("Tell a story.", n=2, max_tokens=5))).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 5


async def test_more_choices_than_parallel_requests_are_refused(server: ChatServer) -> None:
    assert (await post(server, say("Hi", n=3))).status_code == 400


async def test_a_demanded_tool_call_is_silently_ignored(server: ChatServer) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    answer = (await post(server, say("Call f.", tools=[tool], tool_choice="required"))).json()
    assert not answer["choices"][0]["message"].get("tool_calls")


async def test_embeddings_are_not_its_business(server: ChatServer) -> None:
    assert (await post(server, {"input": "hi"}, path="/embeddings")).status_code == 501


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


async def ask_json(server: ChatServer, schema: Json) -> tuple[httpx.Response, str | None]:
    """The engine's answer under a schema, and what our check finds wrong with it."""
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    answer = await post(server, say("Describe Ann, who is 31.", max_tokens=60, response_format=wanted))
    if answer.status_code != 200:
        return answer, answer.json()["error"]["message"]
    return answer, check_response(wanted, answer.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    "schema",
    [
        _object(name={"type": "string", "maxLength": 20}, age={"type": "integer", "minimum": 18, "maximum": 99}),
        _object(colour={"enum": ["red", "blue"]}, seven={"const": 7}),
        _object(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}),
        {"$defs": {"p": _object(n={"type": "integer", "maximum": 9})}, **_object(p={"$ref": "#/$defs/p"})},
        {"anyOf": [_object(a={"type": "boolean"}), _object(b={"type": "null"})]},
    ],
    ids=["types and bounds", "enum and const", "anchored pattern", "ref", "anyOf"],
)
async def test_schemas_that_the_engine_keeps_pass_our_check(server: ChatServer, schema: Json) -> None:
    answer, wrong = await ask_json(server, schema)
    assert (answer.status_code, wrong) == (200, None)


@pytest.mark.parametrize(
    "schema",
    [
        _object(s={"type": "string", "pattern": "[0-9]{9}"}),
        _object(n={"type": "number", "exclusiveMinimum": 5, "maximum": 5.5}),
        _object(v={"not": {"type": ["string", "number", "boolean", "null", "object"]}}),
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a", "zz"], "additionalProperties": False},
    ],
    ids=["unanchored pattern", "fraction bounds", "not", "required but unnamed"],
)
async def test_schemas_that_the_engine_silently_ignores_are_caught_by_our_check(server: ChatServer, schema: Json) -> None:
    answer, wrong = await ask_json(server, schema)
    assert answer.status_code == 200
    assert wrong is not None


async def test_an_answer_cut_by_the_token_limit_is_caught_by_our_check(server: ChatServer) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": _object(s={"type": "string", "minLength": 200})}}
    answer = (await post(server, say("Describe Ann.", response_format=wanted))).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert "not JSON" in str(check_response(wanted, answer["choices"][0]["message"]["content"]))


@pytest.mark.parametrize("schema", [{"type": "zork"}, {"$ref": "https://example.com/s.json"}])
async def test_schemas_that_the_engine_refuses_are_answered_400(server: ChatServer, schema: Json) -> None:
    answer, _ = await ask_json(server, schema)
    assert answer.status_code == 400
