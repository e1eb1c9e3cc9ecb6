"""Amazon Bedrock: Converse, ConverseStream and embeddings, signed, over our own HTTP client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from urllib.parse import quote

from farthing.errors import UpstreamError, UpstreamRefusedUs, UpstreamUnavailable
from farthing.ports import Call, Signer
from farthing.providers import bedrock_embeddings as embeddings
from farthing.providers.aws_eventstream import EventStreamDecoder, Message
from farthing.providers.bedrock_answers import Pair, Reader, an_object, completion
from farthing.providers.bedrock_errors import CredentialsExpired, error_inside, error_of, said_in
from farthing.providers.bedrock_wire import converse
from farthing.providers.endpoint import Endpoint
from farthing.providers.http1 import Exchange
from farthing.settings import BedrockSettings
from farthing.types import Completion

_log = logging.getLogger("farthing.providers")
_STREAM = "application/vnd.amazon.eventstream"
_TELL_EVERY_S = 10.0
_EMBED_AT_ONCE = 8
"""Calls under way for one request: Titan wants a call for each text."""


class Bedrock:
    """One region of Amazon Bedrock. See `ports.Provider`.

    `upstream_model` is a model id, an inference profile (`us.…`, `global.…`) or an ARN. Without a `signer` the API key of the settings
    is sent.
    """

    kind = "bedrock"

    def __init__(self, name: str, settings: BedrockSettings, signer: Signer | None) -> None:
        self.name = name
        self._told_at = -_TELL_EVERY_S
        headers = {} if settings.api_key is None else {"authorization": f"Bearer {settings.api_key.get_secret_value()}"}
        self._endpoint = Endpoint(
            name,
            settings.base_url or endpoint_of(settings.region),
            settings,
            headers=headers,
            secrets=(settings.api_key, settings.secret_access_key, settings.session_token, settings.access_key_id),
            error_of=self._error_of,
            signer=signer,
            expired=_expired,
        )

    def _error_of(self, name: str, status: int, headers: Mapping[str, str], data: bytes) -> UpstreamError:
        """As the table says. Why we are refused is told to the operator, whom it helps, and not to the caller."""
        error = error_of(name, status, headers, data)
        now = time.monotonic()
        if isinstance(error, UpstreamRefusedUs) and now - self._told_at > _TELL_EVERY_S:
            self._told_at = now
            why = UpstreamError(said_in(data) or "no reason given")
            self._endpoint.mask(why)
            _log.warning("%s: %s AWS says: %s", name, error.message, why.message)
        return error

    @property
    def open_connections(self) -> int:
        """Sockets to Bedrock, in use or idle."""
        return self._endpoint.open_connections

    async def chat(self, call: Call) -> Completion:
        """See `ports.Provider.chat`."""
        body = converse(call.upstream_model, call.body)
        try:
            data = await self._endpoint.whole(_path(call, "converse"), call, body)
            return Completion(body=completion(self.name, call.upstream_model, data))
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise

    async def stream(self, call: Call) -> AsyncGenerator[Pair, None]:
        """See `ports.Provider.stream`."""
        body = converse(call.upstream_model, call.body)
        exchange: Exchange | None = None
        try:
            exchange = await self._endpoint.stream(_path(call, "converse-stream"), call, body, self._refuse, _STREAM)
            async with aclosing(self._pairs(exchange, Reader(self.name, call.upstream_model))) as pairs:
                async for pair in pairs:
                    yield pair
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise
        finally:
            if exchange is not None:
                exchange.close()

    def _refuse(self, data: bytes) -> None:
        an_object(self.name, data)

    async def _pairs(self, exchange: Exchange, reader: Reader) -> AsyncGenerator[Pair, None]:
        """Up to the metadata, which come last. An answer whose end came without them is whole all the same, but nobody counted it."""
        decoder = EventStreamDecoder(self.name)
        try:
            async with aclosing(self._endpoint.pieces(exchange)) as pieces:
                async for data in pieces:
                    for pair in self._read(decoder.feed(data), reader):
                        yield pair
                    if reader.complete:
                        await self._endpoint.finish(exchange)
                        break
        except UpstreamUnavailable:
            if not reader.ended or decoder.inside:
                raise
        reader.close()

    def _read(self, messages: Iterable[Message], reader: Reader) -> Iterable[Pair]:
        for message in messages:
            if message.headers.get(":message-type") in {"exception", "error"}:
                raise error_inside(self.name, message.headers, message.payload)
            yield from reader.read(message.headers.get(":event-type", ""), message.payload)

    async def embed(self, call: Call) -> Completion:
        """See `ports.Provider.embed`. The calls for the texts of one request share its fate: when one fails, the others are given up."""
        family = embeddings.family_of(call.upstream_model)
        texts = embeddings.texts_of(call.body)
        parts = [texts[at : at + family.batch] for at in range(0, len(texts), family.batch)]
        gate = asyncio.Semaphore(_EMBED_AT_ONCE)

        async def one(part: list[str]) -> tuple[list[list[float]], int | None]:
            async with gate:
                body = family.body(call.upstream_model, part, call.body)
                headers, data = await self._endpoint.answer(_path(call, "invoke"), call, body)
                return embeddings.read(self.name, family, len(part), headers, data)

        found = await self._together([asyncio.ensure_future(one(part)) for part in parts])
        counts = [count for _, count in found]
        tokens = None if None in counts else sum(count or 0 for count in counts)
        vectors = [vector for some, _ in found for vector in some]
        return Completion(body=embeddings.answer(call.upstream_model, vectors, tokens))

    async def _together(
        self, tasks: list[asyncio.Future[tuple[list[list[float]], int | None]]]
    ) -> list[tuple[list[list[float]], int | None]]:
        try:
            return await asyncio.gather(*tasks)
        except UpstreamError as error:
            self._endpoint.mask(error)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def healthy(self) -> bool:
        """Whether Bedrock's endpoint can be reached: it has no door that says how it is."""
        return await self._endpoint.speaks("/")

    async def aclose(self) -> None:
        """See `ports.Provider.aclose`."""
        await self._endpoint.aclose()


def endpoint_of(region: str) -> str:
    """Bedrock's address in a region (AWS General Reference, "Amazon Bedrock endpoints and quotas"; China is a partition of its own)."""
    return f"https://bedrock-runtime.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def model_id(model: str) -> str:
    """The model's id, or its inference profile's, as price lists have it: without the rest of an ARN."""
    return model.rpartition("/")[2] if model.startswith("arn:") else model


def _path(call: Call, operation: str) -> str:
    return f"/model/{quote(call.upstream_model, safe='')}/{operation}"


def _expired(error: UpstreamError) -> bool:
    return isinstance(error, CredentialsExpired)
