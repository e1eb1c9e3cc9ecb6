"""The HTTP client against exact bytes on real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from farthing.errors import Overloaded, SettingsError, UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnavailable
from farthing.providers.http1 import Connection, Exchange, Http1Client
from farthing.testing.upstream import CLOSE, RESET, STALL, Part, Reply, ScriptedUpstream, completion

PATH = "/chat/completions"
Make = Callable[..., Http1Client]


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def make(up: ScriptedUpstream) -> AsyncIterator[Make]:
    """Makes clients of the upstream, and sees at the end that none of them leaks."""
    made: list[Http1Client] = []

    def client(**more: Any) -> Http1Client:
        options: dict[str, Any] = {"headers": {}, "connect_timeout_s": 5.0, "max_connections": 4, **more}
        made.append(Http1Client("up", options.pop("base_url", up.base_url), **options))
        return made[-1]

    yield client
    for one in made:
        assert not one._waiting
        await one.aclose()
        assert one.open_connections == 0
    await up.wait_for(lambda up: up.open_connections == 0)


def raw(*parts: Part) -> Reply:
    return Reply(raw=True, parts=parts)


async def send(client: Http1Client, model: str = "m", *, body: bytes | None = None, head_s: float = 5.0, total_s: float = 5.0) -> Exchange:
    data = body if body is not None else b'{"model":"%s"}' % model.encode()
    return await client.send(b"POST", PATH, data, head_timeout_s=head_s, total_timeout_s=total_s)


async def answer(client: Http1Client, model: str = "m", *, limit: int = 2**30, **more: Any) -> tuple[int, bytes]:
    """Status and body of one exchange, closed as the callers of the client do it."""
    exchange = await send(client, model, **more)
    try:
        return exchange.status, await exchange.body(limit, 5.0)
    finally:
        exchange.close()


async def test_requests_one_after_the_other_share_a_connection(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(body=b"whole"), Reply(parts=(b"in ", b"chunks")), Reply(body=b""))
    client = make()
    assert [await answer(client) for _ in range(4)] == [(200, b"whole"), (200, b"in chunks"), (200, b""), (200, b"")]
    assert (up.connections, up.received, client.open_connections) == (1, 4, 1)


async def test_the_request_is_as_asked(up: ScriptedUpstream, make: Make) -> None:
    client = make(headers={"authorization": "Bearer sk-1", "x-organisation": "grün"})
    exchange = await client.send(b"POST", "/x", b'{"a":1}', extra=b"traceparent: 00-1\r\n", head_timeout_s=5, total_timeout_s=5)
    await exchange.body(2**20, 5)
    (got,) = up.requests
    assert (got.method, got.path, got.body) == ("POST", "/v1/x", {"a": 1})
    expected = {
        "host": f"127.0.0.1:{up.port}",
        "authorization": "Bearer sk-1",
        "x-organisation": "grün",
        "traceparent": "00-1",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": "7",
    }
    assert expected.items() <= got.headers.items()


@pytest.mark.parametrize(
    "headers", [{"x-a": "b\r\nx-evil: 1"}, {"x-a\r\nx-evil": "b"}, {"x-a": "b\0"}, {"é": "b"}, {"x-a": "日本"}, {"x-a": "b\n"}]
)
def test_a_header_that_http_does_not_allow_is_refused_at_the_start(headers: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"providers\.up"):
        Http1Client("up", "http://127.0.0.1:1/v1", headers=headers, connect_timeout_s=1, max_connections=1)


async def test_large_bodies_pass_both_ways(up: ScriptedUpstream, make: Make) -> None:
    document = b'{"model":"m","x":"' + b"q" * 16_000_000 + b'"}'
    back = b"z" * 24_000_000
    up.script("m", Reply(body=back))
    client = make()
    assert await answer(client, body=document) == (200, back)
    assert len(up.requests[0].body["x"]) == 16_000_000
    assert await answer(client) == (200, back), "and the connection goes on"
    assert up.connections == 1


async def test_a_reader_that_does_not_read_holds_the_sender_back(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(body=b"z" * 32_000_000))
    exchange = await send(make())
    connection = exchange._connection
    assert connection is not None
    await up.wait_for(lambda _: connection._paused)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert connection.buffered < 4_000_000
    assert len(await exchange.body(2**30, 5.0)) == 32_000_000


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_interim_answers_are_skipped(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(INTERIM, 0.01, GOOD), raw(INTERIM + GOOD))
    client = make()
    exchange = await send(client)
    assert (exchange.status, exchange.headers) == (200, {"content-length": "2"})
    assert await exchange.body(10, 5) == b"ok"
    assert await answer(client) == (200, b"ok")
    assert up.connections == 1


async def test_a_body_that_lasts_until_the_connection_closes_is_whole(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(b"HTTP/1.1 200 OK\r\n\r\n", b"until ", 0.01, b"the end", CLOSE), raw(GOOD))
    client = make()
    assert await answer(client) == (200, b"until the end")
    assert client.open_connections == 0
    assert await answer(client) == (200, b"ok")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"]
)
async def test_a_server_that_does_not_want_to_go_on_is_not_asked_again(up: ScriptedUpstream, make: Make, head: bytes) -> None:
    up.script("m", raw(head))
    client = make()
    assert await answer(client) == (200, b"ok")
    assert client.open_connections == 0
    assert await answer(client) == (200, b"ok")
    assert up.connections == 2


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_end_at_the_head(up: ScriptedUpstream, make: Make, status: int) -> None:
    up.script("m", raw(b"HTTP/1.1 %d X\r\n\r\n" % status))
    client = make()
    assert [await answer(client), await answer(client)] == [(status, b"")] * 2
    assert up.connections == 1


BROKEN: dict[str, tuple[Reply, type[UpstreamError]]] = {
    "closed before the head": (raw(CLOSE), UpstreamUnavailable),
    "reset before the head": (raw(RESET), UpstreamUnavailable),
    "closed in the head": (raw(b"HTTP/1.1 200 OK\r\ncont", CLOSE), UpstreamUnavailable),
    "another protocol": (raw(b"SSH-2.0-OpenSSH\r\n\r\n"), UpstreamMalformed),
    "TLS": (raw(b"\x15\x03\x01\x00\x02\x02\x50"), UpstreamMalformed),
    "HTTP/2": (raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"), UpstreamMalformed),
    "an upgrade": (raw(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxx"), UpstreamMalformed),
    "too short": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", CLOSE), UpstreamUnavailable),
    "reset in the body": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", 0.01, RESET), UpstreamUnavailable),
    "reset in an open-ended body": (raw(b"HTTP/1.1 200 OK\r\n\r\nok", 0.01, RESET), UpstreamUnavailable),
    "unfinished chunks": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n", CLOSE), UpstreamUnavailable),
    "wrong chunk size": (raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n"), UpstreamMalformed),
    "two lengths": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"), UpstreamMalformed),
    "length and chunks": (
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        UpstreamMalformed,
    ),
    "a huge head": (raw(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 20_000), UpstreamMalformed),
    "endless interim answers": (raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, STALL), UpstreamMalformed),
    "compressed": (raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9\r\n\r\n\x1f\x8b"), UpstreamMalformed),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_answer_is_an_upstream_error_and_its_connection_is_not_used_again(
    up: ScriptedUpstream, make: Make, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply, kind = BROKEN[what]
    up.script("m", reply, raw(GOOD))
    client = make()
    with pytest.raises(kind, match=r"^up "):
        await answer(client)
    assert client.open_connections == 0
    assert await answer(client) == (200, b"ok")
    assert up.connections == 2
    assert caplog.text == "", "nothing for the event loop to complain of"


async def test_an_answer_too_many_is_never_given_to_the_next_request(up: ScriptedUpstream, make: Make) -> None:
    stray = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray"
    up.script("m", raw(GOOD + stray), raw(GOOD, 0.02, stray), raw(GOOD))
    client = make()
    assert await answer(client) == (200, b"ok")
    assert client.open_connections == 0
    assert await answer(client) == (200, b"ok")
    (idle,) = client._idle
    await up.wait_for(lambda _: not idle.alive)
    assert await answer(client) == (200, b"ok")
    assert up.connections == 3


async def test_trailers_do_not_become_headers(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nretry-after: 9\r\n\r\n"))
    client = make()
    exchange = await send(client)
    assert await exchange.body(10, 5) == b"ok"
    assert exchange.headers == {"transfer-encoding": "chunked"}
    assert client.open_connections == 1


async def test_more_than_the_limit_is_refused_before_it_is_held(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(body=b"z" * 30_000_000), raw(GOOD))
    client = make()
    with pytest.raises(UpstreamMalformed, match="more than 1000 bytes"):
        await answer(client, limit=1000)
    assert client.open_connections == 0
    assert await answer(client) == (200, b"ok")


async def test_a_pooled_connection_that_the_server_closed_is_not_used(up: ScriptedUpstream, make: Make) -> None:
    client = make()
    await answer(client)
    async with up.down():
        (idle,) = client._idle
        await up.wait_for(lambda _: not idle.alive)
    assert (await answer(client))[0] == 200
    assert client.open_connections == 1


async def test_a_connection_idle_for_too_long_is_not_used(up: ScriptedUpstream, make: Make) -> None:
    client = make(max_idle_s=0.0)
    await answer(client)
    await answer(client)
    assert (up.connections, client.open_connections) == (2, 1)


async def test_nobody_listening_is_unavailable(up: ScriptedUpstream, make: Make) -> None:
    client = make()
    async with up.down():
        with pytest.raises(UpstreamUnavailable, match="cannot be reached") as caught:
            await answer(client)
    assert caught.value.upstream_status is None
    assert client.open_connections == 0


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/v1", "http://a..b/v1", "http://" + "x" * 70 + ".example/v1"])
async def test_a_host_that_does_not_exist_is_unavailable(make: Make, url: str) -> None:
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await answer(make(base_url=url))


async def test_tls_to_a_server_without_it_is_unavailable(make: Make) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        client = make(base_url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
            await answer(client)
        assert client.open_connections == 0


# Deadlines


async def timed_out(awaitable: Awaitable[Any], match: str) -> None:
    with pytest.raises(UpstreamTimeout, match=match):
        await awaitable


async def test_silence_before_the_head_times_out(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(STALL), raw(GOOD))
    client = make()
    await timed_out(answer(client, head_s=0.05), "gave no answer within 0.05 s")
    await up.wait_for(lambda up: up.disconnects == 1)
    assert await answer(client) == (200, b"ok")


async def test_silence_in_the_body_times_out(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(b"a", STALL)))
    exchange = await send(make())
    assert await exchange.read(5) == b"a"
    await timed_out(exchange.read(0.05), "gave no further data within 0.05 s")
    exchange.close()
    await up.wait_for(lambda up: up.disconnects == 1)


async def test_a_trickle_does_not_outlive_the_total(up: ScriptedUpstream, make: Make) -> None:
    drip: tuple[Part, ...] = (b"a", 0.02) * 500
    up.script("m", Reply(parts=drip))
    await timed_out(answer(make(), total_s=0.15), "gave no complete answer within")
    await up.wait_for(lambda up: up.disconnects == 1)


async def test_the_total_counts_before_the_head_too(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(STALL))
    await timed_out(answer(make(), head_s=5, total_s=0.05), "gave no complete answer within")


async def test_a_connection_that_is_never_accepted_times_out(make: Make) -> None:
    # A listener whose backlog is full drops further attempts, as a dead host does.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)  # noqa: FBT003 - the standard library's own
            filler.connect_ex(("127.0.0.1", port))
        client = make(base_url=f"http://127.0.0.1:{port}/v1", connect_timeout_s=0.1)
        await timed_out(answer(client), "did not accept a connection within 0.1 s")
        assert client.open_connections == 0
        for filler in fillers:
            filler.close()


# Cancellation


async def test_cancelling_before_the_head_closes_the_socket(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(STALL))
    client = make()
    task = asyncio.ensure_future(answer(client))
    await up.wait_for(lambda up: up.received == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.wait_for(lambda up: up.disconnects == 1)
    assert client.open_connections == 0


async def test_cancelling_in_the_body_closes_the_socket(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(b"a", STALL)))
    client = make()
    task = asyncio.ensure_future(answer(client))
    await up.wait_for(lambda up: up.received == 1)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await up.wait_for(lambda up: up.disconnects == 1)
    assert client.open_connections == 0


async def test_closing_an_answer_half_read_closes_the_socket(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(b"a", STALL)))
    client = make()
    exchange = await send(client)
    assert await exchange.read(5) == b"a"
    exchange.close()
    exchange.close()
    assert await exchange.read(5) == b""
    await up.wait_for(lambda up: up.disconnects == 1)
    assert client.open_connections == 0


async def test_cancelling_at_any_moment_leaks_nothing(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(b"a", 0.001, b"b")))
    client = make(max_connections=3)
    for turns in range(40):
        tasks = [asyncio.ensure_future(answer(client)) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns > 20:
            await asyncio.sleep(0.001 * (turns - 20) / 4)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not client._waiting
        assert client.open_connections == len(client._idle) <= 3
    assert await answer(client) == (200, b"ab")


# The bound on connections


async def test_more_requests_than_connections_wait_their_turn(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(b"o", 0.005, b"k")))
    client = make(max_connections=3)
    found = await asyncio.gather(*(answer(client) for _ in range(40)))
    assert found == [(200, b"ok")] * 40
    assert up.connections <= 3
    assert client.open_connections <= 3


async def test_those_who_wait_too_long_are_told_that_it_is_overloaded(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(STALL,)))
    client = make(max_connections=1, connect_timeout_s=0.05)
    exchange = await send(client)
    with pytest.raises(Overloaded, match="all 1 connections to up are busy") as caught:
        await send(client)
    assert caught.value.retry_after_s == 1.0
    assert not client._waiting
    exchange.close()
    up.script("m", raw(GOOD))
    assert await answer(client) == (200, b"ok")


async def test_a_failed_exchange_makes_room_for_who_waits(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(0.02, RESET), raw(GOOD))
    client = make(max_connections=1)
    found = await asyncio.gather(answer(client), answer(client), return_exceptions=True)
    assert [type(one) for one in found] == [UpstreamUnavailable, tuple]


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_passes_it_on(up: ScriptedUpstream, make: Make) -> None:
    up.script("hold", Reply(parts=(STALL,)))
    up.script("m", raw(GOOD))
    client = make(max_connections=1)
    exchange = await send(client, "hold")
    first, second = asyncio.ensure_future(answer(client)), asyncio.ensure_future(answer(client))
    await up.wait_for(lambda _: len(client._waiting) == 2)
    exchange.close()  # wakes the first …
    first.cancel()  # … which is gone before it runs
    async with asyncio.timeout(2):
        assert await second == (200, b"ok")
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_connection_that_cannot_be_made_passes_the_turn_on(up: ScriptedUpstream, make: Make) -> None:
    client = make(max_connections=1)
    async with up.down():
        found = await asyncio.gather(*(answer(client) for _ in range(5)), return_exceptions=True)
    assert {type(one) for one in found} == {UpstreamUnavailable}
    assert client.open_connections == 0


async def test_after_closing_finished_exchanges_give_their_sockets_up(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", Reply(parts=(b"a", 0.02, b"b")))
    client = make()
    exchange = await send(client)
    await client.aclose()
    assert await exchange.body(10, 5) == b"ab"
    assert client.open_connections == 0
    await up.wait_for(lambda up: up.open_connections == 0)


async def test_nothing_is_left_for_the_garbage_collector_to_complain_of(up: ScriptedUpstream, make: Make) -> None:
    up.script("m", raw(RESET), Reply(parts=(STALL,)))
    client = make()
    with pytest.raises(UpstreamUnavailable):
        await answer(client)
    await timed_out(answer(client, total_s=0.03), "complete answer")
    gc.collect()


async def test_an_exchange_that_broke_leaves_nothing_for_the_garbage_collector(make: Make, up: ScriptedUpstream) -> None:
    up.script("slow", completion("too late", delay=2))
    client = make()
    await answer(client, "m")
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(UpstreamTimeout):
            await answer(client, "slow", head_s=0.05)
        await asyncio.sleep(0.05)  # the socket's end is told a turn later
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [found for found in gc.garbage if isinstance(found, Connection | Exchange | UpstreamTimeout)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
