from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from farthing.testing import malformed
from farthing.testing.raw_client import RawClient
from farthing.testing.upstream import Reply, ScriptedUpstream

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
TO_THE_END = (
    malformed.html_page(),
    malformed.empty(),
    malformed.truncated_json(),
    malformed.invalid_utf8_json(),
    malformed.error_in_200(),
    malformed.error_first_event(),
    malformed.error_mid_stream(),
    malformed.garbage_sse(),
    malformed.split_utf8(),
    malformed.unfinished_utf8(),
    malformed.missing_done(),
    malformed.broken_off(),
    malformed.slow_drip(delay=0.001),
    malformed.gigantic_line(1 << 20),
    malformed.gigantic_body(1 << 20),
    malformed.deep_json(),
    malformed.wrong_shape(),
)
CUT_OFF = (
    malformed.short_body(),
    malformed.close_mid_body(),
    malformed.reset_mid_body(),
    malformed.reset_before_headers(),
    malformed.close_before_headers(),
    malformed.not_http(),
)
ENDLESS = (
    malformed.stall_before_headers(),
    malformed.stall_after_headers(),
    malformed.stall_mid_body(),
    malformed.endless_body(),
    malformed.endless_stream(),
)


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


async def answer_to(up: ScriptedUpstream, reply: Reply) -> bytes:
    up.script("m", reply)
    async with RawClient(up.port) as client:
        await client.post(QUESTION)
        return (await client.answer())[2]


@pytest.mark.parametrize("reply", TO_THE_END)
async def test_malformed_answers_are_whole_for_http(up: ScriptedUpstream, reply: Reply) -> None:
    body = await answer_to(up, reply)
    assert body or reply == malformed.empty()
    assert up.disconnects == 0


@pytest.mark.parametrize("reply", CUT_OFF)
async def test_cut_off_answers_end_early_by_the_servers_hand(up: ScriptedUpstream, reply: Reply) -> None:
    up.script("m", reply)
    async with RawClient(up.port) as client:
        await client.post(QUESTION)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError, ValueError)):
            await client.answer()
        await up.wait_for(lambda up: up.open_connections == 0)
    assert up.disconnects == 0


@pytest.mark.parametrize("reply", ENDLESS)
async def test_endless_answers_end_when_the_client_leaves(up: ScriptedUpstream, reply: Reply) -> None:
    up.script("m", reply)
    async with RawClient(up.port) as client:
        await client.post(QUESTION)
        await up.wait_for(lambda up: up.received == 1)
    await up.wait_for(lambda up: up.disconnects == 1 and up.open_connections == 0)


async def test_half_characters(up: ScriptedUpstream) -> None:
    assert "Grüße, 世界 🌍".encode() in await answer_to(up, malformed.split_utf8())
    pieces = [part for part in malformed.split_utf8().parts or () if isinstance(part, bytes)]
    assert any(piece[0] & 0xC0 == 0x80 for piece in pieces)
    for reply in (malformed.unfinished_utf8(), malformed.invalid_utf8_json()):
        with pytest.raises(UnicodeDecodeError):
            (await answer_to(up, reply)).decode()


async def test_gigantic_answers_are_good_json_of_the_size_asked_for(up: ScriptedUpstream) -> None:
    document = msgspec.json.decode(await answer_to(up, malformed.gigantic_body(1 << 20)))
    assert len(document["choices"][0]["message"]["content"]) == 1 << 20
    lines = (await answer_to(up, malformed.gigantic_line(1 << 20))).split(b"\n\n")
    assert len(msgspec.json.decode(lines[1].removeprefix(b"data: "))["choices"][0]["delta"]["content"]) == 1 << 20
