"""WebSocket /api/v1/generate/ws: many requests over one connection, hostile frames, slow readers, the end of the process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from conftest import scripted
from inside import eventually, new_key, settled
from probes import Probe
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from farthing.testing.installation import Installation
from farthing.testing.malformed import error_mid_stream, stall_before_headers
from farthing.testing.replies import Repeat, Reply, completion, sse, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream

WORDS = tuple(f"word {at} " for at in range(1000))
PATH = "/api/v1/generate/ws"
_DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def phone(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """Impatient: short time-outs, few requests, small frames."""
    limits = {
        "max_requests": 3,
        "max_connections": 4,
        "max_connections_per_key": 2,
        "idle_s": 0.6,
        "ping_interval_s": 0.3,
        "ping_timeout_s": 0.4,
    }
    settings = scripted(
        upstream,
        server={"max_body_bytes": 2**16},
        ledger={"flush_interval_s": 0.02},
        generate={"model": "fast", "socket": {**limits, "allowed_origins": ["https://app.example.com"]}},
    )
    with Installation(folders / "phone", settings) as running:
        yield running


@pytest.fixture
def phone_probe(phone: Installation, upstream: ScriptedUpstream) -> Probe:
    return Probe(phone, upstream)


@asynccontextmanager
async def talk(farthing: Installation, **more: Any) -> AsyncIterator[ClientConnection]:
    headers = {"authorization": f"Bearer {farthing.key}"}
    async with connect(farthing.url.replace("http", "ws") + PATH, additional_headers=headers, compression=None, **more) as open_socket:
        yield open_socket


async def say(line: ClientConnection, **message: Any) -> None:
    await line.send(json.dumps({"type": "generate", **message}))


async def hear(line: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await asyncio.wait_for(line.recv(), _DEADLINE_S))
    return found


async def hear_out(line: ClientConnection, key: str) -> tuple[str, dict[str, Any]]:
    """All of one request's text, and its last message."""
    text = ""
    while True:
        found = await hear(line)
        assert found["id"] == key, found
        if found["type"] != "delta":
            return text, found
        text += found["text"]


async def end_of(line: ClientConnection) -> tuple[int | None, str | None]:
    """How the server closed, whatever it said before."""
    try:
        while True:
            await asyncio.wait_for(line.recv(), _DEADLINE_S)
    except ConnectionClosed:
        return line.close_code, line.close_reason


async def test_a_request_is_streamed_and_accounted_for(phone: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", stream(("Hel", "lo"), counts=usage_object(1000, 500)))
    async with talk(phone) as line:
        question = f"hi {uuid4()}"
        for source, cost in (("model", 0.002), ("exact", 0)):
            await say(line, id="a", prompt=question, task_type="greet")
            text, done = await hear_out(line, "a")
            assert text == "Hello"
            assert (done["type"], done["source"], done["cost_usd"], done["model"]) == ("done", source, cost, "fast")
            rows = await asyncio.to_thread(settled, phone, [done["request_id"]])
            assert [(row["task_type"], row["source"], row["status"]) for row in rows[done["request_id"]]] == [("greet", source, 200)]


async def test_requests_run_side_by_side_and_one_may_come_whole(phone: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("slow", delay=0.3), stream(("quick",)))
    async with talk(phone) as line:
        await say(line, id="slow", prompt=f"a {uuid4()}", stream=False)
        await asyncio.sleep(0.05)
        await say(line, id="quick", prompt=f"b {uuid4()}")
        heard = [await hear(line) for _ in range(3)]
    assert [(one["type"], one["id"]) for one in heard] == [("delta", "quick"), ("done", "quick"), ("done", "slow")]
    assert heard[2]["text"] == "slow"


async def test_a_browser_gives_its_key_as_a_subprotocol(phone: Installation) -> None:
    url = phone.url.replace("http", "ws") + PATH
    offered = [Subprotocol("farthing"), Subprotocol(f"bearer.{phone.key}")]
    async with connect(url, subprotocols=offered, origin=phone.url, compression=None) as line:  # type: ignore[arg-type]  # an origin is a str
        assert line.subprotocol == "farthing", "the key does not come back"
        await say(line, id="a", prompt="hi")
        assert (await hear_out(line, "a"))[0] == "hi"


@pytest.mark.parametrize(
    ("headers", "query", "status", "code"),
    [
        ({}, "", 401, "invalid_api_key"),
        ({"authorization": "Bearer fk-nobody"}, "", 401, "invalid_api_key"),
        ({"sec-websocket-protocol": "bearer.fk-nobody"}, "", 401, "invalid_api_key"),
        ({"authorization": "Bearer KEY", "origin": "https://evil.example"}, "", 403, "not_allowed"),
        ({"authorization": "Bearer KEY", "origin": "null"}, "", 403, "not_allowed"),
        ({}, "?key=KEY", 400, "key_in_url"),
    ],
)
async def test_who_may_not_pass_is_told_before_the_handshake(
    phone: Installation, headers: dict[str, str], query: str, status: int, code: str
) -> None:
    url = phone.url.replace("http", "ws") + PATH + query.replace("KEY", phone.key)
    given = {name: value.replace("KEY", phone.key) for name, value in headers.items()}
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, additional_headers=given):
            pass
    answer = caught.value.response
    assert answer.status_code == status
    assert json.loads(answer.body or b"")["error"]["code"] == code
    assert answer.headers["x-farthing-request-id"]
    assert phone.key not in phone.log.read_text(encoding="utf-8").partition("Try:\n")[2]


@pytest.mark.parametrize("origin", ["https://app.example.com", "HTTPS://APP.example.com", "OWN"])
async def test_pages_that_may_connect(phone: Installation, origin: str) -> None:
    async with talk(phone, origin=origin.replace("OWN", phone.url)):
        pass


async def test_connections_are_bounded(phone: Installation) -> None:
    made = await asyncio.to_thread(new_key, phone, "other")
    url, headers = phone.url.replace("http", "ws") + PATH, {"x-api-key": made["key"]}
    async with talk(phone), talk(phone), connect(url, additional_headers=headers), connect(url, additional_headers=headers):
        with pytest.raises(InvalidStatus) as caught:
            async with talk(phone):
                pass
        assert caught.value.response.status_code == 503
        assert b"generate.socket.max_connections)" in (caught.value.response.body or b"")


async def test_no_key_takes_all_connections(phone: Installation) -> None:
    made = await asyncio.to_thread(new_key, phone, "greedy")
    url, headers = phone.url.replace("http", "ws") + PATH, {"x-api-key": made["key"]}
    async with connect(url, additional_headers=headers), connect(url, additional_headers=headers):
        with pytest.raises(InvalidStatus, match="503"):
            async with connect(url, additional_headers=headers):
                pass
        async with talk(phone):
            pass
    async with connect(url, additional_headers=headers):
        pass


def test_a_connection_with_an_answer_under_way_does_not_become_a_socket(
    phone: Installation, up: ScriptedUpstream, phone_probe: Probe
) -> None:
    """Its end would not reach that answer any more, and the model would go on for nobody."""
    up.script("fast", stream(WORDS, delay=0.01))
    disconnects = up.disconnects
    body = json.dumps({"model": "fast", "stream": True, "messages": [{"role": "user", "content": f"a {uuid4()}"}]})
    head = f"Host: x\r\nAuthorization: Bearer {phone.key}\r\n"
    wish = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    with (
        phone_probe.adds(requests=1, attempts=1, errors=1),
        socket.create_connection(("127.0.0.1", phone.port), timeout=_DEADLINE_S) as line,
    ):
        line.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = b""
        while b"word 0" not in answer:
            answer += line.recv(4096)
        line.sendall(f"GET {PATH} HTTP/1.1\r\n{head}{wish}\r\n".encode())
        while piece := line.recv(4096):
            answer += piece
        assert b"101 Switching" not in answer
        up.wait_until(lambda up: up.disconnects == disconnects + 1)


def test_without_an_upgrade_it_says_what_it_is(phone: Installation) -> None:
    headers = {"authorization": f"Bearer {phone.key}"}
    refused = httpx.get(phone.url + PATH, headers=headers)
    assert (refused.status_code, "WebSocket" in refused.text) == (400, True)
    wish = {
        **headers,
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "sec-websocket-version": "13",
    }
    assert httpx.get(f"{phone.url}/v1/models", headers=wish).json()["object"] == "list", "elsewhere the wish is overlooked"


@pytest.mark.parametrize(
    ("message", "key", "param"),
    [
        ("{nope", None, None),
        ("[]", None, None),
        ("", None, None),
        ('{"type": "generate"}', None, "id"),
        ('{"type": "generate", "id": 5}', None, "id"),
        (json.dumps({"type": "generate", "id": "x" * 129}), None, "id"),
        ('{"type": "generate", "id": "a\\u0000"}', None, "id"),
        ('{"id": "a"}', "a", "type"),
        ('{"type": "sing", "id": "a"}', "a", "type"),
        ('{"type": "generate", "id": "a"}', "a", "prompt"),
        ('{"type": "generate", "id": "a", "prompt": "x", "model": "fast"}', "a", "model"),
        ('{"type": "generate", "id": "a", "prompt": "x", "farthing": {"cash": 1}}', "a", "farthing.cash"),
        (b'{"type": "generate", "id": "a", "prompt": "x"}', None, None),
        ("[" * 60_000, None, None),
    ],
)
async def test_what_cannot_be_understood_gets_an_error_and_the_line_stays(
    phone: Installation, message: str | bytes, key: str | None, param: str | None
) -> None:
    async with talk(phone) as line:
        await line.send(message)
        found = await hear(line)
        assert (found["type"], found["id"], found["error"]["param"]) == ("error", key, param)
        await say(line, id="after", prompt="still there")
        assert (await hear_out(line, "after"))[0] == "still there"


async def test_a_frame_that_is_too_large_closes_the_line(phone: Installation) -> None:
    async with talk(phone) as line:
        await say(line, id="a", prompt="x" * 2**17)
        assert (await end_of(line))[0] == 1009


async def test_pieces_of_a_message_are_joined_and_bounded(phone: Installation) -> None:
    whole = json.dumps({"type": "generate", "id": "a", "prompt": "in pieces"})
    async with talk(phone) as line:
        await line.send([*whole, *[""] * 2000])
        assert (await hear_out(line, "a"))[0] == "in pieces"
        with suppress(ConnectionClosed):  # it may come before the last piece is sent
            await line.send(["x" * 1000] * 70)
        assert (await end_of(line))[0] == 1009


def frame(opcode: int, payload: bytes = b"", *, mask: bool = True, first: int = 0x80) -> bytes:
    """A client's frame, as broken as wanted (RFC 6455, section 5.2). The mask is zeros."""
    size = len(payload)
    length = bytes([size | 0x80 * mask]) if size < 126 else struct.pack("!BH", 126 | 0x80 * mask, size)
    return bytes([first | opcode]) + length + (b"\0" * 4 if mask else b"") + payload


def raw_line(farthing: Installation) -> socket.socket:
    """A WebSocket without a WebSocket library."""
    line = socket.create_connection(("127.0.0.1", farthing.port), timeout=_DEADLINE_S)
    head = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {farthing.key}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    line.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += line.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    return line


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"{}", mask=False), 1002),
        (frame(3, b"x"), 1002),
        (frame(1, b"{}", first=0xC0), 1002),
        (frame(9, b"x" * 126), 1002),
        (frame(0, b"x"), 1002),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(8, b"\x03"), 1002),
    ],
    ids=["unmasked", "unknown_opcode", "reserved_bits", "long_ping", "stray_continuation", "not_utf8", "short_close"],
)
def test_broken_frames_close_the_line(phone: Installation, phone_probe: Probe, data: bytes, code: int) -> None:
    with raw_line(phone) as line:
        line.sendall(data)
        answer = b""
        while piece := line.recv(4096):
            answer += piece
    assert struct.unpack("!H", answer[2:4])[0] == code
    phone_probe.quiet()
    assert '"level":"error"' not in phone.log.read_text(encoding="utf-8")


async def test_more_requests_than_allowed_are_refused_each_and_recorded(
    phone: Installation, up: ScriptedUpstream, phone_probe: Probe
) -> None:
    up.script("fast", stream(WORDS, delay=0.01))
    async with phone_probe.adds(requests=5, errors=5, idle=3), talk(phone) as line:
        for at in range(4):
            await say(line, id=str(at), prompt=f"{at} {uuid4()}")
        await say(line, id="0", prompt="the same id")
        refused: list[dict[str, Any]] = []
        while len(refused) < 2:
            found = await hear(line)
            refused += [found] if found["type"] == "error" else []
        assert [one["id"] for one in refused] == ["3", "0"]
        assert "max_requests" in refused[0]["error"]["message"]
        assert "in use" in refused[1]["error"]["message"]


async def test_cancelling_one_ends_its_upstreams_work_and_no_other(phone: Installation, up: ScriptedUpstream, phone_probe: Probe) -> None:
    up.script("fast", stream(WORDS, delay=0.01), stream(("quick",), delay=0.2), stall_before_headers())
    disconnects = up.disconnects
    async with phone_probe.adds(requests=3, attempts=3, errors=2, idle=2), talk(phone) as line:
        await say(line, id="long", prompt=f"a {uuid4()}")
        assert (await hear(line))["type"] == "delta"
        await say(line, id="other", prompt=f"b {uuid4()}")
        await line.send('{"type": "cancel", "id": "long"}')
        await line.send('{"type": "cancel", "id": "nobody"}')
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["type"] != "done":
            heard.append(await hear(line))
        cancelled = [one["error"]["code"] for one in heard if one["id"] == "long" and one["type"] != "delta"]
        assert cancelled == ["cancelled"]
        assert heard[-1]["id"] == "other"
        await up.wait_for(lambda up: up.disconnects == disconnects + 1)
        await line.send(json.dumps({"type": "generate", "id": "long", "prompt": f"c {uuid4()}"}))
        await line.send('{"type": "cancel", "id": "long"}')
        assert (await hear_out(line, "long"))[1]["error"]["code"] == "cancelled", "even when it has only just begun"


async def test_a_line_that_drops_ends_the_upstreams_work(phone: Installation, up: ScriptedUpstream, phone_probe: Probe) -> None:
    up.script("fast", stream(WORDS, delay=0.01))
    disconnects = up.disconnects
    async with phone_probe.adds(requests=2, attempts=2, errors=2, idle=1):
        async with talk(phone) as line:
            await say(line, id="a", prompt=f"a {uuid4()}")
            await say(line, id="b", prompt=f"b {uuid4()}")
            await hear(line)
            line.transport.abort()
        await up.wait_for(lambda up: up.disconnects == disconnects + 2)


async def test_whoever_waits_for_the_same_answer_gets_it_although_the_first_one_left(phone: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", stream(tuple("abcdefgh"), delay=0.05))
    question, received = f"a {uuid4()}", up.received
    async with talk(phone) as follower:
        async with talk(phone) as leader:
            await say(leader, id="a", prompt=question)
            assert (await hear(leader))["type"] == "delta"
            await say(follower, id="b", prompt=question)
            await asyncio.sleep(0.05)
        text, done = await hear_out(follower, "b")
    assert (text, done["source"], up.received) == ("abcdefgh", "exact", received + 1)


async def test_a_stream_that_breaks_ends_in_an_error_of_its_request(phone: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", error_mid_stream(message="on fire"))
    async with talk(phone) as line:
        await say(line, id="a", prompt=f"a {uuid4()}")
        text, last = await hear_out(line, "a")
    assert (text, last["type"], last["error"]["message"]) == ("Hello", "error", "on fire")


async def test_a_key_that_is_revoked_meanwhile_opens_nothing_more(phone: Installation) -> None:
    made = new_key(phone, "short-lived")
    async with connect(phone.url.replace("http", "ws") + PATH, additional_headers={"x-api-key": made["key"]}) as line:
        await say(line, id="a", prompt="hi")
        assert (await hear_out(line, "a"))[1]["type"] == "done"
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {phone.key}"}) as admin:
            (await admin.delete(f"{phone.url}/admin/v1/keys/{made['id']}")).raise_for_status()
        await say(line, id="b", prompt="hi")
        assert (await hear_out(line, "b"))[1]["error"]["code"] == "invalid_api_key"


async def test_an_idle_line_is_closed_and_one_with_a_request_is_not(phone: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("at last", delay=1.0))
    async with talk(phone) as line:
        await say(line, id="a", prompt=f"a {uuid4()}", stream=False)
        assert (await hear_out(line, "a"))[1]["text"] == "at last"
        assert await end_of(line) == (1000, "idle")


def _flood(received: object) -> Reply:
    """An answer without an end."""
    del received
    chunk = {"id": "c", "model": "m", "created": 1, "choices": [{"index": 0, "delta": {"content": "x" * 8000}}]}
    return Reply(parts=(sse(chunk), Repeat(data=sse(chunk))))


def test_a_client_that_does_not_read_is_cut_off_and_holds_nothing(phone: Installation, up: ScriptedUpstream, phone_probe: Probe) -> None:
    """It does not answer pings either. What the upstream sends waits there, not here."""
    up.script("fast", _flood)
    disconnects = up.disconnects
    with phone_probe.adds(requests=1, errors=1, idle=1), raw_line(phone) as line:
        line.sendall(frame(1, json.dumps({"type": "generate", "id": "a", "prompt": f"a {uuid4()}"}).encode()))
        up.wait_until(lambda up: up.disconnects == disconnects + 1)


async def test_the_end_of_the_process_lets_what_is_under_way_finish(folders: Path, up: ScriptedUpstream) -> None:
    up.script("fast", stream(WORDS[:60], delay=0.02))
    with Installation(folders / "leaving", scripted(up, generate={"model": "fast"})) as leaving:
        async with talk(leaving) as busy, talk(leaving) as idle:
            await say(busy, id="a", prompt=f"a {uuid4()}")
            assert (await hear(busy))["type"] == "delta"
            os.kill(leaving.pid, signal.SIGTERM)
            assert (await end_of(idle))[0] == 1001
            await say(busy, id="late", prompt="hi")
            heard: list[dict[str, Any]] = []
            while not any(one["type"] == "done" for one in heard):
                heard.append(await hear(busy))
            refused = [one["error"]["code"] for one in heard if one["id"] == "late"]
            assert refused == ["unavailable"]
            assert heard[-1]["id"] == "a"
            assert await end_of(busy) == (1001, "Farthing is about to stop: connect again")
        eventually(lambda: not leaving.worker_pids(), "the end")
