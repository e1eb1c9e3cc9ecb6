"""Where context comes from: a real server on this machine, which is no public address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from farthing.errors import NotAllowed, UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnavailable
from farthing.providers.pages import Pages, is_public, public_address
from farthing.settings import HostSettings

_OWN: dict[str, Any] = {"private": True, "timeout_s": 0.3, "max_bytes": 1000}


@asynccontextmanager
async def serving(answer: Callable[[str], bytes | None]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that says what `answer` makes of the head of a request; None: nothing, ever. Yields its host and the heads it got."""
    heads: list[str] = []
    handling: list[asyncio.Task[Any] | None] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.append(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        said = answer(head)
        if said is None:
            await reader.read()
        else:
            writer.write(said)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
        await asyncio.gather(*filter(None, handling), return_exceptions=True)


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def test_a_page_of_our_own_is_fetched_with_its_headers() -> None:
    async with serving(lambda _: ok(b'{"a": 1}')) as (host, heads):
        pages = Pages({host: HostSettings(**_OWN, headers={"Authorization": SecretStr("Bearer x")})})
        assert await pages.get(f"http://{host}/of/ann%2F1?x=%20y") == b'{"a": 1}'
        assert heads[0].startswith("GET /of/ann%2F1?x=%20y HTTP/1.1\r\n")
        assert "authorization: Bearer x\r\n" in heads[0]
        await pages.aclose()


async def test_other_hosts_are_not_asked() -> None:
    async with serving(lambda _: ok(b"x")) as (host, heads):
        pages = Pages({"api.example.com": HostSettings(), host: HostSettings()})
        for url in (f"http://{host}/x", "https://api.example.org/x", "http://api.example.com/x", "ftp://api.example.com/x"):
            with pytest.raises(NotAllowed):
                await pages.get(url)
        assert heads == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
async def test_a_host_that_is_not_private_is_not_asked_at_an_address_that_is(name: str) -> None:
    async with serving(lambda _: ok(b"x")) as (host, heads):
        there = f"{name}:{host.split(':')[1]}"
        with pytest.raises(UpstreamUnavailable, match="not public"):
            await Pages({there: HostSettings()}).get(f"https://{there}/latest/meta-data")
        assert heads == []


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", UpstreamUnavailable),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", UpstreamUnavailable),
        (ok(b"x" * 1001), UpstreamMalformed),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", UpstreamUnavailable),
        (b"SSH-2.0-OpenSSH\r\n\r\n", UpstreamError),
        (None, UpstreamTimeout),
    ],
)
async def test_what_is_no_answer_is_an_error(said: bytes | None, error: type[Exception]) -> None:
    async with serving(lambda _: said) as (host, heads):
        pages = Pages({host: HostSettings(**_OWN)})
        with pytest.raises(error):
            await pages.get(f"http://{host}/x")
        assert len(heads) <= 1
        await pages.aclose()


async def test_a_name_that_nobody_has_is_an_error() -> None:
    with pytest.raises(UpstreamUnavailable):
        await public_address("nobody.invalid", 443)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "nonsense", "",
    ],
)  # fmt: skip
def test_addresses_of_networks_within_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_no_wrapping_makes_an_address_more_public(address: object) -> None:
    assert is_public(f"::ffff:{address}") is is_public(str(address))
