"""The HTTP client over TLS, as it talks to every vendor: certificates of our own, made for the test."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import pytest

from farthing.errors import UpstreamUnavailable
from farthing.providers.http1 import Http1Client

_CERTIFICATE = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "1",
    "-subj",
    "/CN=localhost",
]


class TlsServer:
    """Answers every request with a chunked body, which for the path /v1/hang never ends."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.connections = 0
        self.gone = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n")
                if b"/hang" not in head:
                    writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*_CERTIFICATE, *names], check=True, capture_output=True)
    return key, cert


@pytest.fixture
async def server(certificate: tuple[Path, Path]) -> AsyncIterator[TlsServer]:
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    async with TlsServer(context) as running:
        yield running


def client(server: TlsServer, trusted: Path | None, host: str = "localhost") -> Http1Client:
    made = Http1Client("up", f"https://{host}:{server.port}/v1", headers={}, connect_timeout_s=5, max_connections=2)
    if trusted is not None:
        made._context = ssl.create_default_context(cafile=str(trusted))
    return made


async def get(one: Http1Client, path: str = "/x") -> bytes:
    exchange = await one.send(b"POST", path, b"{}", head_timeout_s=5, total_timeout_s=5)
    try:
        return await exchange.body(100, 5)
    finally:
        exchange.close()


async def test_an_answer_comes_and_the_connection_is_used_again(server: TlsServer, certificate: tuple[Path, Path]) -> None:
    one = client(server, certificate[1])
    assert [await get(one), await get(one)] == [b"secret"] * 2
    assert (server.connections, one.open_connections) == (1, 1)
    await one.aclose()
    await server.gone.wait()


async def test_cancelling_closes_the_socket(server: TlsServer, certificate: tuple[Path, Path]) -> None:
    one = client(server, certificate[1])
    exchange = await one.send(b"POST", "/hang", b"{}", head_timeout_s=5, total_timeout_s=5)
    assert await exchange.read(5) == b"secret"
    task = asyncio.ensure_future(exchange.read(5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    exchange.close()
    async with asyncio.timeout(5):
        await server.gone.wait()
    assert one.open_connections == 0


async def test_a_certificate_that_nobody_vouches_for_is_refused(server: TlsServer) -> None:
    one = client(server, None)
    with pytest.raises(UpstreamUnavailable, match="certificate verify failed"):
        await get(one)
    assert one.open_connections == 0


async def test_a_certificate_of_another_host_is_refused(server: TlsServer, certificate: tuple[Path, Path]) -> None:
    one = client(server, certificate[1], host="127.0.0.1")
    with pytest.raises(UpstreamUnavailable, match="certificate verify failed"):
        await get(one)
    assert one.open_connections == 0
