"""The embedded models as a provider: chat by the llama.cpp process, embeddings in this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from farthing.errors import InvalidRequest, UpstreamError, UpstreamMalformed, UpstreamUnavailable
from farthing.pipeline.json_schema import check_response, wrong_schema
from farthing.pipeline.stream import replay
from farthing.ports import Call, Embedder
from farthing.providers.openai_compatible import OpenAICompatible
from farthing.types import Completion, Json

_PAUSE_S = 0.1
_LOADING = 503
_ENGINE_FIELDS = ("timings", "__verbose", "prompt_progress")


class LocalModels:
    """See `ports.Provider`.

    While the chat process is being restarted, calls wait for it up to `restart_wait_s` seconds, unless they can go elsewhere.
    """

    name = "local"
    kind = "local"

    def __init__(self, chat: OpenAICompatible, embedder: Embedder, *, restart_wait_s: float) -> None:
        self._chat = chat
        self._embedder = embedder
        self._restart_wait_s = restart_wait_s

    @property
    def open_connections(self) -> int:
        """Sockets to the chat process."""
        return self._chat.open_connections

    async def healthy(self) -> bool:
        """Whether the chat process answers."""
        return await self._chat.healthy()

    async def chat(self, call: Call) -> Completion:
        """See `ports.Provider.chat`. An answer that breaks the JSON schema asked for is an error: the engine can ignore a schema."""
        _refuse_what_it_cannot(call.body)
        deadline = self._deadline(call)
        while True:
            try:
                completion = await self._chat.chat(call)
                break
            except UpstreamUnavailable as error:
                await _pause_if_restarting(error, deadline)
        completion.body = _ours(completion.body)
        _check_format(call.body.get("response_format"), completion.body)
        return completion

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        """See `ports.Provider.stream`. With a JSON format nothing goes out before the whole has been checked."""
        if _wants_json(call.body.get("response_format")):
            body = (await self.chat(call)).body
            for piece in replay(body):
                yield piece, None
            yield None, body.get("usage")
            return
        _refuse_what_it_cannot(call.body)
        deadline = self._deadline(call)
        begun = False
        while not begun:
            pairs = self._chat.stream(call)
            try:
                async for chunk, usage in pairs:
                    begun = True
                    yield _ours(chunk), usage
                begun = True
            except UpstreamUnavailable as error:
                if begun:
                    raise
                await _pause_if_restarting(error, deadline)
            finally:
                await pairs.aclose()

    def _deadline(self, call: Call) -> float:
        return asyncio.get_running_loop().time() + (self._restart_wait_s if call.last else 0.0)

    async def embed(self, call: Call) -> Completion:
        """See `ports.Provider.embed`."""
        texts = call.body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InvalidRequest("the local embedding model takes texts, not tokens", param="input")
        wanted = call.body.get("dimensions")
        if wanted not in {None, self._embedder.dimensions}:
            raise InvalidRequest(f"the local embedding model has {self._embedder.dimensions} dimensions", param="dimensions")
        vectors, tokens = await self._embedder.embed(texts)
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Completion(body={"object": "list", "data": data, "model": call.upstream_model, "usage": usage})

    async def aclose(self) -> None:
        """See `ports.Provider.aclose`."""
        await self._chat.aclose()
        await self._embedder.aclose()


async def _pause_if_restarting(error: UpstreamError, deadline: float) -> None:
    """Sleep a little when the process cannot be connected to yet, or still loads; else hand the error on."""
    restarting = isinstance(error.__cause__, OSError) or error.upstream_status == _LOADING
    if not restarting or asyncio.get_running_loop().time() >= deadline:
        raise error
    await asyncio.sleep(_PAUSE_S)


def _refuse_what_it_cannot(body: Json) -> None:
    """What the engine would silently ignore, or take for its own fault. Raises `InvalidRequest`."""
    if body.get("tool_choice") not in (None, "none", "auto"):
        raise InvalidRequest("the local model cannot be made to call tools", param="tool_choice")
    for message in body.get("messages") or ():
        parts = message.get("content")
        if isinstance(parts, list) and any(part.get("type") not in {"text", "refusal"} for part in parts):
            raise InvalidRequest("the local model reads text only", param="messages")
    asked = body.get("response_format")
    schema = (asked.get("json_schema") or {}).get("schema") if isinstance(asked, dict) else None
    wrong = wrong_schema(schema) if schema is not None else None
    if wrong:
        raise InvalidRequest(f"the JSON schema is wrong: {wrong}", param="response_format.json_schema.schema")


def _ours(body: Json | None) -> Any:
    """A body without the fields that only this engine has."""
    return body if body is None else {key: value for key, value in body.items() if key not in _ENGINE_FIELDS}


def _wants_json(response_format: Any) -> bool:
    return isinstance(response_format, dict) and response_format.get("type") in {"json_object", "json_schema"}


def _check_format(response_format: Any, body: Json) -> None:
    if not _wants_json(response_format):
        return
    for choice in body["choices"]:
        if choice.get("finish_reason") == "length" or choice["message"].get("tool_calls"):
            continue
        wrong = check_response(response_format, choice["message"].get("content") or "")
        if wrong:
            raise UpstreamMalformed(f"the local model's answer does not match the response_format: {wrong}")
