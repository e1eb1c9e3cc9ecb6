"""Any endpoint that speaks OpenAI's HTTP protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from farthing.errors import Overloaded, UpstreamError, UpstreamMalformed, UpstreamUnavailable
from farthing.ports import Call
from farthing.providers import wire
from farthing.providers.http1 import Exchange, Http1Client
from farthing.settings import OpenAICompatibleSettings
from farthing.types import Completion, Json

_encode = msgspec.json.Encoder().encode
_OK = 200
_SHORTEST_SECRET = 8
"""Shorter ones are not looked for in errors: they would be found in ordinary words."""


class OpenAICompatible:
    """A provider behind one base URL. See `ports.Provider`."""

    kind = "openai_compatible"

    def __init__(self, name: str, settings: OpenAICompatibleSettings) -> None:
        headers = {key.lower(): secret.get_secret_value() for key, secret in settings.headers.items()}
        if settings.api_key is not None:
            headers.setdefault("authorization", f"Bearer {settings.api_key.get_secret_value()}")
        self.name = name
        self._settings = settings
        given = [secret.get_secret_value() for secret in (settings.api_key, *settings.headers.values()) if secret is not None]
        self._secrets = [secret for secret in given if len(secret) >= _SHORTEST_SECRET]
        self._http = Http1Client(
            name,
            settings.base_url,
            headers=headers,
            connect_timeout_s=settings.connect_timeout_s,
            max_connections=settings.max_connections,
        )

    @property
    def open_connections(self) -> int:
        """Sockets to the provider, in use or idle."""
        return self._http.open_connections

    async def chat(self, call: Call) -> Completion:
        """See `ports.Provider.chat`."""
        body = {key: value for key, value in call.body.items() if key not in {"stream", "stream_options"}}
        try:
            return Completion(body=wire.completion(self.name, await self._whole("/chat/completions", call, body)))
        except UpstreamError as error:
            wire.mask(error, self._secrets)
            raise

    async def embed(self, call: Call) -> Completion:
        """See `ports.Provider.embed`."""
        try:
            return Completion(body=wire.embeddings(self.name, await self._whole("/embeddings", call, call.body)))
        except UpstreamError as error:
            wire.mask(error, self._secrets)
            raise

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        """See `ports.Provider.stream`."""
        body: Json = {**call.body, "stream": True}
        if self._settings.stream_usage:
            body["stream_options"] = {**(call.body.get("stream_options") or {}), "include_usage": True}
        else:
            body.pop("stream_options", None)
        exchange: Exchange | None = None
        try:
            exchange = await self._open("/chat/completions", call, body)
            if "text/event-stream" not in exchange.headers.get("content-type", "").lower():
                data = await exchange.body(self._settings.max_response_bytes, self._settings.idle_timeout_s)
                wire.completion(self.name, data)  # names an error inside a 200 before the complaint below
                raise UpstreamMalformed(f"{self.name} was asked for a stream and answered {exchange.headers.get('content-type')!r}")
            async with aclosing(self._events(exchange)) as events:
                async for data in events:
                    pair = wire.chunk(self.name, data)
                    if pair != (None, None):
                        yield pair
        except UpstreamError as error:
            wire.mask(error, self._secrets)
            raise
        finally:
            if exchange is not None:
                exchange.close()

    async def _events(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        """Data of the events up to the end mark."""
        settings = self._settings
        buffer = bytearray()
        size = 0
        timeout = settings.first_token_timeout_s
        while data := await exchange.read(timeout):
            timeout = settings.idle_timeout_s
            size += len(data)
            if size > settings.max_response_bytes:
                raise UpstreamMalformed(f"{self.name} sent more than {settings.max_response_bytes} bytes in one stream")
            buffer += data
            for event in wire.events(buffer, len(data)):
                if event.strip() == b"[DONE]":
                    await self._finish(exchange)
                    return
                yield event
        raise UpstreamUnavailable(f"{self.name} ended the stream without its end mark ([DONE])")

    async def _finish(self, exchange: Exchange) -> None:
        """Read the end of the body, if it is there already, so that the connection can be used again."""
        try:
            await exchange.read(0.05)
        except UpstreamError:
            return

    async def _whole(self, path: str, call: Call, body: Json) -> bytes:
        exchange = await self._open(path, call, body)
        try:
            return await exchange.body(self._settings.max_response_bytes, self._settings.idle_timeout_s)
        finally:
            exchange.close()

    async def _open(self, path: str, call: Call, body: Json) -> Exchange:
        """Send, and raise what a status other than 200 means."""
        settings = self._settings
        extra = b"traceparent: %s\r\n" % call.traceparent.encode("ascii") if call.traceparent else b""
        exchange = await self._http.send(
            b"POST",
            path,
            _encode({**body, "model": call.upstream_model}),
            extra=extra,
            head_timeout_s=settings.first_token_timeout_s,
            total_timeout_s=settings.total_timeout_s,
        )
        if exchange.status == _OK:
            return exchange
        try:
            data = await exchange.body(min(2**20, settings.max_response_bytes), settings.idle_timeout_s)
        except UpstreamError:
            data = b""
        finally:
            exchange.close()
        raise wire.error_of(self.name, exchange.status, exchange.headers, data)

    async def healthy(self) -> bool:
        """Whether GET /health, which self-hosted servers have, says 200 within a second."""
        try:
            exchange = await self._http.send(b"GET", "/health", b"", head_timeout_s=1.0, total_timeout_s=1.0)
        except (UpstreamError, Overloaded):
            return False
        try:
            await exchange.body(2**16, 1.0)
        except UpstreamError:
            return False
        finally:
            exchange.close()
        return exchange.status == _OK

    async def aclose(self) -> None:
        """See `ports.Provider.aclose`."""
        await self._http.aclose()
