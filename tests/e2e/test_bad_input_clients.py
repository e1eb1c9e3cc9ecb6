"""Clients that are slow, or leave: at every point one row in the ledger at most, and nothing that goes on for nobody."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.malformed import stall_after_headers, stall_before_headers, stall_mid_body
from farthing.testing.raw_client import RawClient
from farthing.testing.replies import Repeat, Reply, completion, stream
from farthing.testing.upstream import ScriptedUpstream

WORDS = tuple(f"word {at} " for at in range(400))


def question(*, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": "fast", "stream": stream, "messages": [{"role": "user", "content": f"hello {uuid4()}"}], **more}


def caller(farthing: Installation) -> RawClient:
    return RawClient(farthing.port, headers={"authorization": f"Bearer {farthing.key}"}, timeout=10)


def head(farthing: Installation, length: int) -> bytes:
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {farthing.key}", f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


async def works(farthing: Installation) -> None:
    async with caller(farthing) as client:
        await client.post(question())
        assert (await client.answer())[0] == 200


async def drip(client: RawClient, drop: bytes) -> None:
    for _ in range(100):
        await client.send(drop)
        await asyncio.sleep(0.05)


# Slow


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slo"])
async def test_head_that_does_not_come_closes_the_connection(sent: bytes, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=0), RawClient(strict.port, timeout=5) as client:
        await client.send(sent)
        assert await client.rest() == b""
    await works(strict)


async def test_dripping_head_does_not_buy_time(strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=0), RawClient(strict.port, timeout=5) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            await drip(client, b"x: y\r\n")
    await works(strict)


@pytest.mark.parametrize("drops", [0, 100])
async def test_body_that_does_not_come_is_an_error(drops: int, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=1, attempts=0, errors=1), RawClient(strict.port, timeout=5) as client:
        await client.send(head(strict, 10_000), b'{"model": "fa')
        reading = asyncio.ensure_future(client.answer())
        for _ in range(drops):
            if reading.done():
                break
            await client.send(b" ")
            await asyncio.sleep(0.05)
        status, headers, body = await reading
        found = json.loads(body)["error"]
        assert (status, found["code"], headers["x-should-retry"]) == (408, "body_timeout", "true")
        assert await client.rest() == b""
    await works(strict)


async def test_client_that_does_not_read_holds_up_nobody_else(strict: Installation, strict_probe: Probe, up: ScriptedUpstream) -> None:
    """Its stream is read no further than the buffers reach, and ends with it."""
    up.script("fast", Reply(parts=(*(stream(WORDS[:2]).parts or ())[:3], Repeat(data=b": " + b"x" * 10_000 + b"\n\n", times=90))))
    async with strict_probe.adds(requests=2, attempts=2), caller(strict) as client:
        await client.post(question(stream=True))
        await client.head()
        up.script("fast")
        await works(strict)
    await works(strict)


# Gone


@pytest.mark.parametrize("sent", [b"", b"PO", b"POST /v1/chat/completions HTTP/1.1\r\nauthor"])
async def test_client_leaves_in_its_head(sent: bytes, strict: Installation, strict_probe: Probe) -> None:
    async with strict_probe.adds(requests=0), RawClient(strict.port) as client:
        await client.send(sent)
    await works(strict)


@pytest.mark.parametrize("body", [b"", b'{"model": "fast", "mess'])
async def test_client_leaves_in_its_body(body: bytes, strict: Installation, strict_probe: Probe, up: ScriptedUpstream) -> None:
    received = up.received
    async with strict_probe.adds(requests=1, attempts=0, errors=1), RawClient(strict.port) as client:
        await client.send(head(strict, 1000), body)
        await asyncio.to_thread(strict_probe.until, "farthing_requests_in_flight", 2)
    assert up.received == received
    await works(strict)


@pytest.mark.parametrize("streamed", [False, True])
async def test_client_leaves_right_after_its_request(
    streamed: bool,  # noqa: FBT001 - a case
    strict: Installation,
    strict_probe: Probe,
) -> None:
    """However far it got: at most one row each, and nothing stays."""
    before = await asyncio.to_thread(strict_probe.quiet)
    for _ in range(20):
        async with caller(strict) as client:
            await client.post(question(stream=streamed))
    after = await asyncio.to_thread(strict_probe.quiet)
    assert 0 <= after.requests - before.requests <= 20
    assert after.attempts - before.attempts <= 20
    await works(strict)


@pytest.mark.parametrize(
    ("streamed", "reply"), [(False, stall_before_headers()), (False, stall_after_headers()), (True, stall_after_headers())]
)
async def test_client_leaves_while_the_model_thinks(
    streamed: bool,  # noqa: FBT001 - a case
    reply: Reply,
    strict: Installation,
    strict_probe: Probe,
    up: ScriptedUpstream,
) -> None:
    up.script("fast", reply)
    received, disconnects = up.received, up.disconnects
    async with strict_probe.adds(requests=1, attempts=1, errors=1):
        async with caller(strict) as client:
            await client.post(question(stream=streamed))
            await up.wait_for(lambda up: up.received == received + 1)
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)
    up.script("fast")
    await works(strict)


@pytest.mark.parametrize("chunks", [0, 1, 5])
async def test_client_leaves_in_mid_stream(chunks: int, strict: Installation, strict_probe: Probe, up: ScriptedUpstream) -> None:
    """After the head of the answer, and after some of it: what was generated until then is paid for, and estimated."""
    up.script("fast", stream(WORDS, delay=0.01))
    disconnects = up.disconnects
    before = await asyncio.to_thread(strict_probe.quiet)
    async with strict_probe.adds(requests=1, attempts=1, errors=1):
        async with caller(strict) as client:
            await client.post(question(stream=True))
            assert (await client.head())[0] == 200
            for _ in range(chunks):
                assert await client.chunk()
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)
    assert 0 < (await asyncio.to_thread(strict_probe.quiet)).spent - before.spent < 400
    up.script("fast")
    await works(strict)


async def test_client_leaves_while_the_upstream_is_silent_in_mid_stream(
    strict: Installation, strict_probe: Probe, up: ScriptedUpstream
) -> None:
    up.script("fast", stall_mid_body())
    disconnects = up.disconnects
    async with strict_probe.adds(requests=1, attempts=1, errors=1):
        async with caller(strict) as client:
            await client.post(question(stream=True))
            await client.head()
            await client.chunk()
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)
    await asyncio.sleep(0)
    up.script("fast")
    await works(strict)


async def test_requests_in_one_packet_are_answered_in_their_order(strict: Installation, strict_probe: Probe, up: ScriptedUpstream) -> None:
    up.script("fast", completion("first", delay=0.1), completion("second"))
    async with strict_probe.adds(requests=2, attempts=2, errors=0), caller(strict) as client:
        bodies = [json.dumps(question()).encode() for _ in range(2)]
        await client.send(b"".join(head(strict, len(body)) + body for body in bodies))
        for expected in (b"first", b"second"):
            status, _, body = await client.answer()
            assert status == 200
            assert expected in body


async def test_client_leaves_with_requests_still_queued(strict: Installation, strict_probe: Probe, up: ScriptedUpstream) -> None:
    """The answer under way ends at the first write that fails; those behind it are never asked for."""
    up.script("fast", stream(WORDS, delay=0.01))
    received, disconnects = up.received, up.disconnects
    async with strict_probe.adds(requests=1, attempts=1, errors=1):
        async with caller(strict) as client:
            bodies = [json.dumps(question(stream=True)).encode() for _ in range(3)]
            await client.send(b"".join(head(strict, len(body)) + body for body in bodies))
            await up.wait_for(lambda up: up.received == received + 1)
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)
    assert up.received == received + 1
    up.script("fast")
    await works(strict)
