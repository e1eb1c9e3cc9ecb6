"""One base URL of a vendor, spoken to in JSON: what providers over HTTP share, whatever their wire is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from urllib.parse import urlsplit

import msgspec
from pydantic import SecretStr

from farthing.errors import Overloaded, UpstreamError, UpstreamMalformed, UpstreamUnavailable
from farthing.ports import Call, Signer
from farthing.providers import wire
from farthing.providers.http1 import Exchange, Http1Client
from farthing.settings import ProviderSettings
from farthing.types import Json

_encode = msgspec.json.Encoder().encode
_OK = 200
_SERVER_ERROR = 500
_HEALTH_S = 1.0
_LONGEST_ERROR = 2**20
_SHORTEST_SECRET = 8
"""Shorter ones are not looked for in errors: they would be found in ordinary words."""

ErrorOf = Callable[[str, int, Mapping[str, str], bytes], UpstreamError]
"""What an answer whose status is not 200 means: (provider's name, status, headers, body)."""


class Endpoint:
    """Time-outs, limits and credentials of a provider applied to its requests.

    `headers` are sent with each request; `secrets` are those values among them that errors must not repeat. A `signer` adds what it
    finds to each of them; `expired` says of an error that another signature may do, which is tried once.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        settings: ProviderSettings,
        *,
        headers: dict[str, str],
        secrets: Sequence[SecretStr | None],
        error_of: ErrorOf,
        signer: Signer | None = None,
        expired: Callable[[UpstreamError], bool] | None = None,
    ) -> None:
        given = [secret.get_secret_value() for secret in secrets if secret is not None]
        self._name = name
        self._settings = settings
        self._secrets = [secret for secret in given if len(secret) >= _SHORTEST_SECRET]
        self._error_of = error_of
        self._base_url = base_url
        self._signer = signer
        self._expired = expired
        self._http = Http1Client(
            name, base_url, headers=headers, connect_timeout_s=settings.connect_timeout_s, max_connections=settings.max_connections
        )

    @property
    def open_connections(self) -> int:
        """Sockets in use or idle."""
        return self._http.open_connections

    def mask(self, error: UpstreamError) -> None:
        """Take our credentials out of an error."""
        signing = [secret for secret in self._signer.secrets() if len(secret) >= _SHORTEST_SECRET] if self._signer else []
        wire.mask(error, [*self._secrets, *signing])

    async def whole(self, path: str, call: Call, body: Json) -> bytes:
        """The whole answer to a POST."""
        return (await self.answer(path, call, body))[1]

    async def answer(self, path: str, call: Call, body: Json) -> tuple[Mapping[str, str], bytes]:
        """The whole answer to a POST, and its headers."""
        exchange = await self._open(path, call, body)
        try:
            return exchange.headers, await self._body(exchange)
        finally:
            exchange.close()

    async def stream(
        self, path: str, call: Call, body: Json, refuse: Callable[[bytes], object], content_type: str = "text/event-stream"
    ) -> Exchange:
        """The beginning of a stream. `refuse` is shown a body that is none; it may raise what is wrong in words of its own."""
        exchange = await self._open(path, call, body)
        try:
            kind = exchange.headers.get("content-type", "")
            if content_type not in kind.lower():
                refuse(await self._body(exchange))
                raise UpstreamMalformed(f"{self._name} was asked for a stream and answered {kind!r}")
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def events(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        """Data of server-sent events. Raises `UpstreamUnavailable` at the end of the body: the reader must have left at the end mark."""
        buffer = bytearray()
        async with aclosing(self.pieces(exchange)) as pieces:
            async for data in pieces:
                buffer += data
                for event in wire.events(buffer, len(data)):
                    yield event

    async def pieces(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises `UpstreamUnavailable` at its end: the reader must have left at the end mark."""
        settings = self._settings
        size = 0
        timeout = settings.first_token_timeout_s
        while data := await exchange.read(timeout):
            timeout = settings.idle_timeout_s
            size += len(data)
            if size > settings.max_response_bytes:
                raise UpstreamMalformed(f"{self._name} sent more than {settings.max_response_bytes} bytes in one stream")
            yield data
        raise UpstreamUnavailable(f"{self._name} ended the stream without its end mark")

    async def finish(self, exchange: Exchange) -> None:
        """Read the end of the body, if it is there already, so that the connection can be used again."""
        try:
            await exchange.read(0.05)
        except UpstreamError:
            return

    async def says_ok(self, path: str) -> bool:
        """Whether a GET is answered with 200 within a second."""
        return await self._status(path) == _OK

    async def speaks(self, path: str) -> bool:
        """Whether a GET is answered within a second, by whatever but an error of the server's own."""
        return 0 < await self._status(path) < _SERVER_ERROR

    async def _status(self, path: str) -> int:
        """The status of a GET; 0 when there is no answer within a second."""
        try:
            exchange = await self._http.send(b"GET", path, b"", head_timeout_s=_HEALTH_S, total_timeout_s=_HEALTH_S)
        except (UpstreamError, Overloaded):
            return 0
        try:
            await exchange.body(_LONGEST_ERROR, _HEALTH_S)
        except UpstreamError:
            return 0
        finally:
            exchange.close()
        return exchange.status

    async def aclose(self) -> None:
        """Close idle connections now and the others as they finish."""
        await self._http.aclose()

    def _body(self, exchange: Exchange) -> Awaitable[bytes]:
        return exchange.body(self._settings.max_response_bytes, self._settings.idle_timeout_s)

    def _open(self, path: str, call: Call, body: Json) -> Awaitable[Exchange]:
        """Send, and raise what a status other than 200 means."""
        data = _encode(body)
        extra = b"traceparent: %s\r\n" % call.traceparent.encode("ascii") if call.traceparent else b""
        return self._send(path, data, extra) if self._signer is None else self._send_signed(self._signer, path, data, extra)

    async def _send_signed(self, signer: Signer, path: str, data: bytes, extra: bytes) -> Exchange:
        signed = await self._sign(signer, path, data)
        try:
            return await self._send(path, data, extra + _lines(signed))
        except UpstreamError as error:
            if not (self._expired and self._expired(error) and signer.renew(signed)):
                raise
        return await self._send(path, data, extra + _lines(await self._sign(signer, path, data)))

    async def _sign(self, signer: Signer, path: str, data: bytes) -> dict[str, str]:
        headers = {"host": urlsplit(self._base_url).netloc, "content-type": "application/json"}
        return await signer.sign("POST", self._base_url + path, headers, data)

    async def _send(self, path: str, data: bytes, extra: bytes) -> Exchange:
        settings = self._settings
        exchange = await self._http.send(
            b"POST",
            path,
            data,
            extra=extra,
            head_timeout_s=settings.first_token_timeout_s,
            total_timeout_s=settings.total_timeout_s,
        )
        if exchange.status == _OK:
            return exchange
        try:
            said = await exchange.body(min(_LONGEST_ERROR, settings.max_response_bytes), settings.idle_timeout_s)
        except UpstreamError:
            said = b""
        finally:
            exchange.close()
        raise self._error_of(self._name, exchange.status, exchange.headers, said)


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
