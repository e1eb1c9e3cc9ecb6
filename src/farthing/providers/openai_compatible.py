"""Any endpoint that speaks OpenAI's HTTP protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from urllib.parse import urlsplit

from farthing.errors import UpstreamError
from farthing.ports import Call
from farthing.providers import wire
from farthing.providers.endpoint import Endpoint
from farthing.providers.http1 import Exchange
from farthing.providers.translated import adapted
from farthing.settings import OpenAICompatibleSettings
from farthing.types import Completion, Json

_STRICT_HOSTS = ("api.openai.com", ".openai.azure.com", ".cognitiveservices.azure.com")
"""Hosts (or ends of them) known to refuse a request with Anthropic's fields instead of overlooking them."""


class OpenAICompatible:
    """A provider behind one base URL. See `ports.Provider`.

    What we do not know passes through. Fields that only Anthropic's models have (`wire.without_anthropic_fields`) are taken out for
    servers that would refuse them.
    """

    kind = "openai_compatible"

    def __init__(self, name: str, settings: OpenAICompatibleSettings) -> None:
        headers = {key.lower(): secret.get_secret_value() for key, secret in settings.headers.items()}
        if settings.api_key is not None:
            headers.setdefault("authorization", f"Bearer {settings.api_key.get_secret_value()}")
        self.name = name
        self._stream_usage = settings.stream_usage
        passes = settings.anthropic_fields
        self._openai = (urlsplit(settings.base_url).hostname or "").endswith(_STRICT_HOSTS)
        self._strip = self._openai if passes is None else not passes
        secrets = (settings.api_key, *settings.headers.values())
        self._endpoint = Endpoint(name, settings.base_url, settings, headers=headers, secrets=secrets, error_of=wire.error_of)

    @property
    def open_connections(self) -> int:
        """Sockets to the provider, in use or idle."""
        return self._endpoint.open_connections

    async def chat(self, call: Call) -> Completion:
        """See `ports.Provider.chat`."""
        body = {key: value for key, value in self._body(call).items() if key not in {"stream", "stream_options"}}
        try:
            return Completion(body=wire.completion(self.name, await self._endpoint.whole("/chat/completions", call, body)))
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise

    async def embed(self, call: Call) -> Completion:
        """See `ports.Provider.embed`."""
        try:
            return Completion(body=wire.embeddings(self.name, await self._endpoint.whole("/embeddings", call, self._body(call))))
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        """See `ports.Provider.stream`."""
        body: Json = {**self._body(call), "stream": True}
        if self._stream_usage:
            body["stream_options"] = {**(call.body.get("stream_options") or {}), "include_usage": True}
        else:
            body.pop("stream_options", None)
        exchange: Exchange | None = None
        try:
            # `wire.completion` names an error inside a 200 before the complaint that this is no stream
            exchange = await self._endpoint.stream("/chat/completions", call, body, partial(wire.completion, self.name))
            async with aclosing(self._endpoint.events(exchange)) as events:
                async for data in events:
                    if data.strip() == b"[DONE]":
                        await self._endpoint.finish(exchange)
                        return
                    pair = wire.chunk(self.name, data)
                    if pair != (None, None):
                        yield pair
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise
        finally:
            if exchange is not None:
                exchange.close()

    def _body(self, call: Call) -> Json:
        body = adapted(call.body, newer_names=self._openai) if call.foreign else call.body
        if self._strip:
            body = wire.without_anthropic_fields(body)
        return {**body, "model": call.upstream_model}

    async def healthy(self) -> bool:
        """Whether GET /health, which self-hosted servers have, says 200 within a second."""
        return await self._endpoint.says_ok("/health")

    async def aclose(self) -> None:
        """See `ports.Provider.aclose`."""
        await self._endpoint.aclose()
