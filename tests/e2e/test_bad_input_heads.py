"""Heads that are not what they should be: keys, URLs, headers, and bytes that are no HTTP at all."""

from __future__ import annotations

import json
import secrets
from typing import Any
from uuid import uuid4

import pytest
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.raw_client import RawClient
from farthing.testing.upstream import ScriptedUpstream

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def body() -> bytes:
    return json.dumps({"model": "fast", "messages": [{"role": "user", "content": f"hello {uuid4()}"}]}).encode()


async def post(
    farthing: Installation, headers: dict[str, str], path: str = "/v1/chat/completions"
) -> tuple[int, dict[str, str], dict[str, Any]]:
    async with RawClient(farthing.port, headers=headers, timeout=10) as client:
        await client.post(body(), path)
        status, answered, data = await client.answer()
        return status, answered, json.loads(data)


def check(answer: tuple[int, dict[str, str], dict[str, Any]], status: int, code: str) -> None:
    seen, headers, found = answer
    assert set(found["error"]) == {"message", "type", "param", "code"}
    assert (seen, found["error"]["code"]) == (status, code), found
    assert headers["x-request-id"]
    assert headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer fk-" + "x" * 43},
        {"authorization": "Bearer sk-upstream"},
        {"authorization": "Bearer " + "x" * 10_000},
        {"authorization": "Bearer caf\xe9"},
        {"authorization": "Bearer ' OR 1=1 --"},
        {"x-api-key": "fk-nobody"},
        {"cookie": "key=fk-nobody"},
    ],
    ids=lambda headers: " ".join(f"{name} {value[:12]}" for name, value in headers.items()) or "none",
)
async def test_missing_or_wrong_key_is_refused(headers: dict[str, str], strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        check(await post(strict, headers), 401, "invalid_api_key")


async def test_key_that_differs_in_its_last_character_is_refused_without_being_shown(strict: Installation, strict_probe: Probe) -> None:
    near = strict.key[:-1] + ("a" if strict.key[-1] != "a" else "b")
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        answer = await post(strict, {"authorization": f"Bearer {near}"})
        check(answer, 401, "invalid_api_key")
    assert near[:-4] not in json.dumps(answer[2])


async def test_revoked_key_is_refused_at_once(strict: Installation, strict_probe: Probe) -> None:
    made = json.loads(strict.cli("key", "create", "--tenant", "short-lived", "--json").stdout.splitlines()[-1])
    headers = {"authorization": f"Bearer {made['key']}"}
    async with strict_probe.adds(requests=2, attempts=1, errors=1):
        assert (await post(strict, headers))[0] == 200
        async with RawClient(strict.port, headers={"authorization": f"Bearer {strict.key}"}) as admin:
            await admin.request("DELETE", f"/admin/v1/keys/{made['id']}")
            assert (await admin.answer())[0] == 200
        answer = await post(strict, headers)
        check(answer, 401, "invalid_api_key")
        assert "revoked" in answer[2]["error"]["message"]


@pytest.mark.parametrize("query", ["key={}", "api_key={}", "api-key={}", "access_token={}", "q={}", "a=b&token={}", "{}"])
async def test_key_in_the_url_is_refused_and_not_repeated(query: str, strict: Installation, strict_probe: Probe) -> None:
    """Also beside a good key in the header."""
    async with strict_probe.adds(requests=1, attempts=0, errors=1):
        headers = {"authorization": f"Bearer {strict.key}"}
        answer = await post(strict, headers, "/v1/chat/completions?" + query.format(strict.key))
        check(answer, 400, "key_in_url")
    assert strict.key not in json.dumps(answer[2])
    assert strict.log.read_text(encoding="utf-8").count(strict.key) == 1, "shown at the first start and never again"


@pytest.mark.parametrize(
    "line",
    [
        b"x-farthing-namespace: a\0b",
        b"x-farthing-namespace: a\rb",
        b"x-farthing-namespace : a",
        b"x evil: a",
        b": nameless",
        b"content-length: 5, 6",
        b"content-length: -1",
        b"content-length: 1e3",
        b"transfer-encoding: chunked\r\ncontent-length: 5",
    ],
)
async def test_head_that_is_not_http_is_an_error_object_and_reaches_nobody(
    line: bytes, strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    received = up.received
    async with strict_probe.adds(requests=0), RawClient(strict.port) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {strict.key}\r\n".encode()
        await client.send(head + line + b"\r\n\r\n" + body())
        status, headers, data = await client.answer()
        assert await client.rest() == b""
    assert (status, json.loads(data)["error"]["code"]) == (400, "invalid_request")
    assert headers["x-request-id"]
    assert up.received == received


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-OpenSSH_9.2\r\n", b"GET\r\n\r\n", b"\r\n\r\n\0\0\0\r\n\r\n"]
)
async def test_other_protocols_are_refused(garbage: bytes, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=0), RawClient(strict.port) as client:
        await client.send(garbage)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("size", [60_000, 2**20])
async def test_huge_head_is_refused_and_a_big_one_is_not(size: int, strict: Installation, strict_probe: Probe) -> None:
    good = size < 64 * 1024
    big = {"authorization": f"Bearer {strict.key}", "x-big": "x" * size}
    async with strict_probe.adds(requests=1 if good else 0, errors=0), RawClient(strict.port, headers=big) as client:
        try:
            await client.post(body())
            status = (await client.answer())[0]
        except ConnectionError:  # the rest of the head met a closed door
            status = 400
    assert status == (200 if good else 400)


async def test_endless_head_is_refused(strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=0), RawClient(strict.port) as client:
        await client.send(b"GET / HTTP/1.1\r\n")
        for number in range(100_000):
            if client.reader.at_eof() or client.reader.exception():
                break
            try:
                await client.send(b"x-%d: y\r\n" % number * 50)
            except ConnectionError:
                break
        else:
            pytest.fail("the server reads heads without end")


@pytest.mark.parametrize(
    ("sent", "handed_on"),
    [
        (TRACE, TRACE),
        (TRACE.upper(), None),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", None),
        (TRACE + "-extra", None),
        ("ff" + TRACE[2:], None),
        ("cc" + TRACE[2:] + "-future", TRACE),
        (TRACE + "x" * 5000, None),
        ("'; DROP TABLE farthing.ledger; --", None),
        ("\xe9\xff", None),
        ("", None),
    ],
)
async def test_only_a_valid_traceparent_is_handed_on(
    sent: str, handed_on: str | None, strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    async with strict_probe.adds(requests=1, attempts=1, errors=0):
        assert (await post(strict, {"authorization": f"Bearer {strict.key}", "traceparent": sent}))[0] == 200
    seen = up.requests[-1].headers.get("traceparent")
    assert seen == handed_on or (sent == TRACE.upper() and seen in {TRACE, None})


async def test_headers_of_the_caller_do_not_reach_the_upstream(strict: Installation, up: ScriptedUpstream) -> None:
    more = {"x-secret": "mine", "cookie": "a=b", "openai-organization": "org", "x-forwarded-for": "1.2.3.4", "host": "evil.example"}
    assert (await post(strict, {"authorization": f"Bearer {strict.key}", **more}))[0] == 200
    seen = up.requests[-1].headers
    assert not set(more) - {"host"} & set(seen)
    assert seen["host"] == f"127.0.0.1:{up.port}"
    assert strict.key not in json.dumps(dict(seen))


async def test_nothing_that_a_caller_sends_forges_a_line_of_the_log(strict: Installation) -> None:
    marker = secrets.token_hex(8)
    forged = f'x\n{{"level":"error","message":"{marker}"}}\r\n\x1b[31m{marker}\u2028{marker}'
    asked = {"model": forged, "messages": [{"role": "user", "content": forged}], "user": forged, "farthing": {"user": "eve"}}
    headers = {"authorization": f"Bearer {strict.key}", "user-agent": marker, "x-request-id": f"id-{marker}"}
    async with RawClient(strict.port, headers=headers) as client:
        for sent in (asked, {**asked, "model": "fast"}, {**asked, "farthing": {"task_type": forged}}, {**asked, "farthing": {forged: 1}}):
            await client.post(sent)
            status, answered, _ = await client.answer()
            assert status in {200, 400, 404}
            assert marker not in json.dumps(answered)
        await client.post({}, f"/v1/%0a{marker}%0d%0a{marker}")
        assert (await client.answer())[0] == 404
    lines = strict.log.read_text(encoding="utf-8").splitlines()
    assert any('"logger":"farthing.requests"' in line for line in lines), "the requests are logged"
    assert not [line for line in lines if marker in line and not line.startswith('{"time":')]
    assert not [line for line in lines if marker in line], "neither prompts nor what a caller names is in the log"
