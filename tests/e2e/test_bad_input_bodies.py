"""Bodies that are not what they should be: each is refused with OpenAI's error object, is in the ledger once, and costs nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai import APIStatusError, OpenAI
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.raw_client import RawClient
from farthing.testing.upstream import ScriptedUpstream

GOOD: dict[str, Any] = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
ANYTHING: tuple[Any, ...] = (None, True, 7, 1.5, "text", [], {}, [7], [None], {"x": 7}, [[]])
DEEP = b"[" * 200 + b"]" * 200

NOT_JSON = {
    "nothing": b"",
    "white_space": b" \r\n\t",
    "word": b"hello",
    "truncated": b'{"model": "fast", "messages": [{"role": "us',
    "trailing_comma": b'{"model": "fast", "messages": [],}',
    "two_documents": json.dumps(GOOD).encode() * 2,
    "not_utf8": b'{"model": "fast", "messages": [{"role": "user", "content": "caf\xe9"}]}',
    "half_a_character": b'{"model": "fast", "messages": [{"role": "user", "content": "caf\xc3"}]}',
    "utf16": json.dumps(GOOD).encode("utf-16"),
    "lone_surrogate": b'{"model": "fast", "messages": [{"role": "user", "content": "\\ud800"}]}',
    "nan": b'{"model": "fast", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
    "array": b"[]",
    "null": b"null",
    "string": b'"hello"',
    "number": b"17",
    "deep_array": DEEP,
    "very_deep_array": b"[" * 100_000,
    "very_deep_unknown_field": b'{"model": "fast", "messages": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nul_bytes": b"\0" * 64,
}

WRONG_TYPES: dict[str, tuple[Mapping[str, Any], str]] = {
    "no_model": ({"model": None}, "model"),
    "model": ({"model": 7}, "model"),
    "no_messages": ({"messages": None}, "messages"),
    "messages": ({"messages": "hello"}, "messages"),
    "empty_messages": ({"messages": []}, "messages"),
    "message": ({"messages": ["hello"]}, "messages[0]"),
    "role": ({"messages": [{"role": 1, "content": "x"}]}, "messages[0].role"),
    "no_role": ({"messages": [{"content": "x"}]}, "messages[0].role"),
    "content": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    "part": ({"messages": [{"role": "user", "content": [{"type": 1}]}]}, "messages[0].content[0].type"),
    "stream": ({"stream": "yes"}, "stream"),
    "stream_options": ({"stream_options": True}, "stream_options"),
    "include_usage": ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    "temperature": ({"temperature": "hot"}, "temperature"),
    "top_p": ({"top_p": []}, "top_p"),
    "n": ({"n": 1.5}, "n"),
    "max_tokens": ({"max_tokens": "many"}, "max_tokens"),
    "max_completion_tokens": ({"max_completion_tokens": {}}, "max_completion_tokens"),
    "stop": ({"stop": 3}, "stop"),
    "seed": ({"seed": "lucky"}, "seed"),
    "presence_penalty": ({"presence_penalty": True}, "presence_penalty"),
    "frequency_penalty": ({"frequency_penalty": "x"}, "frequency_penalty"),
    "logit_bias": ({"logit_bias": []}, "logit_bias"),
    "logprobs": ({"logprobs": 2}, "logprobs"),
    "top_logprobs": ({"top_logprobs": "2"}, "top_logprobs"),
    "tools": ({"tools": {}}, "tools"),
    "tool": ({"tools": [{"type": "function", "function": {"name": 3}}]}, "tools[0].function.name"),
    "tool_choice": ({"tool_choice": 1}, "tool_choice"),
    "parallel_tool_calls": ({"parallel_tool_calls": "x"}, "parallel_tool_calls"),
    "response_format": ({"response_format": "json"}, "response_format"),
    "json_schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": 1}}}, "response_format.json_schema.name"),
    "modalities": ({"modalities": "text"}, "modalities"),
    "metadata": ({"metadata": {"a": 1}}, "metadata[...]"),
    "reasoning_effort": ({"reasoning_effort": 1}, "reasoning_effort"),
    "store": ({"store": "x"}, "store"),
    "user": ({"user": 1}, "user"),
    "farthing": ({"farthing": "off"}, "farthing"),
    "farthing_unknown": ({"farthing": {"cach": "off"}}, "farthing.cach"),
    "farthing_cache": ({"farthing": {"cache": "never"}}, "farthing.cache"),
    "farthing_namespace": ({"farthing": {"namespace": "a\nb"}}, "farthing.namespace"),
    "farthing_empty_namespace": ({"farthing": {"namespace": ""}}, "farthing.namespace"),
    "farthing_reserved": ({"farthing": {"dry_run": True}}, "farthing.dry_run"),
}


async def post(farthing: Installation, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, dict[str, str], Any]:
    sent = {"authorization": f"Bearer {farthing.key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with RawClient(farthing.port, headers=sent, timeout=10) as client:
        await client.post(body, path)
        status, answered, data = await client.answer()
        return status, answered, json.loads(data)


def check(answer: tuple[int, dict[str, str], Any], status: int, code: str, param: str | None = None) -> None:
    seen, headers, body = answer
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (seen, body["error"]["code"], body["error"]["param"]) == (status, code, param), body
    assert body["error"]["type"] == "invalid_request_error"
    assert (headers["content-type"], headers["x-should-retry"]) == ("application/json", "false")
    assert headers["x-request-id"]


@pytest.mark.parametrize("name", NOT_JSON)
async def test_body_that_is_not_a_json_object_is_refused(
    name: str, strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    received = up.received
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        check(await post(strict, NOT_JSON[name]), 400, "invalid_request")
    assert up.received == received


@pytest.mark.parametrize("name", WRONG_TYPES)
async def test_wrong_type_is_refused_with_the_name_of_its_field(
    name: str, strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    fields, param = WRONG_TYPES[name]
    received = up.received
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        check(await post(strict, json.dumps({**GOOD, **fields}).encode()), 400, "invalid_request", param)
    assert up.received == received


@pytest.mark.parametrize(("schema", "path"), [("ChatBody", "/v1/chat/completions"), ("EmbeddingsBody", "/v1/embeddings")])
async def test_every_documented_field_is_refused_in_every_type_that_it_does_not_have(schema: str, path: str, strict: Installation) -> None:
    """Straight from our own document: what its schema does not allow is a 400 that names the field."""
    status, document = strict.get("/openapi.json", key=strict.key)
    assert status == 200
    components = json.loads(document)["components"]
    tried = 0
    async with RawClient(strict.port, headers={"authorization": f"Bearer {strict.key}"}, timeout=10) as client:
        for field, rule in components["schemas"][schema]["properties"].items():
            allowed = Draft202012Validator({**rule, "components": components})
            for value in ANYTHING:
                if allowed.is_valid(value):
                    continue
                tried += 1
                await client.post({**GOOD, "input": "x", field: value}, path)
                seen, headers, body = await client.answer()
                assert seen == 400, (field, value, body)
                error = json.loads(body)["error"]
                assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
                assert re.match(rf"{field}\b", error["param"]), (field, value, error)
                assert headers["x-request-id"]
    assert tried > 6 * len(components["schemas"][schema]["properties"]) - 30


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": {"text": "x"}}, "input"),
        ({"dimensions": "8"}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_wrong_embeddings_request_is_refused(fields: dict[str, Any], param: str, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        body = json.dumps({"model": "fast", "input": "x", **fields}).encode()
        check(await post(strict, body, "/v1/embeddings"), 400, "invalid_request", param)


@pytest.mark.parametrize("levels", [200, 5000])
async def test_too_many_levels_are_refused_even_in_an_unknown_field(levels: int, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        body = json.dumps({**GOOD, "deep": 0}).encode().replace(b"0", b"[" * levels + b"]" * levels)
        check(await post(strict, body), 400, "invalid_request")


async def test_a_hundred_levels_in_an_unknown_field_pass_through(strict: Installation, strict_probe: Probe, up: ScriptedUpstream) -> None:
    deep: Any = "the bottom"
    for _ in range(100):
        deep = [deep]
    async with strict_probe.adds(requests=1, attempts=1, errors=0):
        status, _, body = await post(strict, json.dumps({**GOOD, "deep": deep}).encode())
    assert status == 200, body
    assert up.requests[-1].body["deep"] == deep


@pytest.mark.parametrize("announced", [True, False])
async def test_fifty_megabytes_are_refused_before_they_are_read(announced: bool, strict: Installation, strict_probe: Probe) -> None:  # noqa: FBT001 - a case
    """Announced by content-length, the body is refused at once; in chunks, as soon as it is past the limit."""
    async with strict_probe.adds(requests=1, attempts=0, errors=1), RawClient(strict.port, timeout=10) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {strict.key}\r\n"
        size = 50 * 2**20
        if announced:
            await client.send(f"{head}content-length: {size}\r\n\r\n".encode(), b" " * 65_536)
        else:
            await client.send(f"{head}transfer-encoding: chunked\r\n\r\n".encode(), *[b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 20)
        status, headers, body = await client.answer()
        check((status, headers, json.loads(body)), 413, "body_too_large")
        assert await client.rest() == b""


def test_the_sdk_is_told_that_its_fifty_megabytes_are_too_much(strict: Installation, strict_probe: Probe) -> None:
    with strict_probe.adds(requests=1, attempts=0, errors=1), OpenAI(base_url=strict.base_url, api_key=strict.key, max_retries=0) as client:
        with pytest.raises(APIStatusError) as caught:
            client.chat.completions.create(model="fast", messages=[{"role": "user", "content": "x" * 50 * 2**20}])
        assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


async def test_unknown_model_is_refused_with_the_names_that_exist(strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        answer = await post(strict, json.dumps({**GOOD, "model": "gpt-9"}).encode())
        check(answer, 404, "model_not_found", "model")
    assert "fast, strong" in answer[2]["error"]["message"]


@pytest.mark.parametrize("name", ["", " ", "fast\n", "../fast", "x" * 100_000, "fast\u0000", "FAST", "🌍"])
async def test_odd_model_names_are_unknown_models(name: str, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        answer = await post(strict, json.dumps({**GOOD, "model": name}).encode())
        check(answer, 404, "model_not_found", "model")
    assert len(answer[2]["error"]["message"]) < 1000


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/v1/complete", "/admin", "/../etc/passwd", "//"])
async def test_unknown_door_is_an_error_object(path: str, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=0):
        check(await post(strict, b"{}", path), 404, "not_found")


async def test_wrong_method_is_an_error_object(strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=0), RawClient(strict.port, headers={"authorization": f"Bearer {strict.key}"}) as client:
        await client.request("GET", "/v1/chat/completions")
        status, headers, body = await client.answer()
        check((status, headers, json.loads(body)), 405, "method_not_allowed")


async def test_refused_body_leaves_its_connection_usable(strict: Installation) -> None:
    async with RawClient(strict.port, headers={"authorization": f"Bearer {strict.key}"}) as client:
        for body, expected in ((b"{", 400), (json.dumps({**GOOD, "n": "x"}).encode(), 400), (json.dumps(GOOD).encode(), 200)):
            await client.post(body)
            assert (await client.answer())[0] == expected
