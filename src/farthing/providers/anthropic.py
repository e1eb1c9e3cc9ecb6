"""Anthropic's Messages API, and servers that speak it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from farthing.errors import InvalidRequest, UpstreamError
from farthing.ports import Call
from farthing.providers import anthropic_wire as wire
from farthing.providers.anthropic_request import messages_request
from farthing.providers.anthropic_stream import MessageReader
from farthing.providers.endpoint import Endpoint
from farthing.providers.http1 import Exchange
from farthing.settings import AnthropicSettings
from farthing.types import Completion, Json

_PATH = "/v1/messages"


class Anthropic:
    """A provider behind one base URL, which may end in `/v1`. See `ports.Provider`."""

    kind = "anthropic"

    def __init__(self, name: str, settings: AnthropicSettings) -> None:
        headers = {key.lower(): secret.get_secret_value() for key, secret in settings.headers.items()}
        headers.setdefault("anthropic-version", settings.version)
        if settings.api_key is not None and "authorization" not in headers:
            headers.setdefault("x-api-key", settings.api_key.get_secret_value())
        self.name = name
        self._max_tokens = settings.max_tokens
        self._endpoint = Endpoint(
            name,
            settings.base_url.removesuffix("/v1"),
            settings,
            headers=headers,
            secrets=(settings.api_key, *settings.headers.values()),
            error_of=wire.error_of,
        )

    @property
    def open_connections(self) -> int:
        """Sockets to Anthropic, in use or idle."""
        return self._endpoint.open_connections

    async def chat(self, call: Call) -> Completion:
        """See `ports.Provider.chat`."""
        body = messages_request(call.body, call.upstream_model, max_tokens=self._max_tokens)
        try:
            return Completion(body=wire.completion(self.name, await self._endpoint.whole(_PATH, call, body)))
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise

    async def embed(self, call: Call) -> Completion:
        """Refuses: Anthropic sells no embeddings."""
        raise InvalidRequest(f"{self.name} ({call.upstream_model}): Anthropic has no embeddings; ask another model", param="model")

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        """See `ports.Provider.stream`."""
        body: Json = {**messages_request(call.body, call.upstream_model, max_tokens=self._max_tokens), "stream": True}
        reader = MessageReader(self.name)
        exchange: Exchange | None = None
        try:
            exchange = await self._endpoint.stream(_PATH, call, body, partial(wire.completion, self.name))
            async with aclosing(self._endpoint.events(exchange)) as events:
                async for data in events:
                    for pair in reader.read(data):
                        yield pair
                    if reader.done:
                        await self._endpoint.finish(exchange)
                        return
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise
        finally:
            if exchange is not None:
                exchange.close()

    async def healthy(self) -> bool:
        """Whether the list of models, which costs nothing, is given out within a second."""
        return await self._endpoint.says_ok("/v1/models?limit=1")

    async def aclose(self) -> None:
        """See `ports.Provider.aclose`."""
        await self._endpoint.aclose()
