"""Anything that the `litellm` package can reach. The package is an extra (`pip install 'farthing[litellm]'`): see `load`.

Its retries, caches, logs and fallbacks are off: Farthing has its own. The sockets are the package's; `max_connections` bounds the calls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from farthing.errors import FarthingError, InvalidRequest, Overloaded, SettingsError, UpstreamError, UpstreamMalformed, UpstreamTimeout
from farthing.ports import Call
from farthing.providers import wire
from farthing.providers.litellm_errors import translated
from farthing.settings import LiteLLMSettings
from farthing.types import Completion, Json

_encode = msgspec.json.Encoder().encode
_HEALTH_S = 1.0
_OURS = frozenset({"messages", "model", "stream", "stream_options", "input"})
_HANDED_ON = frozenset(
    {
        "audio", "dimensions", "encoding_format", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
        "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store",
        "temperature", "thinking", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
    }
)  # fmt: skip
"""What a caller may say. Any other name could be one of LiteLLM's own switches, such as `api_base`, which would send our key elsewhere."""

_OFF: Json = {"num_retries": 0, "max_retries": 0, "caching": False, "no-log": True, "_skip_mcp_handler": True}
"""The last one: with tools it imports its own proxy's MCP server, which an installation without that extra does not have."""


def load(name: str, settings: LiteLLMSettings) -> LiteLLM:
    """The provider. Importing the package takes seconds. Raises `SettingsError` when it is not there."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it fetches a price list
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # else importing it reads a .env file
    try:
        import httpx  # noqa: PLC0415 - comes with it
        import litellm  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise SettingsError(
            f"providers.{name}: kind 'litellm' needs the litellm package ({error}): pip install 'farthing[litellm]'"
        ) from error
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.cache = None
    litellm.drop_params = False
    for logger in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # it logs what callers say
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize  # else it takes an answer that repeats itself for an error
    return LiteLLM(name, settings, litellm, httpx.Timeout)


class LiteLLM:
    """A provider by way of the `litellm` package, handed in as `library`; `waits` makes its time-outs. See `ports.Provider`."""

    kind = "litellm"

    def __init__(self, name: str, settings: LiteLLMSettings, library: Any, waits: Any) -> None:
        self.name = name
        self._waits = waits
        self._settings = settings
        self._library = library
        self._secrets = [settings.api_key.get_secret_value()] if settings.api_key else []
        self._room = asyncio.Semaphore(settings.max_connections)
        self._running = 0

    @property
    def open_connections(self) -> int:
        """Calls under way: the sockets are the package's."""
        return self._running

    async def chat(self, call: Call) -> Completion:
        """See `ports.Provider.chat`."""
        return Completion(body=wire.completion(self.name, await self._whole(self._library.acompletion, call)))

    async def embed(self, call: Call) -> Completion:
        """See `ports.Provider.embed`."""
        return Completion(body=wire.embeddings(self.name, await self._whole(self._library.aembedding, call)))

    async def _whole(self, ask: Any, call: Call) -> bytes:
        asked = self._asked(call, self._settings.first_token_timeout_s)
        async with self._slot():
            try:
                async with asyncio.timeout(self._settings.total_timeout_s):
                    response = await ask(**asked)
                data = _encode(_plain(response))
            except Exception as error:  # noqa: BLE001 - the package raises whatever its two hundred vendors' code does
                raise self._our(error) from None  # what it hides may quote our key
        if len(data) > self._settings.max_response_bytes:
            raise UpstreamMalformed(f"{self.name} sent more than {self._settings.max_response_bytes} bytes")
        return data

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        """See `ports.Provider.stream`."""
        settings = self._settings
        wait_s = max(settings.first_token_timeout_s, settings.idle_timeout_s)
        asked = {**self._asked(call, wait_s), "stream": True, "stream_options": {"include_usage": True}}
        until = asyncio.get_running_loop().time() + settings.total_timeout_s
        response: Any = None
        size, begun = 0, False
        async with self._slot():
            try:
                async with self._step(settings.first_token_timeout_s, until):
                    response = await self._library.acompletion(**asked)
                while (chunk := await self._next(response, until, first=not begun)) is not None:
                    data = _encode(chunk)
                    size += len(data)
                    if size > settings.max_response_bytes:
                        raise UpstreamMalformed(f"{self.name} sent more than {settings.max_response_bytes} bytes in one stream")
                    begun = begun or _says_something(chunk)
                    if not begun and chunk["choices"]:
                        raise UpstreamMalformed(f"{self.name} (by LiteLLM) sent a stream without an answer")
                    pair = wire.chunk(self.name, data)
                    if pair != (None, None):
                        yield pair
            except Exception as error:  # noqa: BLE001 - see `_whole`
                raise self._our(error) from None
            finally:
                if response is not None:
                    await response.aclose()

    async def _next(self, response: Any, until: float, *, first: bool) -> Json | None:
        """The next chunk that says something; None at the end."""
        settings = self._settings
        async with self._step(settings.first_token_timeout_s if first else settings.idle_timeout_s, until):
            async for chunk in response:
                found = _chunk(chunk)
                if found["choices"] or found.get("usage"):
                    return found
        return None

    def _asked(self, call: Call, wait_s: float) -> Json:
        """The call's keyword arguments. Raises `InvalidRequest` for a field that is not known to be harmless."""
        settings = self._settings
        body = {key: value for key, value in call.body.items() if value is not None and key in _HANDED_ON}
        for name, value in call.body.items():
            if name not in _HANDED_ON and name not in _OURS and value is not None:
                raise InvalidRequest(f"{name[:64]}: a model behind LiteLLM takes no such field", param=name[:64])
        for name in ("messages", "input"):
            if name in call.body:
                body[name] = call.body[name]
        asked: Json = {**body, **settings.options, "model": call.upstream_model}
        asked["timeout"] = self._waits(wait_s, connect=settings.connect_timeout_s)
        if settings.api_key is not None:
            asked["api_key"] = settings.api_key.get_secret_value()
        if settings.base_url is not None:
            asked["api_base"] = settings.base_url
        return {**asked, **_OFF}

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await self._room.acquire()
        except TimeoutError:
            raise Overloaded(f"all {self._settings.max_connections} calls to {self.name} are busy", retry_after_s=1.0) from None
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._room.release()

    @asynccontextmanager
    async def _step(self, seconds: float, until: float) -> AsyncIterator[None]:
        async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + seconds, until)):
            yield

    def _our(self, error: Exception) -> FarthingError:
        if isinstance(error, TimeoutError):
            found: FarthingError = UpstreamTimeout(f"{self.name} gave no complete answer in time")
        else:
            found = error if isinstance(error, FarthingError) else translated(self.name, error)
        if isinstance(found, UpstreamError):
            wire.mask(found, self._secrets)
        return found

    async def healthy(self) -> bool:
        """Whether `base_url` accepts connections; True where there is none to try."""
        url = urlsplit(self._settings.base_url or "")
        if not url.hostname:
            return True
        try:
            async with asyncio.timeout(_HEALTH_S):
                _, writer = await asyncio.open_connection(url.hostname, url.port or (443 if url.scheme == "https" else 80))
        except OSError:  # TimeoutError is one
            return False
        writer.close()
        return True

    async def aclose(self) -> None:
        """Close the package's clients, which all providers of this kind share."""
        await self._library.close_litellm_async_clients()


def _plain(response: Any) -> Json:
    """A response of LiteLLM's as JSON, without what it adds of its own."""
    body: Json = response.model_dump(exclude_none=True, warnings=False)
    for choice in body.get("choices", ()):
        if isinstance(choice, dict):
            choice.pop("provider_specific_fields", None)
            message = choice.get("message")
            if isinstance(message, dict):
                own = message.pop("provider_specific_fields", None) or {}
                if isinstance(own.get("refusal"), str):
                    message["refusal"] = own["refusal"]
    if isinstance(body.get("usage"), dict):
        body["usage"] = _usage(body["usage"])
    return body


def _chunk(chunk: Any) -> Json:
    """A chunk as OpenAI sends it: choices only where they say something, a tool call's id and name only in its first delta."""
    body: Json = chunk.model_dump(exclude_none=True, warnings=False)
    body.pop("provider_specific_fields", None)
    choices = []
    for choice in body.get("choices", ()):
        delta = choice.get("delta") or {}
        delta.pop("provider_specific_fields", None)
        for call in delta.get("tool_calls", ()):
            if "id" not in call:
                call.pop("type", None)
        if delta or choice.get("finish_reason"):
            choices.append({**choice, "delta": delta})
    body["choices"] = choices
    if isinstance(body.get("usage"), dict):
        body["usage"] = _usage(body["usage"])
    return body


def _usage(usage: Json) -> Json:
    """OpenAI's usage: `cost` is LiteLLM's guess, and it has a name of its own for what was written to a prompt cache."""
    found = {key: value for key, value in usage.items() if key != "cost"}
    details = found.get("prompt_tokens_details")
    if isinstance(details, dict) and "cache_creation_tokens" in details:
        found["prompt_tokens_details"] = {"cache_write_tokens": details["cache_creation_tokens"], **details}
    return found


def _says_something(chunk: Json) -> bool:
    """Whether a chunk is part of an answer: LiteLLM makes up an end for a stream that had nothing in it."""
    return any(choice["delta"] for choice in chunk["choices"])
