"""Streams as first-class things: fold one into a whole answer, tee one to an observer, replay a whole answer as one.

`fold(replay(x)) == x` for every answer x (a property test holds it), so that the cache may keep one canonical object whichever way the
answer was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from farthing.types import ChunkStream, Json

_PIECES = re.compile(r"\s*\S+\s*|\s+")
_MOST_TOOL_CALLS = 512
_SENT_IN_PIECES = frozenset({"role", "content", "tool_calls", "refusal"})
_CHUNK_ONLY = frozenset({"choices", "usage", "object"})


def has_content(chunk: Json) -> bool:
    """Whether a chunk commits the stream: it carries text, a tool call, a refusal or an end, not just the role."""
    for choice in chunk["choices"]:
        delta = choice["delta"]
        if choice.get("finish_reason") or any(value for key, value in delta.items() if key != "role"):
            return True
    return False


class Fold:
    """Builds the whole answer out of chunks.

    Text fields of a delta are joined, whatever their name (`content`, `refusal`, `reasoning_content`, …); tool calls are joined by index;
    log probabilities and other lists are appended; anything else, the last one holds.
    """

    def __init__(self) -> None:
        self._head: Json = {}
        self._choices: dict[int, Json] = {}

    def add(self, chunk: Json) -> None:
        """Take in the next chunk."""
        for key, value in chunk.items():
            if key not in _CHUNK_ONLY:
                self._head[key] = value
        for choice in chunk["choices"]:
            whole = self._choices.get(choice["index"])
            if whole is None:
                message = {"role": "assistant", "content": None, "refusal": None}
                whole = self._choices[choice["index"]] = {
                    "index": choice["index"],
                    "message": message,
                    "logprobs": None,
                    "finish_reason": None,
                }
            for key, value in choice.items():
                if key == "delta":
                    _join_delta(whole["message"], value)
                elif key == "message":
                    continue  # some servers repeat the whole message so far in each chunk
                elif key == "logprobs":
                    whole["logprobs"] = _joined(whole["logprobs"], value)
                elif value is not None or key not in whole:
                    whole[key] = value

    def text(self) -> str:
        """All that was generated so far, for estimates."""
        return "".join(_text_of(choice["message"]) for choice in self._choices.values())

    def body(self, usage: Json | None) -> Json:
        """The `chat.completion` object."""
        head = dict(self._head)
        return {
            "id": head.pop("id", ""),
            "object": "chat.completion",
            "created": head.pop("created", 0),
            **head,
            "choices": [self._choices[index] for index in sorted(self._choices)],
            "usage": usage,
        }


def _join_delta(message: Json, delta: Json) -> None:
    for key, value in delta.items():
        if key == "role":
            message["role"] = value or message["role"]
        elif key == "tool_calls":
            if value:
                _join_tool_calls(message.setdefault("tool_calls", []), value)
        elif value is not None or key not in message:
            message[key] = _joined(message.get(key), value)


def _join_tool_calls(calls: list[Json], deltas: Any) -> None:
    for delta in deltas if isinstance(deltas, list) else ():
        if not isinstance(delta, dict):
            continue
        index = delta.get("index")
        if not isinstance(index, int) or not 0 <= index < _MOST_TOOL_CALLS:
            index = max(len(calls) - 1, 0)
        while len(calls) <= index:
            calls.append({})
        call = calls[index]
        for key, value in delta.items():
            if key == "function" and isinstance(value, dict):
                function = call.get("function")
                if not isinstance(function, dict):
                    function = call["function"] = {"name": "", "arguments": ""}
                for name, part in value.items():
                    function[name] = _joined(function.get(name), part)
            elif key != "index" and (value is not None or key not in call):
                call[key] = value


def _joined(so_far: Any, value: Any) -> Any:
    if so_far is None or value is None:
        return so_far if value is None else value
    if isinstance(so_far, str) and isinstance(value, str):
        return so_far + value
    if isinstance(so_far, list) and isinstance(value, list):
        return so_far + value
    if isinstance(so_far, dict) and isinstance(value, dict):
        return {key: _joined(so_far.get(key), value.get(key)) for key in {**so_far, **value}}
    return value


def _text_of(message: Json) -> str:
    parts = [value for key, value in message.items() if key != "role" and isinstance(value, str)]
    for call in message.get("tool_calls") or []:
        function = call.get("function")
        if isinstance(function, dict):
            parts += [str(function.get("name") or ""), str(function.get("arguments") or "")]
    return "".join(parts)


def replay(body: Json) -> Iterator[Json]:
    """The chunks of a whole answer, as a live stream would send them: role, pieces of the text, tool calls, reason of the end."""
    head = {key: value for key, value in body.items() if key not in _CHUNK_ONLY}
    head = {"id": head.pop("id"), "object": "chat.completion.chunk", "created": head.pop("created"), **head}
    for choice in body["choices"]:
        extra = {key: value for key, value in choice.items() if key not in {"index", "message", "logprobs", "finish_reason"}}
        for delta, logprobs in _deltas(choice["message"], choice.get("logprobs")):
            one = {"index": choice["index"], "delta": delta, "logprobs": logprobs, "finish_reason": None}
            yield {**head, "choices": [one]}
        last = {"index": choice["index"], "delta": {}, "logprobs": None, "finish_reason": choice.get("finish_reason"), **extra}
        yield {**head, "choices": [last]}


def _deltas(message: Json, logprobs: Json | None) -> Iterator[tuple[Json, Json | None]]:
    content = message.get("content")
    others = {key: value for key, value in message.items() if key not in _SENT_IN_PIECES}
    first = {"role": message.get("role", "assistant"), "content": "" if isinstance(content, str) else content, "refusal": None}
    yield {**first, **others}, None
    if message.get("refusal") is not None:
        yield {"refusal": message["refusal"]}, None
    if isinstance(content, str):
        yield from _pieces(content, logprobs)
    elif logprobs is not None:
        yield {}, logprobs
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            yield {"tool_calls": [{**call, "index": index} if isinstance(call, dict) else call]}, None
            continue
        yield {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]}, None
        yield {"tool_calls": [{"index": index, "function": {"arguments": function.get("arguments", "")}}]}, None


def _pieces(content: str, logprobs: Json | None) -> Iterator[tuple[Json, Json | None]]:
    """Text by token where log probabilities name the tokens, else by word."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    texts = [str(token.get("token")) for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else []
    if logprobs and tokens and len(texts) == len(tokens) and "".join(texts) == content:
        for at, token in enumerate(tokens):
            others = dict.fromkeys(logprobs) if at else logprobs
            yield {"content": texts[at]}, {**others, "content": [token]}
        return
    for at, piece in enumerate(_PIECES.findall(content)):
        yield {"content": piece}, logprobs if at == 0 else None
    if not content and logprobs is not None:
        yield {}, logprobs


class Replayed:
    """A stream out of chunks that are there already."""

    def __init__(self, chunks: Iterator[Json]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> Replayed:
        return self

    async def __anext__(self) -> Json:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is behind it."""
        self._chunks = iter(())


class Tee:
    """A stream that shows each chunk to an observer on its way, and tells it how the stream ended.

    `ended(complete)` is called exactly once, also when the stream was never begun: True when it came to its end, False when it broke or
    was closed before.
    """

    def __init__(self, stream: ChunkStream, seen: Callable[[Json], None], ended: Callable[[bool], None]) -> None:
        self._stream = stream
        self._seen = seen
        self._ended: Callable[[bool], None] | None = ended

    def __aiter__(self) -> Tee:
        return self

    async def __anext__(self) -> Json:
        try:
            chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            self._end(complete=True)
            raise
        except BaseException:
            self._end(complete=False)
            raise
        self._seen(chunk)
        return chunk

    def _end(self, *, complete: bool) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(complete)

    async def aclose(self) -> None:
        """Close what is behind, then tell."""
        try:
            await self._stream.aclose()
        finally:
            self._end(complete=False)
